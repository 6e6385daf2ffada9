"""Machines as the planner sees them: which a selection means, and what else they take part in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.machines import query as machine_query
from hotmend.server.machines.policies import HOTPATCH_OFF
from hotmend.server.machines.tables import actions, contacts, machines, policies, reports, tags
from hotmend.server.maintenance.store import scope
from hotmend.server.rollouts.spec import Selection
from hotmend.server.rollouts.tables import members, rollouts
from hotmend.servicing.actions import State
from hotmend.servicing.rings import Member
from hotmend.servicing.rollouts import FINAL as ROLLOUT_FINAL

BAD: Final = [state.value for state in State if state.bad]
OPEN: Final = [state.value for state in State if not state.final]
_PAGE: Final = 500
_MANY: Final = 5_000
"""Of more machines all are read at once: asking for each by its id takes longer."""
_TAGS: Final = ("domain", "set", "pair")
"""Tags with a meaning: fault domain, set that is to stay available, and pair."""


def _selected(connection: Connection, selection: Selection) -> sa.Select[tuple[str]]:
    query = sa.select(machines.c.id).where(machines.c.state == "active", machines.c.policy != HOTPATCH_OFF)
    if selection.machines:
        query = query.where(machines.c.id.in_(selection.machines))
    for name, value in selection.tags.items():
        has = (tags.c.machine_id == machines.c.id) & (tags.c.name == name)
        query = query.where(sa.exists().where(has & (tags.c.value == value) if value else has))
    if selection.scope:
        asked = scope(connection, selection.scope)  # one that is gone has nobody
        query = query.where(sa.false() if asked is None else machines.c.id.in_(machine_query.ids(asked)))
    return query


def selected(connection: Connection, selection: Selection, *, not_in: str = "") -> list[Member]:
    """Return the machines of a selection; with `not_in` those alone that are not in that rollout."""
    query = _selected(connection, selection)
    if not_in:
        has = (members.c.rollout_id == not_in) & (members.c.machine_id == machines.c.id)
        query = query.where(~sa.exists().where(has))
    return members_of(connection, list(connection.scalars(query)))


def members_of(connection: Connection, ids: Sequence[str]) -> list[Member]:
    """Return machines with the tags that the rules look at, in the order given."""
    found: dict[str, dict[str, str]] = {each: {} for each in ids}
    if len(ids) > _MANY:
        for machine, name, value in connection.execute(sa.select(tags.c.machine_id, tags.c.name, tags.c.value)):
            if machine in found:
                found[machine][name] = value
        return [_member(machine, its) for machine, its in found.items()]
    for start in range(0, len(ids), _PAGE):
        some = ids[start : start + _PAGE]
        query = sa.select(tags.c.machine_id, tags.c.name, tags.c.value).where(tags.c.machine_id.in_(some))
        for machine, name, value in connection.execute(query):
            found[machine][name] = value
    return [_member(machine, its) for machine, its in found.items()]


def _member(machine: str, its: Mapping[str, str]) -> Member:
    names = frozenset(its) | {f"{name}={value}" for name, value in its.items()}
    return Member(machine, names, *(its.get(name, "") for name in _TAGS))


def set_sizes(connection: Connection) -> dict[str, int]:
    """Return how many machines each set has."""
    query = (
        sa.select(tags.c.value, sa.func.count())
        .join(machines, machines.c.id == tags.c.machine_id)
        .where(tags.c.name == "set", machines.c.state == "active")
        .group_by(tags.c.value)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def busy(connection: Connection, now: datetime) -> list[Member]:
    """Return machines that are being changed, and those where something went wrong in a rollout that is not over."""
    due = (actions.c.due_at <= now) & (
        actions.c.until.is_(None) | (actions.c.until > now) | actions.c.handed_at.is_not(None)
    )
    being_changed = actions.c.state.in_(OPEN) & due & (actions.c.kind != "assess")
    unended = rollouts.c.state.not_in([state.value for state in ROLLOUT_FINAL])
    query = (
        sa.select(actions.c.machine_id)
        .outerjoin(rollouts, rollouts.c.id == actions.c.rollout_id)
        .where(being_changed | (actions.c.state.in_(BAD) & unended))
        .distinct()
    )
    return members_of(connection, list(connection.scalars(query)))


def policy_contents(connection: Connection) -> dict[str, Any]:
    """Return the content of each policy by name."""
    return {row.name: row.content for row in connection.execute(sa.select(policies.c.name, policies.c.content))}


def machines_there(connection: Connection, ids: Sequence[str], seen_after: datetime) -> list[RowMapping]:
    """Return those of some machines that were heard of since a moment, with what windows rest on."""
    every = (
        sa.select(contacts.c.machine_id, machines.c.policy, sa.func.coalesce(reports.c.zone, "").label("zone"))
        .join(machines, machines.c.id == contacts.c.machine_id)
        .outerjoin(reports, reports.c.machine_id == contacts.c.machine_id)
        .where(contacts.c.seen_at >= seen_after)
    )
    if len(ids) > _MANY:
        meant = set(ids)
        return [row for row in connection.execute(every).mappings() if row["machine_id"] in meant]
    found: list[RowMapping] = []
    for start in range(0, len(ids), _PAGE):
        some = every.where(contacts.c.machine_id.in_(ids[start : start + _PAGE]))
        found += connection.execute(some).mappings()
    return found
