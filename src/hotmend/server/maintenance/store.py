"""SQL of maintenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.machines import query
from hotmend.server.machines.tables import machines, policies, scopes, tags
from hotmend.server.maintenance.tables import assignments, configurations, freezes, slots
from hotmend.server.paging import page
from hotmend.wire.api import Query


def configuration(connection: Connection, name: str, *, lock: bool = False) -> RowMapping | None:
    """Return a configuration."""
    found = sa.select(configurations).where(configurations.c.name == name)
    return connection.execute(found.with_for_update() if lock else found).mappings().one_or_none()


def configuration_rows(connection: Connection) -> list[RowMapping]:
    """Return all configurations by name."""
    return list(connection.execute(sa.select(configurations).order_by(configurations.c.name)).mappings())


def configuration_page(connection: Connection, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return configurations by name, and the cursor of those behind them."""
    return page(connection, sa.select(configurations), ((configurations.c.name, False),), cursor, limit)


def machine_counts(connection: Connection) -> dict[str, int]:
    """Return how many machines have which policy."""
    found = sa.select(machines.c.policy, sa.func.count()).where(machines.c.state != "left").group_by(machines.c.policy)
    return {row[0]: row[1] for row in connection.execute(found)}


def put_configuration(connection: Connection, name: str, values: Mapping[str, Any], *, new: bool) -> None:
    """Insert or change a configuration."""
    if new:
        connection.execute(sa.insert(configurations).values(name=name, **values))
        return
    changed = {**values, "version": configurations.c.version + 1}
    connection.execute(sa.update(configurations).where(configurations.c.name == name).values(changed))


def delete_configuration(connection: Connection, name: str) -> None:
    """Remove a configuration and the policy made of it."""
    connection.execute(sa.delete(configurations).where(configurations.c.name == name))
    connection.execute(sa.delete(policies).where(policies.c.name == name))


def freeze_rows(connection: Connection) -> list[RowMapping]:
    """Return the freezes for everybody by name."""
    return list(connection.execute(sa.select(freezes).order_by(freezes.c.name)).mappings())


def freeze_page(connection: Connection, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return the freezes for everybody by name, and the cursor of those behind them."""
    return page(connection, sa.select(freezes), ((freezes.c.name, False),), cursor, limit)


def put_freeze(connection: Connection, name: str, values: Mapping[str, Any]) -> None:
    """Insert or change a freeze."""
    if not connection.execute(sa.update(freezes).where(freezes.c.name == name).values(values)).rowcount:
        connection.execute(sa.insert(freezes).values(name=name, **values))


def delete_freeze(connection: Connection, name: str) -> bool:
    """Remove a freeze; False: there is none."""
    return bool(connection.execute(sa.delete(freezes).where(freezes.c.name == name)).rowcount)


def assignment_rows(connection: Connection, configuration: str = "") -> list[RowMapping]:
    """Return assignments, the one that counts first."""
    found = sa.select(assignments).order_by(assignments.c.priority.desc())
    if configuration:
        found = found.where(assignments.c.configuration == configuration)
    return list(connection.execute(found).mappings())


def assignment_page(connection: Connection, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return assignments, the one that counts first, and the cursor of those behind them."""
    return page(connection, sa.select(assignments), ((assignments.c.priority, True),), cursor, limit)


def assignment(connection: Connection, identity: str) -> RowMapping:
    """Return an assignment that is there."""
    return connection.execute(sa.select(assignments).where(assignments.c.id == identity)).mappings().one()


def scopes_assigned(connection: Connection) -> set[str]:
    """Return the names of the scopes that a configuration is assigned to."""
    found = sa.select(assignments.c.scope).where(assignments.c.scope.is_not(None)).distinct()
    return {str(each) for each in connection.scalars(found)}


def insert_assignment(connection: Connection, values: Mapping[str, Any]) -> None:
    """Insert an assignment."""
    connection.execute(sa.insert(assignments).values(values))


def delete_assignment(connection: Connection, identity: str) -> str | None:
    """Remove an assignment; return the configuration that it gave, None where there is none."""
    query = sa.delete(assignments).where(assignments.c.id == identity).returning(assignments.c.configuration)
    return connection.execute(query).scalar_one_or_none()


def delete_slot(connection: Connection, machine: str) -> bool:
    """Free the slot of a machine; False: it has none."""
    return bool(connection.execute(sa.delete(slots).where(slots.c.machine_id == machine)).rowcount)


def scope(connection: Connection, name: str, *, lock: bool = False) -> Query | None:
    """Return the query of a scope; None: there is none. Locked, it stays until the transaction ends."""
    query = sa.select(scopes.c.query).where(scopes.c.name == name)
    found = connection.scalar(query.with_for_update() if lock else query)
    return None if found is None else msgspec.convert(found, Query)


def fits(connection: Connection, row: Mapping[str, Any] | RowMapping) -> sa.ColumnElement[bool]:
    """Return the condition of machines that an assignment fits; a scope that is gone fits nobody."""
    if row["machine_id"] is not None:
        return machines.c.id.in_([row["machine_id"]])
    if row["scope"] is not None:
        asked = scope(connection, row["scope"])
        return sa.false() if asked is None else machines.c.id.in_(query.ids(asked))
    tagged = sa.select(tags.c.machine_id).where(tags.c.name == row["tag_name"])
    return machines.c.id.in_(tagged.where(tags.c.value == row["tag_value"]) if row["tag_value"] else tagged)


def assign(connection: Connection, policy: str, fit: sa.ColumnElement[bool]) -> int:
    """Give machines a policy that have another; return how many."""
    which = fit & (machines.c.policy != policy) & (machines.c.state != "left")
    return connection.execute(sa.update(machines).where(which).values(policy=policy)).rowcount
