"""Maintenance: windows, freezes and what machines may do, and which machine has what."""
