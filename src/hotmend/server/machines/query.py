"""Which machines a query means, and pages of them."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

import sqlalchemy as sa

from hotmend.server.machines.tables import findings, machines, reports, tags
from hotmend.server.problem import Problem
from hotmend.wire.api import Query
from hotmend.wire.report import Fixed

_EXACT: Final = {name: machines.c[name] for name in ("platform", "tier")} | {
    name: reports.c[name] for name in ("line", "enrollment", "release")
}
_COUNTS: Final = {name: reports.c[name] for name in ("waiting", "restarts_due", "alerts")}
_OLD: Final = (Fixed.ON_DISK.value, Fixed.NOWHERE.value)


def conditions(query: Query) -> list[sa.ColumnElement[bool]]:
    """Return what must hold of the joined rows of `store.listing`. Who has left is only found by `state`."""
    found = [machines.c.state == query.state if query.state is not None else machines.c.state != "left"]
    for name, column in _EXACT.items():
        if (value := getattr(query, name)) is not None:
            found.append(column == value)
    for name, column in _COUNTS.items():
        if (value := getattr(query, name)) is not None:
            some = sa.func.coalesce(column, 0) > 0
            found.append(some if value else ~some)
    if query.reboot_due is not None:
        due = sa.func.coalesce(reports.c.reboot_due, sa.false())
        found.append(due if query.reboot_due else ~due)
    if query.search:
        found.append(sa.func.lower(machines.c.name).contains(query.search.lower(), autoescape=True))
    found += [machines.c.id.in_(_tagged(name, value)) for name, value in query.tags.items()]
    if query.cve:
        old = sa.select(findings.c.machine_id).where(findings.c.cve == query.cve, findings.c.fixed.in_(_OLD))
        found.append(machines.c.id.in_(old))
    return found


def _tagged(name: str, value: str) -> sa.Select[Any]:
    tagged = sa.select(tags.c.machine_id).where(tags.c.name == name)
    return tagged.where(tags.c.value == value) if value else tagged


def ids(query: Query) -> sa.Select[Any]:
    """Return the query of the ids of the machines that are meant."""
    joined = machines.outerjoin(reports, reports.c.machine_id == machines.c.id)
    return sa.select(machines.c.id).select_from(joined).where(*conditions(query))


def count(query: Query) -> sa.Select[Any]:
    """Return the query of how many are meant."""
    joined = machines.outerjoin(reports, reports.c.machine_id == machines.c.id)
    return sa.select(sa.func.count()).select_from(joined).where(*conditions(query))


def cursor_of(name: str, identity: str) -> str:
    """Return the cursor of the page after this machine."""
    return base64.urlsafe_b64encode(f"{identity}{name}".encode()).decode().rstrip("=")


def after(cursor: str) -> sa.ColumnElement[bool]:
    """Return the condition of machines that come after a cursor, by name and id.

    Raises:
        Problem: it is none of ours.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    if len(text) < 33 or len(text) > 400:
        raise Problem(400, "cursor", "not a cursor of this list", "take `next` of the page before")
    return sa.tuple_(machines.c.name, machines.c.id) > sa.tuple_(sa.literal(text[32:]), sa.literal(text[:32]))
