"""Tables as CSV files, for spreadsheets, that take nothing in them for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import islice
from typing import Final

_PART: Final = 1_000
"""Rows that are written at a time."""


def sheet(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table as CSV; None is an empty cell, moments and days are those of ISO 8601."""
    return "".join(sheet_parts(head, rows))


def sheet_parts(head: Sequence[str], rows: Iterable[Iterable[object]]) -> Iterator[str]:
    """Yield the same in parts, as the rows come."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    left = iter(rows)
    while some := list(islice(left, _PART)):
        writer.writerows([cell(_plain(value)) for value in row] for row in some)
        yield text.getvalue()
        text.seek(0)
        text.truncate()
    yield text.getvalue()


def cell(text: str) -> str:
    """Return a text for a CSV file that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _plain(value: object) -> str:
    return "" if value is None else value.isoformat() if isinstance(value, date) else str(value)
