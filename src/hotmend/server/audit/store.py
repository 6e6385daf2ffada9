"""Appending to the audit record, and reading it back whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.audit.tables import audit, audit_checks, audit_head

FIRST: Final = "0" * 64
"""What stands for the hash before the first row."""
_ROWS: Final = 1000
"""Read together."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verifying gave.

    Attributes:
        rows: that were read.
        head: hash of the last one.
        wrong: the first thing that is not as it was written; "" where all is.
    """

    rows: int
    head: str
    wrong: str


def append(
    connection: Connection, now: datetime, actor: str, action: str, subject: str, detail: Mapping[str, Any]
) -> None:
    """Append a row in the caller's transaction: what is done and its row are there together, or neither is."""
    taken = sa.update(audit_head).where(audit_head.c.id == 1).values(id=1)  # others wait here until this one is done
    if not connection.execute(taken).rowcount:
        connection.execute(sa.insert(audit_head).values(id=1, number=0, hash=FIRST))
    last = connection.execute(sa.select(audit_head.c.number, audit_head.c.hash)).one()
    text = msgspec.json.encode(detail, order="deterministic").decode()
    row = {
        "number": last.number + 1,
        "at": now,
        "actor": actor[:200],
        "action": action,
        "subject": subject[:200],
        "detail": text,
        "previous": last.hash,
    }
    row["hash"] = _hash(row)
    connection.execute(sa.insert(audit).values(row))
    connection.execute(sa.update(audit_head).values(number=row["number"], hash=row["hash"]))


def verify(connection: Connection, since: Verdict | None = None, go_on: Callable[[], None] = lambda: None) -> Verdict:
    """Read rows and say whether each follows from the one before, and the last is the last that was written.

    Args:
        connection: to read with; rows that are appended meanwhile are not wrong.
        since: what an earlier reading gave: only what follows is read. None: all.
        go_on: is called again and again; what it raises ends the reading.
    """
    number, previous = (0, FIRST) if since is None else (since.rows, since.head)
    before, at_head = _head(connection), previous
    query = sa.select(audit).where(audit.c.number > number).order_by(audit.c.number)
    with connection.execute(query, execution_options={"yield_per": _ROWS}) as rows:
        for row in rows.mappings():
            if number % _ROWS == 0:
                go_on()
            number += 1
            if row["number"] != number:
                return Verdict(number - 1, previous, f"row {number} is missing")
            if row["previous"] != previous or row["hash"] != _hash(row):
                return Verdict(number - 1, previous, f"row {number} is not as it was written")
            previous = row["hash"]
            if number == before[0]:
                at_head = previous
    if number < before[0] or (number == before[0] and at_head != before[1]) or number > _head(connection)[0]:
        return Verdict(number, previous, f"rows after {number} are missing")
    return Verdict(number, previous, "")


def hash_of(connection: Connection, number: int) -> str:
    """Return the hash of a row; "" where there is none."""
    return connection.scalar(sa.select(audit.c.hash).where(audit.c.number == number)) or ""


def kept(connection: Connection) -> Verdict | None:
    """Return what reading the record back gave last; None before the first time."""
    row = connection.execute(sa.select(audit_checks)).one_or_none()
    return None if row is None else Verdict(row.number, row.hash, row.wrong)


def checked_at(connection: Connection) -> datetime | None:
    """Return when the record was read back last."""
    return connection.scalar(sa.select(audit_checks.c.at))


def keep(connection: Connection, now: datetime, found: Verdict, *, over: bool = False) -> None:
    """Keep what reading gave. What was wrong stays so, with the last row that was right, unless it is `over`."""
    values: dict[str, Any] = {"at": now, "number": found.rows, "hash": found.head, "wrong": found.wrong[:500]}
    before = kept(connection)
    if before is None:
        connection.execute(sa.insert(audit_checks).values(id=1, **values))
        return
    if before.wrong and not over:
        values = {"at": now}
    elif found.wrong:
        values = {"at": now, "wrong": found.wrong[:500]}
    connection.execute(sa.update(audit_checks).values(values))


def _head(connection: Connection) -> tuple[int, str]:
    row = connection.execute(sa.select(audit_head.c.number, audit_head.c.hash)).one_or_none()
    return (0, FIRST) if row is None else (row.number, row.hash)


def page(
    connection: Connection, before: int | None, limit: int, subject: str = "", action: str = ""
) -> list[RowMapping]:
    """Return rows, newest first."""
    query = sa.select(audit).order_by(audit.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.number < before)
    if subject:
        query = query.where(audit.c.subject == subject)
    if action:
        query = query.where(audit.c.action == action)
    return list(connection.execute(query).mappings())


def _hash(row: Mapping[str, Any] | RowMapping) -> str:
    at = row["at"].astimezone(UTC).isoformat(timespec="microseconds")
    parts = [row["number"], at, row["actor"], row["action"], row["subject"], row["detail"], row["previous"]]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
