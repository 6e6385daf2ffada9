"""Rollouts: a release to many machines, ring after ring."""
