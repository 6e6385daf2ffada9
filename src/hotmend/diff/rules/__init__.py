"""What makes two builds a hotpatch or a baseline: one subject a file, each a function from the map to findings."""
