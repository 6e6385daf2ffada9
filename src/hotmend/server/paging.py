"""Cursors of pages."""

from __future__ import annotations

from hotmend.server.problem import Problem


def cursor_number(cursor: str) -> int | None:
    """Return the number that a cursor holds; None for the first page.

    Raises:
        Problem: it is none of ours.
    """
    if not cursor:
        return None
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise Problem(400, "cursor", "not a cursor of this list", "take `next` of the page before")
    return int(cursor)
