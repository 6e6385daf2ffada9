"""Machines of a rollout and their actions: begun, taken back, and how far they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.database import new_id
from hotmend.server.machines.tables import action_events, actions, alerts, contacts, machines, reports
from hotmend.server.rollouts.tables import member_alerts, members, rollouts
from hotmend.servicing.actions import WAITING, State, reachable
from hotmend.servicing.rollouts import FINAL as ROLLOUT_FINAL

GOOD: Final = [state.value for state in State if state.good]
OPEN: Final = [state.value for state in State if not state.final]
_PAGE: Final = 500
REVERTS_MAX: Final = 3
"""So often a revert is tried on a machine before a person has to look."""
_ACTED: Final = [
    state.value
    for state in State
    if state in reachable(State.DOWNLOADING) or state.good or (state.bad and state is not State.TIMED_OUT)
]
"""States that only a machine comes to, and only where it has begun to act."""
_reverts: Final = actions.alias("reverts")
_TRY_AGAIN: Final = _reverts.c.state.in_([State.FAILED.value, State.TIMED_OUT.value]) & (
    members.c.reverts < REVERTS_MAX
)
DROPPED: Final = "its machine is not to begin it any more"
"""Detail of an action that its machine was told of, and which its last letter does not have."""


def insert_members(
    connection: Connection, rollout: str, number: int, ids: Sequence[str], *, late: bool = False, place: int = 0
) -> None:
    """Insert machines of a group, in the order in which they begin."""
    rows = [
        {"rollout_id": rollout, "machine_id": each, "number": number, "place": place + index, "late": late}
        for index, each in enumerate(ids)
    ]
    for start in range(0, len(rows), _PAGE):
        connection.execute(sa.insert(members), rows[start : start + _PAGE])


def begin(
    connection: Connection, identity: str, group: RowMapping, ids: Sequence[str], action: Mapping[str, Any]
) -> None:
    """Make actions for machines, and keep which alerts each has now."""
    _keep_alerts(connection, identity, ids)
    for machine in ids:
        action_id = new_id()
        values = {**action, "id": action_id, "machine_id": machine, "rollout_id": identity, "group_id": group["id"]}
        _insert_action(connection, values)
        which = (members.c.rollout_id == identity) & (members.c.machine_id == machine)
        connection.execute(sa.update(members).where(which).values(action_id=action_id, held="", held_since=None))


def _keep_alerts(connection: Connection, identity: str, ids: Sequence[str]) -> None:
    columns = [each.name for each in member_alerts.c]
    for start in range(0, len(ids), _PAGE):
        some = ids[start : start + _PAGE]
        its = (member_alerts.c.rollout_id == identity) & member_alerts.c.machine_id.in_(some)
        connection.execute(sa.delete(member_alerts).where(its))  # of an action that was taken back
        now = sa.select(sa.literal(identity), alerts.c.machine_id, alerts.c.code).where(alerts.c.machine_id.in_(some))
        connection.execute(sa.insert(member_alerts).from_select(columns, now))


def withdraw(connection: Connection, identity: str, now: datetime, why: str, *, expired: bool = False) -> int:
    """Take back actions that no machine was told of; return how many. Their machines wait again.

    The condition is judged again by the database where a machine is told at the same moment: one of the two is first.
    """
    untold = (
        (actions.c.rollout_id == identity)
        & (actions.c.state == State.SCHEDULED.value)
        & actions.c.handed_at.is_(None)
        & actions.c.emergency.is_(False)
    )
    if expired:
        untold &= actions.c.until <= now
    changed = {"state": State.CANCELED.value, "detail": why, "changed_at": now}
    statement = sa.update(actions).where(untold).values(changed).returning(actions.c.id)
    taken = list(connection.scalars(statement))
    _add_events(connection, taken, 2, State.CANCELED, why, now)  # the first one is that it was made
    for start in range(0, len(taken), _PAGE):
        which = members.c.action_id.in_(taken[start : start + _PAGE])
        connection.execute(sa.update(members).where(which).values(action_id=None))
    return len(taken)


def drop(connection: Connection, action: str, now: datetime, *, again: bool = False) -> None:
    """Note that a machine is not to begin an action that it was told of, or `again`, that it may after all."""
    values = {"detail": "" if again else DROPPED, "changed_at": now}
    connection.execute(sa.update(actions).where(actions.c.id == action).values(values))


def give_time(connection: Connection, identity: str, now: datetime, until: datetime, fetched_by: datetime) -> None:
    """Let machines have time for what they have not begun, where they could neither be told nor say anything.

    Args:
        connection: to the database.
        identity: of the rollout.
        now: the moment.
        until: no silence counts before.
        fetched_by: what is not told then is taken back.
    """
    waits = actions.c.state.in_([state.value for state in WAITING])
    untold = (actions.c.rollout_id == identity) & waits & actions.c.emergency.is_(False)
    connection.execute(sa.update(actions).where(untold).values(until=fetched_by, changed_at=until))
    # A look that its machine was not asked for in time, or is not any more, is asked for anew when the grace is over.
    looks = sa.select(members.c.look_id).where(members.c.rollout_id == identity)
    unasked = (actions.c.state == State.TIMED_OUT.value) & actions.c.handed_at.is_(None)
    late = waits & (actions.c.handed_at.is_(None) | (actions.c.until <= until))
    found = actions.c.id.in_(looks) & (unasked | late)
    lost = {row.id: row.state for row in connection.execute(sa.select(actions.c.id, actions.c.state).where(found))}
    for start in range(0, len(lost), _PAGE):
        which = members.c.look_id.in_(list(lost)[start : start + _PAGE])
        connection.execute(sa.update(members).where(which).values(look_id=None))
    why = "it is asked for anew"
    values = {"state": State.CANCELED.value, "detail": why, "changed_at": now}
    for each in (each for each, state in lost.items() if state != State.TIMED_OUT.value):
        connection.execute(sa.update(actions).where(actions.c.id == each).values(values))
        _add_event(connection, each, State.CANCELED, why, now)


def take_back(connection: Connection, action: str) -> None:
    """Let the machine of an action wait again: it has not begun it, and will not."""
    connection.execute(sa.update(members).where(members.c.action_id == action).values(action_id=None))


def time_out(connection: Connection, identity: str, now: datetime, handed_before: datetime) -> int:
    """End actions that were begun and say nothing; return how many."""
    which = (
        (actions.c.rollout_id == identity)
        & actions.c.state.in_(OPEN)
        & (actions.c.handed_at <= handed_before)
        & (actions.c.changed_at <= handed_before)
    )
    return _time_out(connection, which, now, "no answer in time")


def _time_out(connection: Connection, which: sa.ColumnElement[bool], now: datetime, why: str) -> int:
    changed = {"state": State.TIMED_OUT.value, "detail": why, "changed_at": now}
    silent = list(connection.scalars(sa.update(actions).where(which).values(changed).returning(actions.c.id)))
    for each in silent:
        _add_event(connection, each, State.TIMED_OUT, why, now)
    return len(silent)


def rollouts_of(connection: Connection, machine: str) -> list[str]:
    """Return the rollouts that have not ended and that a machine has begun, in one order."""
    over = [state.value for state in ROLLOUT_FINAL]
    query = (
        sa.select(members.c.rollout_id)
        .join(rollouts, rollouts.c.id == members.c.rollout_id)
        .where(members.c.machine_id == machine, members.c.action_id.is_not(None), rollouts.c.state.not_in(over))
        .order_by(members.c.rollout_id)
    )
    return list(connection.scalars(query))


def fail(connection: Connection, identity: str, machine: str, now: datetime, why: str) -> None:
    """End what a machine has begun of a rollout and not ended: it has timed out."""
    _time_out(
        connection,
        (actions.c.rollout_id == identity)
        & (actions.c.machine_id == machine)
        & actions.c.handed_at.is_not(None)
        & actions.c.state.in_(OPEN),
        now,
        why,
    )


def _insert_action(connection: Connection, values: Mapping[str, Any]) -> None:
    connection.execute(sa.insert(actions).values(values))
    _add_events(connection, [values["id"]], 1, State.SCHEDULED, "", values["created_at"])


def _add_events(
    connection: Connection, ids: Sequence[str], number: int, state: State, detail: str, now: datetime
) -> None:
    rows = [{"action_id": each, "number": number, "at": now, "state": state.value, "detail": detail} for each in ids]
    for start in range(0, len(rows), _PAGE):
        connection.execute(sa.insert(action_events), rows[start : start + _PAGE])


def _add_event(connection: Connection, action: str, state: State, why: str, now: datetime) -> None:
    last = sa.func.coalesce(sa.func.max(action_events.c.number), 0)
    number = connection.scalar(sa.select(last).where(action_events.c.action_id == action)) or 0
    _add_events(connection, [action], number + 1, state, why, now)


def states(connection: Connection, identity: str, number: int | None = None) -> dict[State | None, int]:
    """Return how many members of a group, or of all, are in which state; None: not begun."""
    query = (
        sa.select(actions.c.state, sa.func.count())
        .select_from(members.outerjoin(actions, actions.c.id == members.c.action_id))
        .where(members.c.rollout_id == identity)
        .group_by(actions.c.state)
    )
    if number is not None:
        query = query.where(members.c.number == number)
    return {None if state is None else State(state): count for state, count in connection.execute(query)}


def states_of_groups(connection: Connection, identity: str) -> dict[int, dict[State | None, int]]:
    """Return the same for each group, in one question; a group without members is not there."""
    query = (
        sa.select(members.c.number, actions.c.state, sa.func.count())
        .select_from(members.outerjoin(actions, actions.c.id == members.c.action_id))
        .where(members.c.rollout_id == identity)
        .group_by(members.c.number, actions.c.state)
    )
    found: dict[int, dict[State | None, int]] = {}
    for number, state, count in connection.execute(query):
        found.setdefault(number, {})[None if state is None else State(state)] = count
    return found


@dataclass(frozen=True, slots=True)
class Well:
    """How many machines of a group are well, and of these have not looked at themselves since the soak."""

    well: int
    looking: int


def well(connection: Connection, identity: str, number: int, after: datetime) -> Well:
    """Return how many machines of a group are well.

    They ended well, were heard of since a moment, have no alert that they had not before, and have looked at themselves
    since they were asked to, unless they were asked since the same moment, or not yet. Of an agent that does not say
    when it looked, that it did what it was asked for is taken for a look. The same as `servicing.gates.well`, asked of
    all machines at once; a test holds them against each other.

    Args:
        connection: to the database.
        identity: of the rollout.
        number: of the group.
        after: the moment.
    """
    looks = actions.alias("looks")
    known = (member_alerts.c.rollout_id == members.c.rollout_id) & (member_alerts.c.machine_id == members.c.machine_id)
    before = sa.exists().where(known, member_alerts.c.code == alerts.c.code)
    ill = sa.exists().where(alerts.c.machine_id == members.c.machine_id, ~before)
    newer = contacts.c.looked_at.is_(None) | (contacts.c.looked_at >= looks.c.created_at)
    has_time = members.c.look_id.is_(None) | (looks.c.created_at >= after)
    looked = members.c.look_id.is_not(None) & looks.c.state.in_(GOOD) & newer
    query = (
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(sa.case((looked, 0), else_=1)), 0))
        .select_from(
            members.join(actions, actions.c.id == members.c.action_id)
            .join(contacts, contacts.c.machine_id == members.c.machine_id)
            .join(reports, reports.c.machine_id == members.c.machine_id)
            .outerjoin(looks, looks.c.id == members.c.look_id)
        )
        .where(
            members.c.rollout_id == identity,
            members.c.number == number,
            actions.c.state.in_(GOOD),
            contacts.c.seen_at >= after,
            ~ill,
            looked | has_time,
        )
    )
    return Well(*(int(each) for each in connection.execute(query).one()))


def unasked(connection: Connection, identity: str, number: int) -> list[str]:
    """Return machines of a group that ended well and were not asked to look at themselves since."""
    query = (
        sa.select(members.c.machine_id)
        .join(actions, actions.c.id == members.c.action_id)
        .where(
            members.c.rollout_id == identity,
            members.c.number == number,
            members.c.look_id.is_(None),
            actions.c.state.in_(GOOD),
        )
        .order_by(members.c.machine_id)
    )
    return list(connection.scalars(query))


def ask(connection: Connection, identity: str, ids: Sequence[str], action: Mapping[str, Any]) -> None:
    """Ask machines of a rollout to look at themselves. What they are asked for is not among its own actions."""
    asked = {machine: new_id() for machine in ids}
    rows = [{**action, "id": its, "machine_id": machine} for machine, its in asked.items()]
    for start in range(0, len(rows), _PAGE):
        connection.execute(sa.insert(actions), rows[start : start + _PAGE])
    _add_events(connection, list(asked.values()), 1, State.SCHEDULED, "", action["created_at"])
    which = (members.c.rollout_id == identity) & (members.c.machine_id == sa.bindparam("b_machine"))
    changed = sa.update(members).where(which).values(look_id=sa.bindparam("b_look"))
    values = [{"b_machine": machine, "b_look": its} for machine, its in asked.items()]
    for start in range(0, len(values), _PAGE):
        connection.execute(changed, values[start : start + _PAGE])


def in_flight(connection: Connection, identity: str, number: int | None = None) -> int:
    """Return how many actions of a group, or of all, are not ended."""
    found = states(connection, identity, number)
    return sum(count for state, count in found.items() if state is not None and not state.final)


def move(connection: Connection, identity: str, number: int, to: int, ids: Sequence[str]) -> None:
    """Move machines that have not begun to another group."""
    for start in range(0, len(ids), _PAGE):
        which = (
            (members.c.rollout_id == identity)
            & (members.c.number == number)
            & members.c.machine_id.in_(ids[start : start + _PAGE])
            & members.c.action_id.is_(None)
        )
        connection.execute(sa.update(members).where(which).values(number=to, late=True))


def to_revert(connection: Connection, identity: str, before: datetime) -> list[tuple[str, str]]:
    """Return machines for which a revert is to be made now, with the action that it is about.

    Those are the machines that the action may have changed, without a revert, or with one that failed before a moment
    and may be tried again. One that has left is told nothing any more.
    """
    untouched = [State.CANCELED.value, State.NOT_APPLICABLE.value, State.ALREADY_INSTALLED.value, State.BLOCKED.value]
    query = (
        sa.select(members.c.machine_id, members.c.action_id)
        .join(actions, actions.c.id == members.c.action_id)
        .join(machines, machines.c.id == members.c.machine_id)
        .outerjoin(_reverts, _reverts.c.id == members.c.revert_id)
        .where(
            members.c.rollout_id == identity,
            machines.c.state != "left",
            actions.c.handed_at.is_not(None),
            actions.c.state.not_in(untouched),
            members.c.revert_id.is_(None) | (_TRY_AGAIN & (_reverts.c.changed_at <= before)),
        )
        .order_by(members.c.machine_id)
    )
    return [(machine, action) for machine, action in connection.execute(query)]


def revert(connection: Connection, identity: str, which: Iterable[tuple[str, str]], action: Mapping[str, Any]) -> None:
    """Make reverts for machines of a rollout, of one action each. They are not counted among its own actions."""
    for machine, undoes in which:
        action_id = new_id()
        _insert_action(connection, {**action, "id": action_id, "machine_id": machine, "undoes": undoes})
        where = (members.c.rollout_id == identity) & (members.c.machine_id == machine)
        values = {"revert_id": action_id, "reverts": members.c.reverts + 1}
        connection.execute(sa.update(members).where(where).values(values))


def reverting(connection: Connection, identity: str) -> int:
    """Return how many machines have a revert that has not ended, or that is to be tried again."""
    query = _of_reverts(identity).where(_reverts.c.state.in_(OPEN) | _TRY_AGAIN)
    return int(connection.scalar(query) or 0)


def not_taken_back(connection: Connection, identity: str) -> int:
    """Return how many machines that have not left have a revert that is not done, whatever became of it.

    One that finds nothing of an action has done what there was to do only where the machine never said that it had
    begun to act: else its record is lost, and nobody knows.
    """
    begun = sa.exists().where(action_events.c.action_id == members.c.action_id, action_events.c.state.in_(_ACTED))
    nothing = (_reverts.c.state == State.NOT_APPLICABLE.value) & ~begun
    query = (
        _of_reverts(identity)
        .join(machines, machines.c.id == members.c.machine_id)
        .where(machines.c.state != "left", _reverts.c.state.not_in(GOOD), ~nothing)
    )
    return int(connection.scalar(query) or 0)


def _of_reverts(identity: str) -> sa.Select[int]:
    return (
        sa.select(sa.func.count())
        .select_from(members)
        .join(_reverts, _reverts.c.id == members.c.revert_id)
        .where(members.c.rollout_id == identity)
    )


def reverts(connection: Connection, identity: str) -> dict[State, int]:
    """Return how many reverts are in which state."""
    query = (
        sa.select(actions.c.state, sa.func.count())
        .join(members, members.c.revert_id == actions.c.id)
        .where(members.c.rollout_id == identity)
        .group_by(actions.c.state)
    )
    return {State(state): count for state, count in connection.execute(query)}


def member_page(connection: Connection, identity: str, number: int | None, after: str, limit: int) -> list[RowMapping]:
    """Return machines of a rollout with where they stand, by machine id."""
    query = (
        sa.select(
            members.c.machine_id,
            machines.c.name,
            members.c.number,
            members.c.late,
            members.c.held,
            members.c.action_id,
            actions.c.state,
            actions.c.detail,
            actions.c.handed_at,
            actions.c.changed_at,
            contacts.c.seen_at,
        )
        .join(machines, machines.c.id == members.c.machine_id)
        .outerjoin(actions, actions.c.id == members.c.action_id)
        .outerjoin(contacts, contacts.c.machine_id == members.c.machine_id)
        .where(members.c.rollout_id == identity, members.c.machine_id > after)
        .order_by(members.c.machine_id)
        .limit(limit)
    )
    if number is not None:
        query = query.where(members.c.number == number)
    return list(connection.execute(query).mappings())
