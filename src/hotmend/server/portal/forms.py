"""Fields of forms that more than one page has."""

from __future__ import annotations


def tags_of(text: str) -> dict[str, str]:
    """Return the tags that a field has: NAME=VALUE, one a line."""
    parts = (line.partition("=") for line in lines_of(text))
    return {name.strip(): value.strip() for name, _, value in parts}


def lines_of(text: str) -> list[str]:
    """Return what a field has, one a line; empty lines are none."""
    return [line.strip() for line in text.splitlines() if line.strip()]
