"""Making evidence: what the server knows of its machines now, signed with a key that signs nothing else."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from hotmend.server.audit.store import append
from hotmend.server.audit.tables import audit_head
from hotmend.server.compliance import store
from hotmend.server.compliance.tables import evidence_key
from hotmend.server.context import Context
from hotmend.server.identity.access import Principal
from hotmend.server.machines import fleet, query
from hotmend.server.machines.tables import contacts, findings, machines, reports
from hotmend.server.problem import Problem
from hotmend.wire.api import Query
from hotmend.wire.evidence import Evidence, Exposed, MachineEvidence, Place, sign
from hotmend.wire.keys import SigningKey

MACHINES_MAX: Final = 20_000
"""In one file: more are given in parts, by tag or name."""


def key(context: Context) -> SigningKey:
    """Return the evidence key; it is made by the first who asks."""
    seed = _seed(context)
    if seed is None:
        made = SigningKey.generate().seed.hex()
        try:
            with context.database.write() as connection:
                connection.execute(sa.insert(evidence_key).values(id=1, seed=made, created_at=context.clock()))
        except IntegrityError:  # another was first
            made = str(_seed(context))
        seed = made
    return SigningKey(bytes.fromhex(seed))


def _seed(context: Context) -> str | None:
    with context.database.read() as connection:
        return connection.scalar(sa.select(evidence_key.c.seed))


def made(context: Context, caller: Principal, asked: Query) -> bytes:
    """Return the signed evidence about the machines that are meant; that it was given is in the audit record.

    Raises:
        Problem: too many machines for one file.
    """
    signing, now = key(context), context.clock()
    given = {name: value for name, value in asdict(asked).items() if value not in (None, "", {})}
    with context.database.write() as connection:
        append(connection, now, caller.name, "evidence.make", "", {"query": given})
    with context.database.read() as connection:
        if connection.execute(query.count(asked)).scalar_one() > MACHINES_MAX:
            raise Problem(422, "too-many", f"evidence is about at most {MACHINES_MAX} machines", "ask for a tag")
        head = connection.execute(sa.select(audit_head)).mappings().one()
        found = Evidence(
            1,
            now,
            caller.name,
            context.settings.public_url,
            msgspec.to_builtins(given),
            head["number"],
            head["hash"],
            _machines(connection, asked, fleet.silent_since(context.settings, now)),
            [
                Exposed(
                    row["machine"],
                    row["subject"],
                    row["brings"],
                    row["published_at"],
                    row["opened_at"],
                    row["closed_at"],
                    row["how"],
                )
                for row in store.exposure_rows(connection, asked)
            ],
        )
    return sign(found, signing)


def _machines(connection: Connection, asked: Query, silent_since: Any) -> list[MachineEvidence]:
    meant = query.ids(asked)
    places: dict[str, list[Place]] = {}
    grouped = (
        sa.select(
            findings.c.machine_id,
            findings.c.cve,
            findings.c.brings,
            findings.c.fixed,
            sa.func.count().label("images"),
            sa.func.min(findings.c.since).label("since"),
        )
        .where(findings.c.machine_id.in_(meant))
        .group_by(findings.c.machine_id, findings.c.cve, findings.c.brings, findings.c.fixed)
        .order_by(findings.c.cve, findings.c.brings, findings.c.fixed)
    )
    for row in connection.execute(grouped):
        place = Place(row.cve, row.brings, row.fixed, row.images, row.since)
        places.setdefault(row.machine_id, []).append(place)
    rows = (
        sa.select(machines, contacts.c.seen_at, reports.c.at, reports.c.hash, *_SAID)
        .outerjoin(contacts, contacts.c.machine_id == machines.c.id)
        .outerjoin(reports, reports.c.machine_id == machines.c.id)
        .where(machines.c.id.in_(meant))
        .order_by(machines.c.name, machines.c.id)
    )
    return [
        MachineEvidence(
            row["id"],
            row["name"],
            row["state"],
            row["release"] or "",
            row["level"] or "",
            row["line"] or "",
            row["enrollment"] or "",
            row["hash"] or "",
            row["at"],
            row["seen_at"],
            row["public_key"] is not None and (row["seen_at"] is None or row["seen_at"] < silent_since),
            places.get(row["id"], []),
        )
        for row in connection.execute(rows).mappings()
    ]


_SAID: Final = (reports.c.release, reports.c.level, reports.c.line, reports.c.enrollment)
