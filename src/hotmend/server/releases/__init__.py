"""Releases and their calendar."""
