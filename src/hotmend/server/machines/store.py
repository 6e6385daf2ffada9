"""Rows of machines, their tags, events and actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.database import new_id
from hotmend.server.machines.rules import Before
from hotmend.server.machines.tables import action_events, actions, contacts, events, findings, machines, reports, tags
from hotmend.server.paging import page
from hotmend.servicing.actions import FINAL, WAITING, State

_FINAL: Final = tuple(sorted(state.value for state in FINAL))


def hosts_of(connection: Connection, machine: str) -> list[Before]:
    """Return the machines that have not left and have this /etc/machine-id, oldest first."""
    query = (
        sa.select(machines.c.id, machines.c.host_hardware, contacts.c.seen_at)
        .join(contacts, contacts.c.machine_id == machines.c.id)
        .where(machines.c.host_machine == machine, machines.c.state != "left")
    )
    rows = connection.execute(query.order_by(machines.c.registered_at, machines.c.id))
    return [Before(row.id, row.host_hardware, row.seen_at is not None) for row in rows]


def insert_machine(connection: Connection, values: Mapping[str, Any], tag_values: Mapping[str, str]) -> str:
    """Add a machine with its tags; return its id."""
    identity = new_id()
    connection.execute(sa.insert(machines).values(id=identity, **values))
    connection.execute(sa.insert(contacts).values(machine_id=identity))
    put_tags(connection, identity, tag_values)
    return identity


def update_machine(connection: Connection, identity: str, values: Mapping[str, Any]) -> None:
    """Change a machine; its version grows."""
    connection.execute(
        sa.update(machines).where(machines.c.id == identity).values(**values, version=machines.c.version + 1)
    )


def reset_contact(connection: Connection, identity: str, counter: int) -> None:
    """Begin to count anew, for another key."""
    values = {"counter": counter, "signed_at": 0, "report_hash": "", "policy": ""}
    connection.execute(sa.update(contacts).where(contacts.c.machine_id == identity).values(values))


def contact(connection: Connection, identity: str) -> RowMapping | None:
    """Return a machine's key, state, and the counter that was heard last; no check-in of it is taken until the end."""
    query = (
        sa.select(machines.c.public_key, machines.c.state, contacts.c.counter)
        .join(contacts, contacts.c.machine_id == machines.c.id)
        .where(machines.c.id == identity)
    )
    return connection.execute(query.with_for_update(of=contacts)).mappings().one_or_none()


def machine(connection: Connection, identity: str, *, lock: bool = False) -> RowMapping | None:
    """Return a machine with its last contact and report."""
    query = listing().where(machines.c.id == identity)
    if lock:
        query = query.with_for_update(of=machines)
    return connection.execute(query).mappings().one_or_none()


def listing() -> sa.Select[Any]:
    """Return the query of all machines, each with what a list shows."""
    shown = [each for each in machines.c if each.name not in ("public_key", "labels", "clock")]
    said = [each for each in reports.c if each.name not in ("machine_id", "at", "hash", "body")]
    return (
        sa.select(
            *shown,
            machines.c.public_key,
            contacts.c.seen_at,
            contacts.c.looked_at,
            contacts.c.agent,
            contacts.c.wire,
            contacts.c.policy.label("policy_held"),
            reports.c.at.label("reported_at"),
            *said,
        )
        .join(contacts, contacts.c.machine_id == machines.c.id)
        .outerjoin(reports, reports.c.machine_id == machines.c.id)
    )


def put_tags(connection: Connection, identity: str, values: Mapping[str, str]) -> None:
    """Give a machine these tags and no other."""
    connection.execute(sa.delete(tags).where(tags.c.machine_id == identity))
    rows = [{"machine_id": identity, "name": name, "value": value} for name, value in values.items()]
    if rows:
        connection.execute(sa.insert(tags), rows)
    connection.execute(sa.update(machines).where(machines.c.id == identity).values(labels=labels_of(values)))


def labels_of(values: Mapping[str, str]) -> str:
    """Return tags as one text, the same for the same tags."""
    return msgspec.json.encode(values, order="deterministic").decode()


