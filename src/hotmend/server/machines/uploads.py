"""Facts of machines without an agent: uploaded, judged by the rules, and shown like a report."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.audit.store import append
from hotmend.server.context import Context
from hotmend.server.identity.access import Principal
from hotmend.server.machines import store
from hotmend.server.machines.judging import facts_of, keep_facts, program
from hotmend.server.machines.reporting import put_report
from hotmend.server.machines.tables import contacts, machines
from hotmend.server.problem import Problem, conflict
from hotmend.servicing.evaluate import evaluate
from hotmend.servicing.facts import MachineFacts
from hotmend.wire.judged import judged


def upload(context: Context, caller: Principal, name: str, body: bytes) -> str:
    """Keep the facts of a machine without an agent; return its id. One that is new is added.

    Raises:
        InputError: these are no facts.
        Problem: no name, or a machine of this name has an agent that speaks for it.
    """
    if not 0 < len(name) <= 253 or "\0" in name:
        raise Problem(422, "name", "a name has 1 to 253 characters")
    given = facts_of(body)
    now = context.clock()
    answers = evaluate(given, program(), now)
    with context.database.write() as connection:
        identity = _machine(connection, name, given, now)
        put_report(connection, identity, judged(given, answers), now)
        keep_facts(connection, identity, given, body, answers, now)
        connection.execute(sa.update(contacts).where(contacts.c.machine_id == identity).values(seen_at=now))
        append(connection, now, caller.name, "facts.upload", identity, {"name": name})
    return identity


def _machine(connection: Connection, name: str, given: MachineFacts, now: datetime) -> str:
    query = sa.select(machines.c.id, machines.c.public_key).where(machines.c.name == name, machines.c.state != "left")
    found = connection.execute(query.with_for_update()).all()
    if any(row.public_key is not None for row in found):
        raise conflict("has-agent", f"{name} has an agent that speaks for it")
    if found:
        return str(found[0].id)
    values: dict[str, Any] = {
        "name": name,
        "state": "active",
        "platform": "windows" if given.windows is not None else "linux",
        "tier": "stable",
        "host_machine": hashlib.sha256(f"facts of {name}".encode()).hexdigest(),
        "registered_at": now,
        "approved_at": now,
    }
    identity = store.insert_machine(connection, values, {})
    store.add_event(connection, identity, now, "uploaded", "facts of a machine without an agent")
    return identity
