"""Applying hotpatches to running processes, taking them back, and reading what is applied from memory."""
