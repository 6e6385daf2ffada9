"""Fields of forms that more than one page has."""

from __future__ import annotations


def tags_of(text: str) -> dict[str, str]:
    """Return the tags that a field has: NAME=VALUE, one a line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}


def cell(text: str) -> str:
    """Return a text for a CSV file that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
