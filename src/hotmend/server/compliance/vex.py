"""What the fleet's machines report of vulnerabilities, as statements of VEX: about a package on one machine each."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.reference.vex import Statement, Status
from hotmend.server.compliance import store
from hotmend.server.compliance.rules import OLD
from hotmend.server.machines.tables import contacts, findings, machines, reports
from hotmend.wire.api import Query
from hotmend.wire.report import Fixed

ROLE: Final = "what machines of a fleet reported of their memory"
_FAMILIES: Final = {"ubuntu": "ubuntu"}


def statements(connection: Connection, asked: Query, heard_since: datetime) -> Iterator[Statement]:
    """Yield what can be said of each vulnerability of each package on each machine that is meant, machine by machine.

    Machines are read some at a time: there may be more of it than is good to hold, or to sort.

    Args:
        connection: of the database.
        asked: which machines.
        heard_since: a machine that was not heard of since then says nothing about now.
    """
    columns = findings.c
    rows = (
        sa.select(
            columns.machine_id,
            columns.cve,
            columns.fixed,
            columns.comm,
            columns.pid,
            columns.image,
            columns.brings,
            columns.since,
            machines.c.name,
            contacts.c.seen_at,
            reports.c.release,
        )
        .join(machines, machines.c.id == columns.machine_id)
        .join(contacts, contacts.c.machine_id == columns.machine_id)
        .join(reports, reports.c.machine_id == columns.machine_id)
        .where(columns.cve != "", columns.brings != "")
        .order_by(machines.c.name, columns.machine_id, columns.cve, columns.brings, columns.number)
    )
    for names in store.some_machines(connection, asked):
        found = connection.execute(rows.where(columns.machine_id.in_(list(names)))).mappings()
        for _, same in groupby(found, key=lambda row: (row["machine_id"], row["cve"], row["brings"])):
            yield _statement(list(same), heard_since)


def _statement(rows: list[RowMapping], heard_since: datetime) -> Statement:
    first = rows[0]
    package, _, version = first["brings"].partition("=")
    places = {Fixed(row["fixed"]) for row in rows}
    status, sentence = _judged(rows, places)
    seen = first["seen_at"]
    if seen is None or seen < heard_since:
        status = Status.UNKNOWN
        sentence = (
            f"The machine was not heard of since {seen:%Y-%m-%d %H:%M} UTC. Before: {sentence}" if seen else sentence
        )
    on_disk = places <= {Fixed.EVERYWHERE, Fixed.ON_DISK}
    family = first["release"].split(" ")[0].lower()
    return Statement(
        first["cve"],
        package,
        version if on_disk else "",
        status,
        sentence,
        max(row["since"] for row in rows),
        f"urn:hotmend:machine:{first['machine_id']}",
        _FAMILIES.get(family, "debian"),
    )


def _judged(rows: list[RowMapping], places: set[Fixed]) -> tuple[Status, str]:
    """Return what the machine's report says; a library that is old on the disk is old in what starts anew."""
    name = rows[0]["name"]
    old = sorted({f"{row['comm']} ({row['pid']})" for row in rows if Fixed(row["fixed"]) in OLD and row["pid"]})
    if places & OLD:
        told = f"Restart or hot-patch what runs old code: {', '.join(old[:20])}." if old else "Install the update."
        return Status.AFFECTED, f"{name}: {told}"
    count = len({row["pid"] for row in rows})
    evidence = f"{name}: {count} processes have the fixed code, read from their memory"
    if Fixed.IN_MEMORY not in places:
        return Status.FIXED, f"{evidence}, and the disk has the new build."
    libraries = sorted({row["image"] for row in rows if ".so" in row["image"]})
    if libraries:
        return Status.AFFECTED, f"Install the update: {evidence}, programs that start anew do not ({libraries[0]})."
    return Status.NOT_AFFECTED, f"{evidence}; the disk has the old build: a restart brings it back."
