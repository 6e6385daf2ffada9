"""Webhooks: what happens to rollouts, told to others."""
