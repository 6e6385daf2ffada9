"""Vulnerabilities of the fleet, from what machines report of their processes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.machines import query
from hotmend.server.machines.tables import findings
from hotmend.wire.api import Query
from hotmend.wire.report import Fixed


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One vulnerability; the counts are of images of processes.

    Attributes:
        cve: which.
        in_memory, everywhere, on_disk, nowhere: how many, by where the fix is.
        since: the first machine that has it reported so then.
    """

    cve: str
    in_memory: int
    everywhere: int
    on_disk: int
    nowhere: int
    since: datetime

    @property
    def open(self) -> int:
        """How many run the old code."""
        return self.on_disk + self.nowhere


def vulnerabilities(connection: Connection, asked: Query) -> list[Vulnerability]:
    """Return the vulnerabilities of the machines that are meant: open ones first, of these the oldest."""
    grouped = (
        sa.select(findings.c.cve, findings.c.fixed, sa.func.count(), sa.func.min(findings.c.since))
        .where(findings.c.cve != "", findings.c.machine_id.in_(query.ids(asked)))
        .group_by(findings.c.cve, findings.c.fixed)
    )
    numbers: dict[str, dict[str, int]] = {}
    since: dict[str, datetime] = {}
    for cve, fixed, number, first in connection.execute(grouped):
        numbers.setdefault(cve, dict.fromkeys(Fixed, 0))[fixed] = number
        since[cve] = min(first, since.get(cve, first))
    found = [
        Vulnerability(cve, by[Fixed.IN_MEMORY], by[Fixed.EVERYWHERE], by[Fixed.ON_DISK], by[Fixed.NOWHERE], since[cve])
        for cve, by in numbers.items()
    ]
    return sorted(found, key=lambda each: (not each.open, each.since, each.cve))
