"""What is counted, each by one query."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.machines.fleet import blind, unseen
from hotmend.server.machines.tables import IS_OPEN, actions, brake, machines
from hotmend.server.rollouts.tables import gates, rollouts
from hotmend.servicing.rollouts import ASKING, State
from hotmend.servicing.rollouts import FINAL as ROLLOUT_FINAL

_NOT_STEERED = [state.value for state in (State.CREATING, State.WAITING_FOR_APPROVAL, State.READY, *ROLLOUT_FINAL)]


def machines_by_state(connection: Connection) -> dict[str, int]:
    """Return how many machines are in which state."""
    found = sa.select(machines.c.state, sa.func.count()).group_by(machines.c.state)
    return {row[0]: row[1] for row in connection.execute(found)}


def machines_silent(connection: Connection, seen_after: datetime) -> int:
    """Return how many active machines that have an agent were not heard of since a moment."""
    return int(connection.scalar(sa.select(sa.func.count()).select_from(machines).where(unseen(seen_after))) or 0)


def machines_blind(connection: Connection, seen_after: datetime, now: datetime) -> int:
    """Return how many active machines were heard of since a moment, and are not looked at by their agent."""
    return int(connection.scalar(sa.select(sa.func.count()).select_from(machines).where(blind(seen_after, now))) or 0)


def rollouts_by_state(connection: Connection) -> dict[str, int]:
    """Return how many rollouts are in which state."""
    found = sa.select(rollouts.c.state, sa.func.count()).group_by(rollouts.c.state)
    return {row[0]: row[1] for row in connection.execute(found)}


def brakes(connection: Connection) -> int:
    """Return in how many rollouts that are not over the brake is on."""
    unended = rollouts.c.state.not_in([state.value for state in ROLLOUT_FINAL])
    found = sa.select(sa.func.count()).select_from(rollouts).where(rollouts.c.failed_at.is_not(None), unended)
    return int(connection.scalar(found) or 0)


def steered_at(connection: Connection) -> datetime | None:
    """Return when the rollout was steered last that has waited for it longest; None: there is nothing to steer."""
    since = sa.func.min(
        sa.func.coalesce(rollouts.c.steered_at, rollouts.c.changed_at), type_=rollouts.c.changed_at.type
    )
    return connection.scalar(sa.select(since).where(rollouts.c.state.not_in(_NOT_STEERED)))


def open_actions(connection: Connection) -> dict[tuple[str, str], int]:
    """Return how many actions have not ended, by kind and state."""
    found = sa.select(actions.c.kind, actions.c.state, sa.func.count()).where(IS_OPEN)
    return {(row[0], row[1]): row[2] for row in connection.execute(found.group_by(actions.c.kind, actions.c.state))}


def events_waiting(connection: Connection) -> int:
    """Return how many events before or after a ring wait for an answer: of rollouts that go on by it."""
    joined = gates.join(rollouts, rollouts.c.id == gates.c.rollout_id)
    asked = (gates.c.state == "waiting") & rollouts.c.state.in_(sorted(ASKING))
    return int(connection.scalar(sa.select(sa.func.count()).select_from(joined).where(asked)) or 0)


def halted(connection: Connection) -> bool:
    """Return whether everything is halted."""
    return bool(connection.scalar(sa.select(brake.c.halted)))
