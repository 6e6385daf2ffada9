"""Kills and delays at every system call of a patcher, under a target that checks itself."""
