"""The hotpatch file: a Hotpatch as an ELF file, and the bundle that holds one update's files."""
