"""SQL of rollouts. Whoever changes a rollout has locked its row first (`locked`), so that no two do at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.database import new_id
from hotmend.server.machines import query as machine_query
from hotmend.server.machines.policies import HOTPATCH_OFF
from hotmend.server.machines.tables import action_events, actions, brake, contacts, machines, policies, reports, tags
from hotmend.server.maintenance.store import scope
from hotmend.server.rollouts.spec import Selection
from hotmend.server.rollouts.tables import approvals, events, gates, groups, members, rollouts
from hotmend.server.webhooks.tables import outbox, webhooks
from hotmend.servicing.actions import State
from hotmend.servicing.lanes import Approval
from hotmend.servicing.rings import Member
from hotmend.servicing.rollouts import FINAL as ROLLOUT_FINAL
from hotmend.servicing.rollouts import State as RolloutState

BAD: Final = [state.value for state in State if state.bad]
GOOD: Final = [state.value for state in State if state.good]
OPEN: Final = [state.value for state in State if not state.final]
_PAGE: Final = 500
_MANY: Final = 5_000
"""Of more machines all are read at once: asking for each by its id takes longer."""
_TAGS: Final = ("domain", "set", "pair")
"""Tags with a meaning: fault domain, set that is to stay available, and pair."""


def insert_rollout(connection: Connection, values: Mapping[str, Any]) -> None:
    """Insert a rollout."""
    connection.execute(sa.insert(rollouts).values(values))


def insert_groups(connection: Connection, rollout: str, names: Sequence[str], state: str) -> None:
    """Insert the groups of a rollout."""
    rows = [
        {"rollout_id": rollout, "number": number, "id": new_id(), "name": name, "state": state, "why": {}}
        for number, name in enumerate(names)
    ]
    connection.execute(sa.insert(groups), rows)


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


def rollout(connection: Connection, identity: str) -> RowMapping | None:
    """Return a rollout."""
    return connection.execute(sa.select(rollouts).where(rollouts.c.id == identity)).mappings().one_or_none()


def locked(connection: Connection, identity: str) -> RowMapping | None:
    """Return a rollout and keep all others from changing it until the transaction ends."""
    query = sa.select(rollouts).where(rollouts.c.id == identity).with_for_update()
    return connection.execute(query).mappings().one_or_none()


def page(connection: Connection, before: tuple[datetime, str] | None, limit: int) -> list[RowMapping]:
    """Return rollouts, newest first."""
    query = sa.select(rollouts).order_by(rollouts.c.created_at.desc(), rollouts.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(sa.tuple_(rollouts.c.created_at, rollouts.c.id) < sa.tuple_(*before))
    return list(connection.execute(query).mappings())


def unended(connection: Connection) -> list[str]:
    """Return the rollouts that a workflow must steer."""
    waiting = (RolloutState.CREATING, RolloutState.WAITING_FOR_APPROVAL, RolloutState.READY)
    left = [state.value for state in RolloutState if state not in ROLLOUT_FINAL and state not in waiting]
    scheduled = (rollouts.c.state == RolloutState.READY.value) & rollouts.c.start_at.is_not(None)
    query = sa.select(rollouts.c.id).where(rollouts.c.state.in_(left) | scheduled).order_by(rollouts.c.created_at)
    return list(connection.scalars(query))


def update_rollout(connection: Connection, identity: str, values: Mapping[str, Any]) -> None:
    """Change a rollout and count its version."""
    changed = {**values, "version": rollouts.c.version + 1}
    connection.execute(sa.update(rollouts).where(rollouts.c.id == identity).values(changed))


def put_steered(connection: Connection, identity: str, now: datetime) -> None:
    """Write down that somebody steers; it is no change of the rollout."""
    connection.execute(sa.update(rollouts).where(rollouts.c.id == identity).values(steered_at=now))


def group_rows(connection: Connection, identity: str) -> list[RowMapping]:
    """Return the groups of a rollout in their order."""
    query = sa.select(groups).where(groups.c.rollout_id == identity).order_by(groups.c.number)
    return list(connection.execute(query).mappings())


def update_group(connection: Connection, identity: str, number: int, values: Mapping[str, Any]) -> None:
    """Change a group."""
    which = (groups.c.rollout_id == identity) & (groups.c.number == number)
    connection.execute(sa.update(groups).where(which).values(values))


def update_groups(connection: Connection, identity: str, values: Mapping[str, Any]) -> None:
    """Change all groups of a rollout."""
    connection.execute(sa.update(groups).where(groups.c.rollout_id == identity).values(values))


def insert_event(connection: Connection, values: Mapping[str, Any]) -> None:
    """Write down what happened, and that all webhooks are to be told."""
    number = connection.scalar(sa.insert(events).values(values).returning(events.c.id))
    told = sa.select(webhooks.c.id, sa.literal(number, events.c.id.type))
    connection.execute(sa.insert(outbox).from_select(["webhook_id", "event_id"], told))


def event_rows(connection: Connection, identity: str, after: int, limit: int) -> list[RowMapping]:
    """Return what happened, oldest first."""
    which = (events.c.rollout_id == identity) & (events.c.id > after)
    return list(connection.execute(sa.select(events).where(which).order_by(events.c.id).limit(limit)).mappings())


def approve(connection: Connection, identity: str, person: str, plan: str, now: datetime) -> None:
    """Keep a person's yes; the same twice is one."""
    which = (approvals.c.rollout_id == identity) & (approvals.c.person == person) & (approvals.c.plan == plan)
    if not connection.scalar(sa.select(sa.func.count()).where(which)):
        values = {"rollout_id": identity, "person": person, "plan": plan, "at": now}
        connection.execute(sa.insert(approvals).values(values))


