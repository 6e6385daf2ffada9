"""Windows machines: what is found out about them, and done to them. Only `winapi` and `com` need Windows itself."""
