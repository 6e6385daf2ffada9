"""Facts of machines without an agent: uploaded, judged by the rules, and shown like a report."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.reference.shipped import program as shipped
from hotmend.server.audit.store import append
from hotmend.server.compliance.following import installed
from hotmend.server.context import Context
from hotmend.server.identity.access import Principal
from hotmend.server.issues.store import put_concerns
from hotmend.server.machines import store
from hotmend.server.machines.reporting import put_report
from hotmend.server.machines.tables import contacts, facts, machines
from hotmend.server.problem import Problem, conflict
from hotmend.servicing.evaluate import Program, evaluate
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.facts_json import facts_decode
from hotmend.wire.judged import judged


@cache
def program() -> Program:
    """Return calendar, products and known issues that come with hotmend."""
    return shipped()


def upload(context: Context, caller: Principal, name: str, body: bytes) -> str:
    """Keep the facts of a machine without an agent; return its id. One that is new is added.

    Raises:
        InputError: these are no facts.
        Problem: no name, or a machine of this name has an agent that speaks for it.
    """
    if not 0 < len(name) <= 253 or "\0" in name or b"\\u0000" in body:
        raise Problem(422, "name", "a name has 1 to 253 characters")
    given = facts_decode(body)
    now = context.clock()
    answers = evaluate(given, program(), now)
    with context.database.write() as connection:
        identity = _machine(connection, name, given, now)
        connection.execute(sa.delete(facts).where(facts.c.machine_id == identity))
        connection.execute(sa.insert(facts).values(machine_id=identity, at=given.collected_at, body=body))
        put_report(connection, identity, judged(given, answers), now)
        if answers.avoided is not None and answers.avoided.complete:
            installed(connection, identity, answers.avoided.exposures)
        put_concerns(connection, identity, answers.concerns, now.date(), given.collected_at)
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