def approvals_of(connection: Connection, identity: str) -> list[Approval]:
    """Return who has approved what."""
    query = sa.select(approvals.c.person, approvals.c.plan).where(approvals.c.rollout_id == identity)
    return [Approval(*row) for row in connection.execute(query.order_by(approvals.c.at))]


def held(connection: Connection, ids: Collection[str]) -> set[str]:
    """Return those of some rollouts in which nothing may begin: they do not run, or the brake is on."""
    stands = (rollouts.c.state != RolloutState.RUNNING.value) | rollouts.c.failed_at.is_not(None)
    return set(connection.scalars(sa.select(rollouts.c.id).where(rollouts.c.id.in_(ids), stands))) if ids else set()


# Pre- and post-events


def gate(connection: Connection, identity: str, number: int, kind: str) -> RowMapping | None:
    """Return what was asked of those outside before or after a group, and what they said."""
    which = (gates.c.rollout_id == identity) & (gates.c.number == number) & (gates.c.kind == kind)
    return connection.execute(sa.select(gates).where(which)).mappings().one_or_none()


def ask(connection: Connection, identity: str, number: int, kind: str, until: datetime) -> None:
    """Ask those outside."""
    values = {"rollout_id": identity, "number": number, "kind": kind, "state": "waiting", "until": until}
    connection.execute(sa.insert(gates).values(values))


def answer(connection: Connection, identity: str, number: int, kind: str, values: Mapping[str, Any]) -> bool:
    """Keep what was said; False: nobody was asked, or it was said already."""
    which = (gates.c.rollout_id == identity) & (gates.c.number == number) & (gates.c.kind == kind)
    waits = which & (gates.c.state == "waiting")
    return bool(connection.execute(sa.update(gates).where(waits).values(values)).rowcount)


def forget_denied(connection: Connection, identity: str) -> None:
    """Have those outside asked again who said no."""
    which = (gates.c.rollout_id == identity) & (gates.c.state == "denied")
    connection.execute(sa.delete(gates).where(which))


# Machines as the planner sees them


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


