"""Pages of lists, and their cursors."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.database import Moment
from hotmend.server.problem import Problem

_CURSOR_CHARACTERS_MAX: Final = 2000
Order = Sequence[tuple[sa.Column[Any], bool]]
"""Columns that a list is sorted by, each with whether it falls; together they tell all rows apart, none is null."""


def page(
    connection: Connection, query: sa.Select[Any], order: Order, cursor: str, limit: int
) -> tuple[list[RowMapping], str]:
    """Return some rows of a query, and the cursor of those behind them: "" at the end.

    A row that is added or removed meanwhile moves no other one from page to page.

    Args:
        connection: of the database.
        query: with the columns of `order` among its own, and no order yet.
        order: of the list.
        cursor: "" for the first page.
        limit: rows of a page.

    Raises:
        Problem: the cursor is none of this list.
    """
    if cursor:
        query = query.where(_behind(order, _values(order, cursor)))
    sorted_ = query.order_by(*(column.desc() if falls else column for column, falls in order)).limit(limit + 1)
    rows = list(connection.execute(sorted_).mappings())
    if len(rows) <= limit:
        return rows, ""
    last = [rows[limit - 1][column] for column, _ in order]
    return rows[:limit], base64.urlsafe_b64encode(msgspec.json.encode(last)).decode().rstrip("=")


def _behind(order: Order, values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Return the condition of rows that come later: the first columns are the same, and the next one is further."""
    cases = []
    for index, (column, falls) in enumerate(order):
        further = column < values[index] if falls else column > values[index]
        cases.append(sa.and_(*(order[each][0] == values[each] for each in range(index)), further))
    return sa.or_(*cases)


def _values(order: Order, cursor: str) -> list[Any]:
    try:
        if len(cursor) > _CURSOR_CHARACTERS_MAX:
            raise ValueError
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        given = msgspec.json.decode(data, type=list[str | int])
        if len(given) != len(order):
            raise ValueError
        return [_value(column, each) for (column, _), each in zip(order, given, strict=True)]
    except (binascii.Error, msgspec.DecodeError, UnicodeError, ValueError):
        raise _no_cursor() from None


def _value(column: sa.Column[Any], given: str | int) -> Any:
    """Return what a cursor has for a column.

    Raises:
        ValueError: that is no value of this column.
    """
    if isinstance(column.type, Moment):
        moment = datetime.fromisoformat(str(given))
        if moment.tzinfo is None:
            raise ValueError
        return moment
    text = isinstance(column.type, sa.String)
    if isinstance(given, str) is not text or (text and "\0" in str(given)) or (not text and abs(int(given)) >> 31):
        raise ValueError
    return given


def cursor_number(cursor: str) -> int | None:
    """Return the number that a cursor holds; None for the first page.

    Raises:
        Problem: it is none of ours.
    """
    if not cursor:
        return None
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise _no_cursor()
    return int(cursor)


def _no_cursor() -> Problem:
    return Problem(400, "cursor", "not a cursor of this list", "take `next` of the page before")