def tags_from(labels: str) -> dict[str, str]:
    """Return the tags that a text of `labels_of` has."""
    return msgspec.json.decode(labels, type=dict[str, str])


def tags_of(connection: Connection, identities: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the tags of machines."""
    found: dict[str, dict[str, str]] = {identity: {} for identity in identities}
    query = sa.select(tags).where(tags.c.machine_id.in_(list(identities))).order_by(tags.c.name)
    for row in connection.execute(query):
        found[row.machine_id][row.name] = row.value
    return found


def add_event(connection: Connection, identity: str, now: datetime, kind: str, detail: str) -> None:
    """Write down what happened to a machine."""
    connection.execute(sa.insert(events).values(machine_id=identity, at=now, kind=kind, detail=detail[:2000]))


def events_of(connection: Connection, identity: str, before: int | None, limit: int) -> list[RowMapping]:
    """Return what happened to a machine, newest first."""
    query = sa.select(events).where(events.c.machine_id == identity).order_by(events.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(events.c.id < before)
    return list(connection.execute(query).mappings())


def report_body(connection: Connection, identity: str) -> bytes | None:
    """Return the JSON of a machine's report."""
    return connection.execute(sa.select(reports.c.body).where(reports.c.machine_id == identity)).scalar_one_or_none()


def findings_of(connection: Connection, identity: str) -> list[RowMapping]:
    """Return the vulnerabilities in a machine's processes, as it reported them."""
    query = sa.select(findings).where(findings.c.machine_id == identity).order_by(findings.c.number)
    return list(connection.execute(query).mappings())


def insert_action(connection: Connection, values: Mapping[str, Any]) -> str:
    """Plan an action; return its id."""
    identity = new_id()
    connection.execute(sa.insert(actions).values(id=identity, **values))
    row = {"action_id": identity, "number": 1, "at": values["created_at"], "detail": "", "state": State.SCHEDULED.value}
    connection.execute(sa.insert(action_events).values(row))
    return identity


def action(connection: Connection, identity: str, *, lock: bool = False) -> RowMapping | None:
    """Return an action."""
    query = sa.select(actions).where(actions.c.id == identity)
    if lock:
        query = query.with_for_update()
    return connection.execute(query).mappings().one_or_none()


def action_page(connection: Connection, identity: str, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return a machine's actions, newest first, and the cursor of those behind them."""
    query = sa.select(actions).where(actions.c.machine_id == identity)
    return page(connection, query, ((actions.c.created_at, True), (actions.c.id, False)), cursor, limit)


def actions_of(connection: Connection, identity: str, limit: int) -> list[RowMapping]:
    """Return a machine's actions, newest first."""
    query = sa.select(actions).where(actions.c.machine_id == identity)
    return list(connection.execute(query.order_by(actions.c.created_at.desc(), actions.c.id).limit(limit)).mappings())


def action_events_of(connection: Connection, identity: str) -> list[RowMapping]:
    """Return the states that an action came to, oldest first."""
    query = sa.select(action_events).where(action_events.c.action_id == identity).order_by(action_events.c.number)
    return list(connection.execute(query).mappings())


def waiting_actions(connection: Connection, identity: str) -> list[str]:
    """Return the ids of a machine's actions that it has not begun."""
    states = [state.value for state in WAITING]
    query = sa.select(actions.c.id).where(actions.c.machine_id == identity, actions.c.state.in_(states))
    return list(connection.execute(query).scalars())


def open_actions(connection: Connection, identity: str) -> Sequence[RowMapping]:
    """Return a machine's actions that have not ended, locked: `id`, `kind`, `handed_at`, `rollout_id`."""
    columns = actions.c.id, actions.c.kind, actions.c.handed_at, actions.c.rollout_id
    query = sa.select(*columns).where(actions.c.machine_id == identity, actions.c.state.not_in(_FINAL))
    return connection.execute(query.order_by(actions.c.id).with_for_update()).mappings().all()