def waiting(
    connection: Connection, identity: str, number: int, seen_after: datetime, limit: int, after: int = -1
) -> list[RowMapping]:
    """Return machines of a group that are there and have not begun, in their order, with what windows rest on.

    A row has `machine_id`, `place`, `policy` (its name), `zone` ("": not known), `alerts` (None: no report).
    """
    query = (
        sa.select(
            members.c.machine_id,
            members.c.place,
            machines.c.policy,
            sa.func.coalesce(reports.c.zone, "").label("zone"),
            reports.c.alerts,
        )
        .join(machines, machines.c.id == members.c.machine_id)
        .join(contacts, contacts.c.machine_id == members.c.machine_id)
        .outerjoin(reports, reports.c.machine_id == members.c.machine_id)
        .where(
            members.c.rollout_id == identity,
            members.c.number == number,
            members.c.action_id.is_(None),
            members.c.place > after,
            machines.c.state == "active",
            machines.c.policy != HOTPATCH_OFF,
            contacts.c.seen_at >= seen_after,
        )
        .order_by(members.c.place, members.c.machine_id)
        .limit(limit)
    )
    return list(connection.execute(query).mappings())


def policy_contents(connection: Connection) -> dict[str, Any]:
    """Return the content of each policy by name."""
    return {row.name: row.content for row in connection.execute(sa.select(policies.c.name, policies.c.content))}


def hold(connection: Connection, identity: str, held: Mapping[str, str]) -> None:
    """Keep why machines do not begin yet, by the code of the cause."""
    by_code: dict[str, list[str]] = {}
    for machine, code in held.items():
        by_code.setdefault(code, []).append(machine)
    for code, ids in by_code.items():
        for start in range(0, len(ids), _PAGE):
            some = members.c.machine_id.in_(ids[start : start + _PAGE])
            which = (members.c.rollout_id == identity) & some & (members.c.held != code)
            connection.execute(sa.update(members).where(which).values(held=code))


def begin(
    connection: Connection, identity: str, group: RowMapping, ids: Mapping[str, int | None], action: Mapping[str, Any]
) -> None:
    """Make actions for machines, `ids` with the alerts that each has now."""
    for machine, alerts in ids.items():
        action_id = new_id()
        values = {**action, "id": action_id, "machine_id": machine, "rollout_id": identity, "group_id": group["id"]}
        _insert_action(connection, values)
        which = (members.c.rollout_id == identity) & (members.c.machine_id == machine)
        changed = {"action_id": action_id, "alerts": alerts, "held": ""}
        connection.execute(sa.update(members).where(which).values(changed))


# Actions of a rollout


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


DROPPED: Final = "its machine is not to begin it any more"
"""Detail of an action that its machine was told of, and which its last letter does not have."""


def drop(connection: Connection, action: str, now: datetime, *, again: bool = False) -> None:
    """Note that a machine is not to begin an action that it was told of, or `again`, that it may after all."""
    values = {"detail": "" if again else DROPPED, "changed_at": now}
    connection.execute(sa.update(actions).where(actions.c.id == action).values(values))


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
    why = "no answer in time"
    changed = {"state": State.TIMED_OUT.value, "detail": why, "changed_at": now}
    silent = list(connection.scalars(sa.update(actions).where(which).values(changed).returning(actions.c.id)))
    last = sa.func.coalesce(sa.func.max(action_events.c.number), 0)
    for each in silent:
        number = connection.scalar(sa.select(last).where(action_events.c.action_id == each)) or 0
        _add_events(connection, [each], number + 1, State.TIMED_OUT, why, now)
    return len(silent)


def _insert_action(connection: Connection, values: Mapping[str, Any]) -> None:
    connection.execute(sa.insert(actions).values(values))
    _add_events(connection, [values["id"]], 1, State.SCHEDULED, "", values["created_at"])


def _add_events(
    connection: Connection, ids: Sequence[str], number: int, state: State, detail: str, now: datetime
) -> None:
    rows = [{"action_id": each, "number": number, "at": now, "state": state.value, "detail": detail} for each in ids]
    for start in range(0, len(rows), _PAGE):
        connection.execute(sa.insert(action_events), rows[start : start + _PAGE])


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


