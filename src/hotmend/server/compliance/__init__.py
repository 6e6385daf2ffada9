"""Compliance: where the fixes of vulnerabilities are, over the fleet."""
