"""Bytes to images: what an ELF file holds, which functions it has, and what they refer to."""
