"""Compliance of the fleet in figures: now, day by day, and from publication to memory."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.compliance.rules import OLD
from hotmend.server.compliance.tables import counts, exposures
from hotmend.server.compliance.tables import days as day_table
from hotmend.server.machines import query
from hotmend.server.machines.tables import findings, machines, reports, tags
from hotmend.server.releases import store as releases
from hotmend.wire.api import Query
from hotmend.wire.compliance import Day, Group, Time, Vulnerability
from hotmend.wire.report import Fixed


def vulnerabilities(connection: Connection, asked: Query) -> list[Vulnerability]:
    """Return the vulnerabilities of the machines that are meant: open ones first, of these the oldest."""
    grouped = (
        sa.select(findings.c.cve, findings.c.fixed, sa.func.count(), sa.func.min(findings.c.since))
        .where(findings.c.cve != "", findings.c.machine_id.in_(query.ids(asked)))
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


GROUPS: Final = ("product", "package", "tag", "machine")


def groups(connection: Connection, by: str, asked: Query, limit: int | None = None) -> tuple[list[Group], int]:
    """Return findings of the machines that are meant, grouped, the most exposed first; and how many groups there are.

    Args:
        connection: of the database.
        by: one of `GROUPS`.
        asked: which machines.
        limit: so many groups at most; None: all.
    """
    name, source = _dimension(by)
    old = findings.c.fixed.in_(_OLD)
    machine = findings.c.machine_id
    exposed = sa.func.count(sa.case((old, machine)).distinct()).label("exposed")
    cves = sa.func.count(sa.case((old & (findings.c.cve != ""), findings.c.cve)).distinct()).label("cves")
    left = sa.func.sum(sa.case((old, 1), else_=0))
    query_ = (
        sa.select(
            *name,
            sa.func.count(machine.distinct()).label("machines"),
            exposed,
            cves,
            sa.func.count().over().label("total"),
            *(
                sa.func.sum(sa.case((findings.c.fixed == each.value, 1), else_=0)).label(each.name.lower())
                for each in Fixed
            ),
        )
        .select_from(source)
        .where(machine.in_(query.ids(asked)))
        .group_by(*name)
        .order_by(exposed.desc(), cves.desc(), left.desc(), *name)
        .limit(limit)
    )
    rows = connection.execute(query_).mappings().all()
    found = [
        Group(
            row["name"] if by != "tag" else f"{row['name']}={row['value']}",
            row["id"] if by == "machine" else "",
            row["machines"],
            row["exposed"],
            row["cves"],
            *(int(row[each.name.lower()]) for each in _ORDER),
        )
        for row in rows
    ]
    return found, rows[0]["total"] if rows else 0


_ORDER: Final = (Fixed.IN_MEMORY, Fixed.EVERYWHERE, Fixed.ON_DISK, Fixed.NOWHERE)
_OLD: Final = sorted(OLD)


def _dimension(by: str) -> tuple[list[sa.ColumnElement[Any]], sa.FromClause]:
    match by:
        case "product":
            return [reports.c.release.label("name")], findings.join(
                reports, reports.c.machine_id == findings.c.machine_id
            )
        case "package":
            return [findings.c.brings.label("name")], findings
        case "tag":
            return [tags.c.name, tags.c.value], findings.join(tags, tags.c.machine_id == findings.c.machine_id)
    return [machines.c.name, machines.c.id], findings.join(machines, machines.c.id == findings.c.machine_id)


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
    is_open = sa.case((exposures.c.closed_at.is_(None), exposures.c.machine_id))
    query_ = (
        sa.select(
            exposures.c.subject,
            sa.func.min(exposures.c.brings).label("brings"),
            sa.func.min(exposures.c.published_at).label("published_at"),
            sa.func.count(exposures.c.machine_id.distinct()).label("machines"),
            sa.func.count(is_open.distinct()).label("open"),
            sa.func.min(exposures.c.opened_at).label("first_seen"),
            sa.func.min(exposures.c.closed_at).label("first_closed"),
            sa.func.max(exposures.c.closed_at).label("last_closed"),
        )
        .where(exposures.c.machine_id.in_(query.ids(asked)))
        .group_by(exposures.c.subject)
    )
    known = releases.published(releases.all_releases(connection))
    found = [
        Time(
            row["subject"],
            row["published_at"] or known.get(row["subject"]) or known.get(row["brings"]),
            row["machines"],
            row["open"],
            row["first_seen"],
            row["first_closed"],
            row["last_closed"],
        )
        for row in connection.execute(query_).mappings()
    ]
    return sorted(found, key=lambda each: (not each.open, -(each.last_closed or each.first_seen).timestamp()))


def exposure_rows(connection: Connection, asked: Query) -> list[dict[str, Any]]:
    """Return each exposure of the machines that are meant, with the machine's name and when its fix was published."""
    query_ = (
        sa.select(exposures, machines.c.name)
        .join(machines, machines.c.id == exposures.c.machine_id)
        .where(exposures.c.machine_id.in_(query.ids(asked)))
        .order_by(machines.c.name, exposures.c.machine_id, exposures.c.opened_at, exposures.c.subject)
    )
    known = releases.published(releases.all_releases(connection))
    return [
        {
            "machine": row["machine_id"],
            "name": row["name"],
            "subject": row["subject"],
            "brings": row["brings"],
            "published_at": row["published_at"] or known.get(row["subject"]) or known.get(row["brings"]),
            "opened_at": row["opened_at"],
            "closed_at": row["closed_at"],
            "how": row["how"],
        }
        for row in connection.execute(query_).mappings()
    ]
