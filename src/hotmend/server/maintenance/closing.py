"""Windows that are over: what came of each, counted once and told to those who are subscribed.

A window that took a word is over when its end has passed, machines have had time to say so, and what had begun in it
has ended; what says nothing for too long is waited for no longer. Any server may look: who counts has locked the row.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.context import Context
from hotmend.server.machines.tables import action_events, actions, machines, policies, reports
from hotmend.server.machines.tables import events as machine_events
from hotmend.server.maintenance.events import shown
from hotmend.server.maintenance.tables import window_events
from hotmend.server.webhooks import notices
from hotmend.server.worker import Worker
from hotmend.servicing.actions import State
from hotmend.servicing.maintenance import Policy, intervals
from hotmend.wire.maintenance import WindowFailure, WindowOutcome

WAIT_MAX: Final = timedelta(hours=4)
"""So long after a window's end an action that had begun in it is waited for."""
FAILURES_MAX: Final = 20
_HEARD: Final = 2
"""Check-ins after the end: a machine tells of what it began last."""
_AT_ONCE: Final = 100
_LOOK_SECONDS: Final = 15.0
_BEFORE: Final = sorted({State.SCHEDULED, State.WAITING_WINDOW, State.PRECHECK})
"""An action that came to none but these did nothing in the window."""
_LOG: Final = logging.getLogger("hotmend.server.maintenance")


def close(context: Context) -> int:
    """Close the windows that are over; return how many."""
    now = context.clock()
    settled = now - _HEARD * timedelta(seconds=context.settings.check_in_seconds)
    over = window_events.c.closed_at.is_(None) & (window_events.c.ends_at <= settled)
    found = sa.select(window_events.c.id).where(over).order_by(window_events.c.ends_at).limit(_AT_ONCE)
    with context.database.read() as connection:
        ids = list(connection.scalars(found))
    closed = 0
    for identity in ids:
        with context.database.write() as connection:
            which = (window_events.c.id == identity) & window_events.c.closed_at.is_(None)
            row = connection.execute(sa.select(window_events).where(which).with_for_update()).mappings().one_or_none()
            closed += row is not None and _close(connection, row, now, settled)
    return closed


def _close(connection: Connection, row: RowMapping, now: datetime, settled: datetime) -> bool:
    zones = _zones(connection, row)
    counts = _states(connection, row, zones, now - settled)
    unended = sum(number for state, number in counts.items() if not state.final)
    if unended and now < row["ends_at"] + WAIT_MAX:
        return False
    outcome = WindowOutcome(
        *_machines(connection, row, zones),
        {state.value: number for state, number in sorted(counts.items())},
        sum(number for state, number in counts.items() if state.good),
        sum(number for state, number in counts.items() if state in _FAILED),
        unended,
        _failures(connection, row, zones, now - settled),
    )
    content = msgspec.to_builtins(outcome)
    changed = sa.update(window_events).where(window_events.c.id == row["id"])
    connection.execute(changed.values(closed_at=now, outcome=content))
    window = shown(row["id"], row["configuration"], row["starts_at"], row["ends_at"])
    word = {"state": row["state"], "by": row["by"], "reason": row["reason"]}
    notices.of_windows(connection, now, "window.closed", {"window": window, "word": word, "outcome": content})
    return True


_FAILED: Final = frozenset({state for state in State if state.bad} | {State.BLOCKED})


def _zones(connection: Connection, row: RowMapping) -> list[str] | None:
    """Return the zones in which a window of the configuration begins at this moment; None: it is one for all.

    Where none is left, because the configuration has changed since, all of its machines count.
    """
    name = row["configuration"]
    content = connection.scalar(sa.select(policies.c.content).where(policies.c.name == name)) or {}
    if content.get("zone"):
        return None
    policy = msgspec.convert(content.get("maintenance", {}), Policy, strict=False)
    mine = sa.select(machines.c.id).where(machines.c.policy == name)
    every = connection.scalars(sa.select(reports.c.zone).where(reports.c.machine_id.in_(mine)).distinct())
    found = [each for each in every if each and _begins(policy, each, row["starts_at"])]
    return found or None


def _begins(policy: Policy, zone: str, start: datetime) -> bool:
    try:
        found = intervals(policy, ZoneInfo(zone), start, start + timedelta(seconds=1))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return any(each.start == start for each in found)


def _mine(row: RowMapping, zones: list[str] | None) -> sa.Select[Any]:
    """Return the query of the machines that the window was for."""
    query = sa.select(machines.c.id).where(machines.c.policy == row["configuration"], machines.c.state != "left")
    if zones is None:
        return query
    return query.join(reports, reports.c.machine_id == machines.c.id).where(reports.c.zone.in_(zones))


def _went_on(row: RowMapping, zones: list[str] | None, late: timedelta) -> sa.ColumnElement[bool]:
    """Return the condition of actions that wait for windows, and did something in this one."""
    something = sa.exists().where(
        action_events.c.action_id == actions.c.id,
        action_events.c.state.not_in(_BEFORE),
        action_events.c.at >= row["starts_at"],
        action_events.c.at < row["ends_at"] + late,
    )
    waits = ~actions.c.anytime & ~actions.c.emergency & (actions.c.changed_at >= row["starts_at"])
    return sa.and_(waits, actions.c.machine_id.in_(_mine(row, zones)), something)


def _states(connection: Connection, row: RowMapping, zones: list[str] | None, late: timedelta) -> dict[State, int]:
    query = sa.select(actions.c.state, sa.func.count()).where(_went_on(row, zones, late)).group_by(actions.c.state)
    return {State(state): number for state, number in connection.execute(query)}


def _failures(connection: Connection, row: RowMapping, zones: list[str] | None, late: timedelta) -> list[WindowFailure]:
    query = (
        sa.select(machines.c.id, machines.c.name, actions.c.id, actions.c.state, actions.c.detail)
        .join(machines, machines.c.id == actions.c.machine_id)
        .where(_went_on(row, zones, late), actions.c.state.in_(sorted(_FAILED)))
        .order_by(actions.c.changed_at, actions.c.id)
        .limit(FAILURES_MAX)
    )
    return [WindowFailure(*each) for each in connection.execute(query)]


def _machines(connection: Connection, row: RowMapping, zones: list[str] | None) -> tuple[int, int]:
    """Return how many machines the window was for, and on how many the update level has changed since it began."""
    mine = _mine(row, zones)
    level = (machine_events.c.kind == "level") & (machine_events.c.at >= row["starts_at"])
    changed = sa.select(sa.func.count(machine_events.c.machine_id.distinct())).where(level)
    counted = connection.scalar(sa.select(sa.func.count()).select_from(mine.subquery())) or 0
    return counted, connection.scalar(changed.where(machine_events.c.machine_id.in_(mine))) or 0


class Closer(Worker):
    """Closes windows, in a thread of a server process.

    Args:
        context: of the process.
    """

    def __init__(self, context: Context) -> None:
        super().__init__("windows", _LOOK_SECONDS)
        self._context = context

    def _round(self) -> None:
        while close(self._context) == _AT_ONCE and not self._leaving.is_set():
            pass
