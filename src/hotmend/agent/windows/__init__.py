"""A Windows machine of a fleet: it reports what the rules say of it, and does what is due by its update agent."""
