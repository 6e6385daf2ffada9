"""Debug information to types: what DWARF says about the layout of everything in an image."""
