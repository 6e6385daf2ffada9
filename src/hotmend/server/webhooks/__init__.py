"""Webhooks: what happens to rollouts and windows, told to others."""
