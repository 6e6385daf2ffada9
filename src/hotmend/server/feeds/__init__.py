"""Calendar and releases for calendar programs and feed readers."""
