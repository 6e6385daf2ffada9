"""Tests of the servicing rules: no processes, no archive, fast."""
