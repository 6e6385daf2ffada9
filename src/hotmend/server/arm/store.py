"""SQL of long calls, and of machines by the names that Azure's tools use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.arm.tables import calls
from hotmend.server.machines import store
from hotmend.server.machines.tables import IS_OPEN, actions, machines, policies

_SWITCHES = ("enable", "disable")


def named(connection: Connection, name: str) -> list[RowMapping]:
    """Return the machines, at most two, that are here and have this id, or else this name whatever its case."""
    here = store.listing().where(machines.c.state != "left").limit(2)
    found = connection.execute(here.where(machines.c.id == name)).mappings().all()
    return list(found or connection.execute(here.where(sa.func.lower(machines.c.name) == name.lower())).mappings())


def under_way(connection: Connection, machine: str) -> bool:
    """Say whether an assessment or installation of a machine goes on."""
    open_ones = sa.select(actions.c.id).where(
        actions.c.machine_id == machine, IS_OPEN, actions.c.kind.in_(("assess", "install"))
    )
    return connection.execute(open_ones.limit(1)).first() is not None


def insert_call(connection: Connection, values: Mapping[str, Any]) -> None:
    """Write down that something was asked."""
    connection.execute(sa.insert(calls).values(values))


def call(connection: Connection, identity: str) -> RowMapping | None:
    """Return a long call."""
    return connection.execute(sa.select(calls).where(calls.c.id == identity)).mappings().one_or_none()


def last_switches(connection: Connection, machine: str) -> list[RowMapping]:
    """Return the last switch of a machine's feature that was asked for, then the ones before, newest first."""
    found = sa.select(calls).where(calls.c.machine_id == machine, calls.c.kind.in_(_SWITCHES))
    return list(connection.execute(found.order_by(calls.c.number.desc()).limit(20)).mappings())


def end_call(connection: Connection, identity: str, values: Mapping[str, Any]) -> None:
    """Keep how a switch ended; one that has ended stays as it is."""
    going_on = (calls.c.id == identity) & (calls.c.state == "InProgress")
    connection.execute(sa.update(calls).where(going_on).values(values))


def policy_hash(connection: Connection, name: str) -> str:
    """Return the hash of a policy; "": it was never signed."""
    return connection.execute(sa.select(policies.c.hash).where(policies.c.name == name)).scalar_one_or_none() or ""


def switched_off() -> sa.ColumnElement[bool]:
    """Return the condition of machines whose feature was switched off, and not on again since."""
    failed = (calls.c.kind == "enable") & (calls.c.state == "Failed")
    last = (
        sa.select(sa.func.max(calls.c.number)).where(calls.c.kind.in_(_SWITCHES), ~failed).group_by(calls.c.machine_id)
    )
    off = sa.select(calls.c.machine_id).where(calls.c.number.in_(last), calls.c.kind == "disable")
    return machines.c.id.in_(off)
