"""Tables as CSV files, for spreadsheets, that take nothing in them for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import date


def sheet(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table as CSV; None is an empty cell, moments and days are those of ISO 8601."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows([cell(_plain(value)) for value in row] for row in rows)
    return text.getvalue()


def cell(text: str) -> str:
    """Return a text for a CSV file that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _plain(value: object) -> str:
    return "" if value is None else value.isoformat() if isinstance(value, date) else str(value)
