"""What is written down once a day: what the fleet reported then, and how known issues concern machines on that day.

A day on which no server ran has no row: nothing is made up for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from hotmend.server.compliance.rules import OLD
from hotmend.server.compliance.tables import counts, days
from hotmend.server.context import Context
from hotmend.server.issues.store import facts_after, mark_judged, put_concerns
from hotmend.server.machines import fleet
from hotmend.server.machines.judging import program
from hotmend.server.machines.tables import findings, machines
from hotmend.server.worker import Worker
from hotmend.servicing.evaluate import evaluate
from hotmend.servicing.facts_json import facts_decode
from hotmend.wire.report import Fixed

_LOOK_SECONDS: Final = 30.0
_MACHINES: Final = 100
"""Judged in one transaction."""
_OLD: Final = sorted(OLD)
_LOG: Final = logging.getLogger("hotmend.server.compliance")


def take(context: Context, go_on: Callable[[], None] = lambda: None) -> bool:
    """Write the day down where no server has done so yet, and judge what is not judged today; False: one has written.

    The two do not rest on each other: what a server that was killed has not judged, the next look judges.

    Args:
        context: of the process.
        go_on: is called between two transactions; what it raises ends the look.
    """
    now = context.clock()
    written = _take(context, now)
    _judge(context, now.date(), go_on)
    return written


def _take(context: Context, now: datetime) -> bool:
    today = now.date()
    with context.database.read() as connection:
        if connection.scalar(sa.select(days.c.day).where(days.c.day == today)) is not None:
            return False
    try:
        with context.database.write() as connection:
            _write(connection, context, today, now)
    except IntegrityError:
        return False
    return True


def _write(connection: Connection, context: Context, today: date, now: datetime) -> None:
    present = sa.select(sa.func.count()).select_from(machines)
    silent = present.where(fleet.unseen(fleet.silent_since(context.settings, now)))
    here = sa.select(findings).join(machines, machines.c.id == findings.c.machine_id).where(machines.c.state != "left")
    shown = here.subquery()
    old = shown.c.fixed.in_(_OLD)
    exposed = sa.select(sa.func.count(shown.c.machine_id.distinct())).where(old)
    values = {
        "day": today,
        "at": now,
        "machines": connection.scalar(present.where(machines.c.state != "left")),
        "silent": connection.scalar(silent),
        "exposed": connection.scalar(exposed),
    }
    connection.execute(sa.insert(days).values(values))
    on = sa.select(shown.c.cve, sa.func.count(shown.c.machine_id.distinct())).where(old).group_by(shown.c.cve)
    having = {row[0]: row[1] for row in connection.execute(on)}
    rows: dict[str, dict[str, Any]] = {}
    grouped = sa.select(shown.c.cve, shown.c.fixed, sa.func.count()).group_by(shown.c.cve, shown.c.fixed)
    for cve, fixed, number in connection.execute(grouped):
        row = rows.setdefault(cve, {each.name.lower(): 0 for each in Fixed})
        row[Fixed(fixed).name.lower()] = number
    if rows:
        each = [{"day": today, "cve": cve, "machines": having.get(cve, 0), **row} for cve, row in rows.items()]
        connection.execute(sa.insert(counts), each)


def _judge(context: Context, today: date, go_on: Callable[[], None]) -> None:
    """Judge how known issues concern each machine that was not judged today; they go by days, not by hours."""
    noon, after = datetime.combine(today, time(12), UTC), ""
    while True:
        go_on()
        with context.database.read() as connection:
            rows = facts_after(connection, after, today, _MACHINES)
        if not rows:
            return
        found = [(row, evaluate(facts_decode(row["body"]), program(), noon).concerns) for row in rows]
        with context.database.write() as connection:
            for row, concerns in found:
                if mark_judged(connection, row["machine_id"], row["at"], today):
                    put_concerns(connection, row["machine_id"], concerns, today, row["at"])
        after = rows[-1]["machine_id"]


class Chronicler(Worker):
    """Writes each day down, in a thread of a server process.

    Args:
        context: of the process.
    """

    def __init__(self, context: Context) -> None:
        super().__init__("days", _LOOK_SECONDS)
        self._context = context

    def _round(self) -> None:
        take(self._context, self._go_on)
