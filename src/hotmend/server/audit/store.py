"""Appending to the audit record, and reading it back whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.audit.tables import audit, audit_head

FIRST: Final = "0" * 64
"""What stands for the hash before the first row."""


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


def verify(connection: Connection) -> Verdict:
    """Read all rows and say whether each follows from the one before, and the last is the last that was written."""
    number, previous = 0, FIRST
    query = sa.select(audit).order_by(audit.c.number)
    with connection.execution_options(yield_per=1000).execute(query) as rows:
        for row in rows.mappings():
            number += 1
            if row["number"] != number:
                return Verdict(number - 1, previous, f"row {number} is missing")
            if row["previous"] != previous or row["hash"] != _hash(row):
                return Verdict(number - 1, previous, f"row {number} is not as it was written")
            previous = row["hash"]
    head = connection.execute(sa.select(audit_head.c.number, audit_head.c.hash)).one_or_none()
    if (head is None and number) or (head is not None and (head.number, head.hash) != (number, previous)):
        return Verdict(number, previous, f"rows after {number} are missing")
    return Verdict(number, previous, "")


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
