"""Where fixes are, by what belongs together: product, package, tag or machine.

Machines bring what was counted when their reports came, and are not counted anew from their findings; vulnerabilities
are told apart in the database before they are counted, which spares it sorting all rows for each count.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.compliance.rules import OLD
from hotmend.server.machines import query
from hotmend.server.machines.tables import PLACES, findings, machines, reports, tags
from hotmend.wire.api import Query
from hotmend.wire.compliance import Group
from hotmend.wire.report import Fixed

GROUPS: Final = ("product", "package", "tag", "machine")
EVERYBODY: Final = Query()
_ORDER: Final = tuple(each.name.lower() for each in (Fixed.IN_MEMORY, Fixed.EVERYWHERE, Fixed.ON_DISK, Fixed.NOWHERE))
_IS_OPEN: Final = findings.c.fixed.in_(sorted(OLD)) & (findings.c.cve != "")


def meant(machine: sa.ColumnElement[str], asked: Query) -> sa.ColumnElement[bool]:
    """Return the condition of rows of the machines that are meant; of all: that they are not of those few that left."""
    if asked == EVERYBODY:
        return machine.not_in(sa.select(machines.c.id).where(machines.c.state == "left"))
    return machine.in_(query.ids(asked))


def groups(connection: Connection, by: str, asked: Query, limit: int | None = None) -> tuple[list[Group], int]:
    """Return findings of the machines that are meant, grouped, the most exposed first; and how many groups there are.

    Args:
        connection: of the database.
        by: one of `GROUPS`.
        asked: which machines.
        limit: so many groups at most; None: all.
    """
    found, names = _of_packages(asked) if by == "package" else _of_machines(by, asked)
    left = found.c.on_disk + found.c.nowhere
    ordered = (
        sa.select(found, sa.func.count().over().label("total"))
        .order_by(found.c.exposed.desc(), found.c.cves.desc(), left.desc(), *(found.c[each] for each in names))
        .limit(limit)
    )
    rows = connection.execute(ordered).mappings().all()
    shown = [
        Group(
            f"{row['name']}={row['value']}" if by == "tag" else row["name"],
            row["id"] if by == "machine" else "",
            row["machines"],
            int(row["exposed"]),
            int(row["cves"]),
            *(int(row[each]) for each in _ORDER),
        )
        for row in rows
    ]
    return shown, rows[0]["total"] if rows else 0


def _of_machines(by: str, asked: Query) -> tuple[sa.Subquery, list[str]]:
    """Return the query of groups to which whole machines belong, and the names of the columns that tell them apart."""
    own, source = _dimension(by)
    counted = sa.select(*own, *_counts(reports.c)).select_from(source)
    some = sa.or_(*(reports.c[each] > 0 for each in PLACES))
    counted = counted.where(meant(reports.c.machine_id, asked), some).group_by(*own)
    names = [each.name for each in own]
    if by == "machine":  # it alone: there is nothing to tell apart
        return counted.add_columns(sa.func.sum(reports.c.cves).label("cves")).subquery(), names
    open_ = sa.select(*own, findings.c.cve).select_from(source.join(findings, findings.c.machine_id == _MACHINE[by]))
    return _with_cves(counted, open_.where(meant(findings.c.machine_id, asked)), names), names


def _of_packages(asked: Query) -> tuple[sa.Subquery, list[str]]:
    own = findings.c.brings.label("name")
    places = {each.name.lower(): sa.case((findings.c.fixed == each.value, 1), else_=0) for each in Fixed}
    of_machines = (
        sa.select(own, *(sa.func.sum(one).label(name) for name, one in places.items()))
        .where(meant(findings.c.machine_id, asked))
        .group_by(findings.c.brings, findings.c.machine_id)
        .subquery()
    )
    counted = sa.select(of_machines.c.name, *_counts(of_machines.c)).group_by(of_machines.c.name)
    open_ = sa.select(own, findings.c.cve).where(meant(findings.c.machine_id, asked))
    return _with_cves(counted, open_, ["name"]), ["name"]


def _with_cves(counted: sa.Select[Any], open_: sa.Select[Any], names: list[str]) -> sa.Subquery:
    """Return the query of groups with how many vulnerabilities are open in each."""
    groups_ = counted.subquery()
    told_apart = open_.where(_IS_OPEN).distinct().subquery()
    own = [told_apart.c[each] for each in names]
    cves = sa.select(*own, sa.func.count().label("cves")).group_by(*own).subquery()
    same = sa.and_(*(groups_.c[each] == cves.c[each] for each in names))
    number = sa.func.coalesce(cves.c.cves, 0).label("cves")
    return sa.select(groups_, number).select_from(groups_.outerjoin(cves, same)).subquery()


def _counts(counted: Any) -> list[sa.Label[Any]]:
    old = counted.on_disk + counted.nowhere
    exposed = sa.func.sum(sa.case((old > 0, 1), else_=0)).label("exposed")
    return [sa.func.count().label("machines"), exposed, *(sa.func.sum(counted[each]).label(each) for each in PLACES)]


_MACHINE: Final = {"product": reports.c.machine_id, "tag": tags.c.machine_id}


def _dimension(by: str) -> tuple[list[sa.ColumnElement[Any]], sa.FromClause]:
    if by == "product":
        return [reports.c.release.label("name")], reports
    if by == "tag":
        return [tags.c.name, tags.c.value], reports.join(tags, tags.c.machine_id == reports.c.machine_id)
    return [machines.c.name, machines.c.id], reports.join(machines, machines.c.id == reports.c.machine_id)