def well(connection: Connection, identity: str, number: int, seen_after: datetime) -> int:
    """Return how many machines of a group ended well, were heard of since a moment, and have no alert more than before.

    The same as `servicing.gates.well`, asked of all machines at once; a test holds them against each other.
    """
    query = (
        sa.select(sa.func.count())
        .select_from(
            members.join(actions, actions.c.id == members.c.action_id)
            .join(contacts, contacts.c.machine_id == members.c.machine_id)
            .join(reports, reports.c.machine_id == members.c.machine_id)
        )
        .where(
            members.c.rollout_id == identity,
            members.c.number == number,
            actions.c.state.in_(GOOD),
            contacts.c.seen_at >= seen_after,
            reports.c.alerts <= sa.func.coalesce(members.c.alerts, 0),
        )
    )
    return int(connection.scalar(query) or 0)


def not_there(connection: Connection, identity: str, number: int, seen_after: datetime) -> int:
    """Return how many machines of a group have not begun and were not heard of since a moment."""
    query = (
        sa.select(sa.func.count())
        .select_from(
            members.join(machines, machines.c.id == members.c.machine_id).outerjoin(
                contacts, contacts.c.machine_id == members.c.machine_id
            )
        )
        .where(
            members.c.rollout_id == identity,
            members.c.number == number,
            members.c.action_id.is_(None),
            (machines.c.state != "active")
            | (machines.c.policy == HOTPATCH_OFF)
            | contacts.c.seen_at.is_(None)
            | (contacts.c.seen_at < seen_after),
        )
    )
    return int(connection.scalar(query) or 0)


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


def left_behind(connection: Connection, identity: str, before: int, seen_after: datetime) -> list[tuple[str, int]]:
    """Return machines of the groups before `before` that have not begun and are there now, with their group."""
    query = (
        sa.select(members.c.machine_id, members.c.number)
        .join(contacts, contacts.c.machine_id == members.c.machine_id)
        .where(
            members.c.rollout_id == identity,
            members.c.number < before,
            members.c.action_id.is_(None),
            contacts.c.seen_at >= seen_after,
        )
    )
    return [(machine, number) for machine, number in connection.execute(query)]


def changed_machines(connection: Connection, identity: str) -> list[str]:
    """Return machines that a machine-side act of the rollout may have changed and that nothing has taken back."""
    untouched = [State.CANCELED.value, State.NOT_APPLICABLE.value, State.ALREADY_INSTALLED.value, State.BLOCKED.value]
    query = (
        sa.select(members.c.machine_id)
        .join(actions, actions.c.id == members.c.action_id)
        .where(
            members.c.rollout_id == identity,
            members.c.revert_id.is_(None),
            actions.c.handed_at.is_not(None),
            actions.c.state.not_in(untouched),
        )
    )
    return list(connection.scalars(query))


def revert(connection: Connection, identity: str, ids: Iterable[str], action: Mapping[str, Any]) -> None:
    """Make reverts for machines of a rollout. They are not counted among its own actions."""
    for machine in ids:
        action_id = new_id()
        _insert_action(connection, {**action, "id": action_id, "machine_id": machine})
        which = (members.c.rollout_id == identity) & (members.c.machine_id == machine)
        connection.execute(sa.update(members).where(which).values(revert_id=action_id))


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


# The halt


def halted(connection: Connection) -> bool:
    """Return whether everything is halted."""
    return bool(connection.scalar(sa.select(brake.c.halted).where(brake.c.id == 1)))


def halt(connection: Connection) -> RowMapping | None:
    """Return the row that says whether everything is halted; None: nobody has ever."""
    return connection.execute(sa.select(brake).where(brake.c.id == 1)).mappings().one_or_none()


def put_halt(connection: Connection, values: Mapping[str, Any]) -> None:
    """Halt everything, or let it go on."""
    if not connection.execute(sa.update(brake).where(brake.c.id == 1).values(values)).rowcount:
        connection.execute(sa.insert(brake).values(id=1, **values))
