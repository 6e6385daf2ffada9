"""Dynamic scopes: queries under a name. Machines belong to one as long as they match."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from hotmend.server.audit.store import append
from hotmend.server.context import Context
from hotmend.server.database import new_id
from hotmend.server.figures.kept import read
from hotmend.server.identity.access import Principal
from hotmend.server.machines import query
from hotmend.server.machines.figures import SCOPES
from hotmend.server.machines.tables import scopes
from hotmend.server.maintenance import store as maintenance
from hotmend.server.paging import page
from hotmend.server.problem import Problem, conflict, not_found
from hotmend.server.rollouts import store as rollouts
from hotmend.wire.api import Query, Scope, ScopeWanted


def some(context: Context, cursor: str, limit: int) -> tuple[list[Scope], str]:
    """Return scopes by name, and the cursor of those behind them.

    Each has how many machines match; in a large fleet that is of some seconds ago.
    """
    counts = read(context, SCOPES).value
    with context.database.survey() as connection:
        rows, following = page(connection, sa.select(scopes), ((scopes.c.name, False),), cursor, limit)
        return [_scope(connection, row, counts.get(row["id"])) for row in rows], following


def add(context: Context, caller: Principal, wanted: ScopeWanted) -> Scope:
    """Save a query under a name.

    Raises:
        Problem: no name, or one that is taken.
    """
    if not 0 < len(wanted.name) <= 100:
        raise Problem(422, "name", "a name has 1 to 100 characters")
    now = context.clock()
    values = {"id": new_id(), "name": wanted.name, "query": asdict(wanted.query), "created_at": now}
    try:
        with context.database.write() as connection:
            connection.execute(sa.insert(scopes).values(values))
            append(connection, now, caller.name, "scope.add", wanted.name, asdict(wanted.query))
            return _scope(connection, values)
    except IntegrityError:
        raise conflict("name-taken", f"there is a scope {wanted.name} already") from None


def remove(context: Context, caller: Principal, name: str) -> None:
    """Forget a scope that nothing rests on. Machines stay as they are.

    Without it its machines would have another configuration, and one of the same name with another query would bring
    others into an assignment or a rollout that somebody has approved.

    Raises:
        Problem: there is none of this name, a configuration is assigned to it, or a rollout that has not ended is of
            its machines.
    """
    with context.database.write() as connection:
        # Locked: who assigns it or plans a rollout of it at the same moment has it, or finds it gone.
        if maintenance.scope(connection, name, lock=True) is None:
            raise not_found("scope")
        if name in maintenance.scopes_assigned(connection):
            raise conflict("assigned", "a configuration is assigned to it", "remove its assignments first")
        if name in rollouts.scopes_selected(connection):
            raise conflict("selected", "a rollout that has not ended is of its machines", "end the rollout first")
        connection.execute(sa.delete(scopes).where(scopes.c.name == name))
        append(connection, context.clock(), caller.name, "scope.remove", name, {})


def asked(connection: Connection, name: str) -> Query:
    """Return the query of a scope.

    Raises:
        Problem: there is none of this name.
    """
    found = connection.execute(sa.select(scopes.c.query).where(scopes.c.name == name)).scalar_one_or_none()
    if found is None:
        raise not_found("scope")
    return msgspec.convert(found, Query)


def _scope(connection: Connection, row: RowMapping | dict[str, Any], count: int | None = None) -> Scope:
    wanted = msgspec.convert(row["query"], Query)
    if count is None:
        count = connection.execute(query.count(wanted)).scalar_one()
    return Scope(row["id"], row["name"], wanted, count)
