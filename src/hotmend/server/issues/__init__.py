"""Known issues, for the fleet."""
