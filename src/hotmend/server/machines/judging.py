"""Facts of a machine, judged by the rules: uploaded for it, or sent by its own agent with a report."""

from __future__ import annotations

from datetime import datetime
from functools import cache

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.model.errors import InputError
from hotmend.reference.shipped import program as shipped
from hotmend.server.compliance.following import installed
from hotmend.server.issues.store import put_concerns
from hotmend.server.machines.tables import facts
from hotmend.servicing.evaluate import Answers, Program, evaluate
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.facts_json import facts_decode


@cache
def program() -> Program:
    """Return calendar, products and known issues that come with hotmend."""
    return shipped()


def facts_of(body: bytes) -> MachineFacts:
    """Return facts that a database can keep.

    Raises:
        InputError: these are none.
    """
    if b"\\u0000" in body:
        raise InputError("facts with a character that no database keeps")
    return facts_decode(body)


def keep_facts(
    connection: Connection, identity: str, given: MachineFacts, body: bytes, answers: Answers, now: datetime
) -> None:
    """Keep facts in place of those before, and what the rules say of updates and known issues."""
    connection.execute(sa.delete(facts).where(facts.c.machine_id == identity))
    connection.execute(
        sa.insert(facts).values(machine_id=identity, at=given.collected_at, body=body, judged=now.date())
    )
    if answers.avoided is not None and answers.avoided.complete:
        installed(connection, identity, answers.avoided.exposures)
    put_concerns(connection, identity, answers.concerns, now.date(), given.collected_at)


def take_facts(connection: Connection, identity: str, body: bytes, now: datetime) -> None:
    """Keep the facts that a machine has sent with its report; what are none are left out, and the report stays."""
    try:
        given = facts_of(body)
    except InputError:
        return
    keep_facts(connection, identity, given, body, evaluate(given, program(), now), now)
