"""Compiled pairs with one known change each: what must be refused is refused, what is harmless goes through."""
