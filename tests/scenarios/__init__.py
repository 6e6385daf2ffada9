"""Scenarios: a program in two builds, patched while it runs. One folder each; see `test_scenarios.py`."""
