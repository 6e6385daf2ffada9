"""Rows of exposures: what each report changes, written in the transaction that keeps the report."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.compliance.rules import changes
from hotmend.server.compliance.tables import exposures
from hotmend.servicing.avoided import Exposure
from hotmend.wire.report import Finding


def follow(connection: Connection, identity: str, findings: Iterable[Finding], now: datetime) -> None:
    """Write what a machine's report changes."""
    own = exposures.c.machine_id == identity
    before: dict[str, bool] = {}
    for name, closed in connection.execute(sa.select(exposures.c.subject, exposures.c.closed_at).where(own)):
        before[name] = before.get(name, False) or closed is None
    found = changes(before, findings)
    for name, how in found.closed.items():
        which = own & (exposures.c.subject == name) & exposures.c.closed_at.is_(None)
        connection.execute(sa.update(exposures).where(which).values(closed_at=now, how=how.value))
    rows = [
        {
            "machine_id": identity,
            "subject": each.name,
            "brings": each.brings,
            "opened_at": now,
            "closed_at": None,
            "how": "",
        }
        for each in found.opened
    ]
    rows += [
        {
            "machine_id": identity,
            "subject": each.name,
            "brings": each.brings,
            "opened_at": now,
            "closed_at": now,
            "how": how.value,
        }
        for each, how in found.came_closed.items()
    ]
    if rows:
        connection.execute(sa.insert(exposures), rows)


def installed(connection: Connection, identity: str, found: Iterable[Exposure]) -> None:
    """Write what the update history of a machine without an agent says: from publication to installation, by days."""
    own = exposures.c.machine_id == identity
    known = set(connection.scalars(sa.select(exposures.c.subject).where(own)))
    rows = [
        {
            "machine_id": identity,
            "subject": each.id,
            "brings": each.id,
            "opened_at": datetime.combine(each.published, time(), UTC),
            "published_at": datetime.combine(each.published, time(), UTC),
            "closed_at": datetime.combine(each.installed, time(), UTC),
            "how": "installed",
        }
        for each in found
        if each.id not in known
    ]
    if rows:
        connection.execute(sa.insert(exposures), rows)
