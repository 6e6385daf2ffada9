"""Two images to a hotpatch: what changed, where everything went, and whether that is safe."""
