"""Compliance of the fleet in figures: now, day by day, and from publication to memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.compliance.grouping import meant
from hotmend.server.compliance.tables import counts, exposures
from hotmend.server.compliance.tables import days as day_table
from hotmend.server.machines import query
from hotmend.server.machines.tables import findings, machines
from hotmend.server.releases import store as releases
from hotmend.wire.api import Query
from hotmend.wire.compliance import Day, Time, Vulnerability
from hotmend.wire.report import Fixed

_MACHINES: Final = 500
"""Read at a time, of those whose exposures are given one by one."""


def vulnerabilities(connection: Connection, asked: Query) -> list[Vulnerability]:
    """Return the vulnerabilities of the machines that are meant: open ones first, of these the oldest."""
    grouped = (
        sa.select(findings.c.cve, findings.c.fixed, sa.func.count(), sa.func.min(findings.c.since))
        .where(findings.c.cve != "", meant(findings.c.machine_id, asked))
        .group_by(findings.c.cve, findings.c.fixed)
    )
    numbers: dict[str, dict[str, int]] = {}
    since: dict[str, datetime] = {}
    for cve, fixed, number, first in connection.execute(grouped):
        numbers.setdefault(cve, dict.fromkeys(Fixed, 0))[fixed] = number
        since[cve] = min(first, since.get(cve, first))
    found = [
        Vulnerability(cve, by[Fixed.IN_MEMORY], by[Fixed.EVERYWHERE], by[Fixed.ON_DISK], by[Fixed.NOWHERE], since[cve])
        for cve, by in numbers.items()
    ]
    return sorted(found, key=lambda each: (not each.open, each.since, each.cve))


def days(connection: Connection, since: date) -> list[Day]:
    """Return the days that were written down, oldest first."""
    old = counts.c.on_disk + counts.c.nowhere
    query_ = (
        sa.select(
            day_table,
            sa.func.coalesce(sa.func.sum(sa.case(((old > 0) & (counts.c.cve != ""), 1), else_=0)), 0).label("open"),
            sa.func.coalesce(sa.func.sum(old), 0).label("old"),
            sa.func.coalesce(sa.func.sum(counts.c.in_memory + counts.c.everywhere), 0).label("fixed"),
        )
        .outerjoin(counts, counts.c.day == day_table.c.day)
        .where(day_table.c.day >= since)
        .group_by(*day_table.c)
        .order_by(day_table.c.day)
    )
    return [
        Day(
            row["day"],
            row["at"],
            row["machines"],
            row["silent"],
            row["exposed"],
            int(row["open"]),
            int(row["old"]),
            int(row["fixed"]),
        )
        for row in connection.execute(query_).mappings()
    ]


def times(connection: Connection, asked: Query) -> list[Time]:
    """Return how long the machines that are meant were exposed to what: open first, then what was open last."""
    each = (
        sa.select(
            exposures.c.subject,
            sa.func.min(exposures.c.brings).label("brings"),
            sa.func.min(exposures.c.published_at).label("published_at"),
            sa.func.max(sa.case((exposures.c.closed_at.is_(None), 1), else_=0)).label("open"),
            sa.func.min(exposures.c.opened_at).label("first_seen"),
            sa.func.min(exposures.c.closed_at).label("first_closed"),
            sa.func.max(exposures.c.closed_at).label("last_closed"),
        )
        .where(meant(exposures.c.machine_id, asked))
        .group_by(exposures.c.subject, exposures.c.machine_id)
        .subquery()
    ).c
    query_ = sa.select(
        each.subject,
        sa.func.min(each.brings).label("brings"),
        sa.func.min(each.published_at).label("published_at"),
        sa.func.count().label("machines"),
        sa.func.sum(each.open).label("open"),
        sa.func.min(each.first_seen).label("first_seen"),
        sa.func.min(each.first_closed).label("first_closed"),
        sa.func.max(each.last_closed).label("last_closed"),
    ).group_by(each.subject)
    known = releases.published(releases.all_releases(connection))
    found = [
        Time(
            row["subject"],
            row["published_at"] or known.get(row["subject"]) or known.get(row["brings"]),
            row["machines"],
            int(row["open"]),
            row["first_seen"],
            row["first_closed"],
            row["last_closed"],
        )
        for row in connection.execute(query_).mappings()
    ]
    return sorted(found, key=lambda each: (not each.open, -(each.last_closed or each.first_seen).timestamp()))


def exposure_rows(connection: Connection, asked: Query) -> Iterator[dict[str, Any]]:
    """Yield each exposure of the machines that are meant, with the machine's name and when its fix was published.

    Machines are read some at a time, by name: there may be more exposures than is good to hold, or to sort.
    """
    known = releases.published(releases.all_releases(connection))
    for names in some_machines(connection, asked):
        rows = sa.select(exposures).where(exposures.c.machine_id.in_(list(names)))
        by_machine: dict[str, list[RowMapping]] = {}
        for row in connection.execute(rows.order_by(exposures.c.opened_at, exposures.c.subject)).mappings():
            by_machine.setdefault(row["machine_id"], []).append(row)
        for identity, name in names.items():
            for row in by_machine.get(identity, ()):
                published = row["published_at"] or known.get(row["subject"]) or known.get(row["brings"])
                yield _exposure(row, name, published)


def some_machines(connection: Connection, asked: Query) -> Iterator[dict[str, str]]:
    """Yield the names by id of the machines that are meant, some at a time, sorted by name."""
    listed = query.ids(asked).add_columns(machines.c.name).order_by(machines.c.name, machines.c.id).limit(_MACHINES)
    some = connection.execute(listed).all()
    while some:
        yield {row.id: row.name for row in some}
        last = sa.tuple_(sa.literal(some[-1].name), sa.literal(some[-1].id))
        some = connection.execute(listed.where(sa.tuple_(machines.c.name, machines.c.id) > last)).all()


def _exposure(row: RowMapping, name: str, published: datetime | None) -> dict[str, Any]:
    return {
        "machine": row["machine_id"],
        "name": name,
        "subject": row["subject"],
        "brings": row["brings"],
        "published_at": published,
        "opened_at": row["opened_at"],
        "closed_at": row["closed_at"],
        "how": row["how"],
    }
