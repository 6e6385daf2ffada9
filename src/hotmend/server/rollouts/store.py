"""SQL of rollouts. Whoever changes a rollout has locked its row first (`locked`), so that no two do at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.database import new_id
from hotmend.server.identity.tables import ROLES, users
from hotmend.server.machines.tables import brake
from hotmend.server.paging import page
from hotmend.server.rollouts.tables import approvals, events, gates, groups, rollouts
from hotmend.server.webhooks.tables import outbox, webhooks
from hotmend.servicing.lanes import Approval
from hotmend.servicing.rollouts import FINAL as ROLLOUT_FINAL
from hotmend.servicing.rollouts import State as RolloutState

_BEGIN_LOCK: Final = 0x686F7462
JUDGED: Final = (RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.STOPPING, RolloutState.ROLLING_BACK)
"""States in which machines that say nothing are judged."""
_APPROVERS: Final = ROLES[ROLES.index("approver") :]


def insert_rollout(connection: Connection, values: Mapping[str, Any]) -> None:
    """Insert a rollout."""
    connection.execute(sa.insert(rollouts).values(values))


def seed_used(connection: Connection, seed: str) -> bool:
    """Return whether a rollout was drawn by a seed."""
    return connection.scalar(sa.select(rollouts.c.id).where(rollouts.c.seed == seed)) is not None


def insert_groups(connection: Connection, rollout: str, names: Sequence[str], state: str) -> None:
    """Insert the groups of a rollout."""
    rows = [
        {"rollout_id": rollout, "number": number, "id": new_id(), "name": name, "state": state, "why": {}}
        for number, name in enumerate(names)
    ]
    connection.execute(sa.insert(groups), rows)


def rollout(connection: Connection, identity: str) -> RowMapping | None:
    """Return a rollout."""
    return connection.execute(sa.select(rollouts).where(rollouts.c.id == identity)).mappings().one_or_none()


def locked(connection: Connection, identity: str) -> RowMapping | None:
    """Return a rollout and keep all others from changing it until the transaction ends."""
    query = sa.select(rollouts).where(rollouts.c.id == identity).with_for_update()
    return connection.execute(query).mappings().one_or_none()


def begin_alone(connection: Connection) -> None:
    """Keep every other rollout from beginning machines until the transaction ends, on whichever server.

    Who is being changed is read before machines begin: two that read at once would begin both machines of a pair. On
    SQLite a transaction that writes is alone already.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_BEGIN_LOCK)))


def rollout_page(connection: Connection, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return rollouts, newest first, and the cursor of those behind them."""
    return page(connection, sa.select(rollouts), ((rollouts.c.created_at, True), (rollouts.c.id, True)), cursor, limit)


def in_states(
    connection: Connection, states: Collection[RolloutState], since: datetime | None = None
) -> list[RowMapping]:
    """Return the rollouts in these states, newest first; with `since` those alone that were changed later."""
    query = sa.select(rollouts).where(rollouts.c.state.in_(states))
    if since is not None:
        query = query.where(rollouts.c.changed_at > since)
    return list(connection.execute(query.order_by(rollouts.c.created_at.desc(), rollouts.c.id.desc())).mappings())


def unended(connection: Connection) -> list[str]:
    """Return the rollouts that a workflow must steer."""
    waiting = (RolloutState.CREATING, RolloutState.WAITING_FOR_APPROVAL, RolloutState.READY)
    left = [state.value for state in RolloutState if state not in ROLLOUT_FINAL and state not in waiting]
    scheduled = (rollouts.c.state == RolloutState.READY.value) & rollouts.c.start_at.is_not(None)
    query = sa.select(rollouts.c.id).where(rollouts.c.state.in_(left) | scheduled).order_by(rollouts.c.created_at)
    return list(connection.scalars(query))


def scopes_selected(connection: Connection) -> set[str]:
    """Return the names of the scopes whose machines rollouts that have not ended are of."""
    over = [state.value for state in ROLLOUT_FINAL]
    specs = connection.scalars(sa.select(rollouts.c.spec).where(rollouts.c.state.not_in(over)))
    return {name for spec in specs if (name := spec.get("selection", {}).get("scope"))}


def update_rollout(connection: Connection, identity: str, values: Mapping[str, Any]) -> None:
    """Change a rollout and count its version."""
    changed = {**values, "version": rollouts.c.version + 1}
    connection.execute(sa.update(rollouts).where(rollouts.c.id == identity).values(changed))


def put_steered(connection: Connection, identity: str, now: datetime) -> None:
    """Write down that somebody steers; it is no change of the rollout."""
    connection.execute(sa.update(rollouts).where(rollouts.c.id == identity).values(steered_at=now))


def put_grace(connection: Connection, identity: str, until: datetime) -> None:
    """Write down until when no silence is judged. Who waits for a word of those outside waits as long at least."""
    connection.execute(sa.update(rollouts).where(rollouts.c.id == identity).values(grace_until=until))
    waits = (gates.c.rollout_id == identity) & (gates.c.state == "waiting") & (gates.c.until < until)
    connection.execute(sa.update(gates).where(waits).values(until=until))


def in_grace(connection: Connection, ids: Collection[str], now: datetime, steered_before: datetime) -> set[str]:
    """Return those of some rollouts of which no silence is judged now, or will not be when somebody steers again."""
    spared = (rollouts.c.grace_until > now) | (rollouts.c.steered_at < steered_before)
    which = rollouts.c.id.in_(ids) & rollouts.c.state.in_([state.value for state in JUDGED]) & spared
    return set(connection.scalars(sa.select(rollouts.c.id).where(which))) if ids else set()


def forget_steered(connection: Connection) -> None:
    """Have rollouts that have not ended in a grace when they are steered next: nobody knows what came meanwhile."""
    over = [state.value for state in ROLLOUT_FINAL]
    which = rollouts.c.state.not_in(over) & rollouts.c.steered_at.is_not(None)
    connection.execute(sa.update(rollouts).where(which).values(steered_at=datetime.fromtimestamp(0, UTC)))


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
    """Write down what happened, and that webhooks are to be told."""
    number = connection.scalar(sa.insert(events).values(values).returning(events.c.id))
    told = sa.select(webhooks.c.id, sa.literal(number, events.c.id.type)).where(webhooks.c.rollouts)
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
    """Return who has approved what, and who of them may approve now."""
    may = users.c.disabled_at.is_(None) & users.c.role.in_(_APPROVERS)
    query = (
        sa.select(approvals.c.person, approvals.c.plan, sa.func.coalesce(may, sa.false()))
        .outerjoin(users, users.c.name == approvals.c.person)
        .where(approvals.c.rollout_id == identity)
    )
    return [Approval(*row) for row in connection.execute(query.order_by(approvals.c.at))]


def held(connection: Connection, ids: Collection[str]) -> set[str]:
    """Return those of some rollouts in which nothing may begin: they do not run, or the brake is on."""
    stands = (rollouts.c.state != RolloutState.RUNNING.value) | rollouts.c.failed_at.is_not(None)
    return set(connection.scalars(sa.select(rollouts.c.id).where(rollouts.c.id.in_(ids), stands))) if ids else set()


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
