"""A survey: every package that differs between two suites, compared as `build` would, on one machine or many."""
