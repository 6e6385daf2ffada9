"""Measurements from real runs on stock packages: `python -m bench` (or `make bench`)."""
