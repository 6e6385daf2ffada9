"""What pages show of many machines: counts, and lists by what one looks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.machines import query, store
from hotmend.server.machines.tables import actions, brake, contacts, facts, findings, machines, reports, tags
from hotmend.server.settings import Settings
from hotmend.servicing.actions import FINAL, State
from hotmend.wire.api import Query

_FINAL: Final = tuple(sorted(state.value for state in FINAL))
_BAD: Final = tuple(sorted(state.value for state in State if state.bad))
_PRESENT: Final = machines.c.state != "left"
_OPEN_FIX: Final = ("on-disk", "nowhere")


@dataclass(frozen=True, slots=True)
class Counts:
    """The fleet in figures.

    Attributes:
        machines: that have not left; by state and platform.
        lines, enrollments, levels: value to machines; of levels the most frequent.
        sums: `restarts_avoided` and `reboots_avoided` until now, `restarts_due`: units; `reboots_due`, `waiting` and
            `alerts`: machines.
        unseen: active machines that were not heard of since a moment.
    """

    machines: int
    states: dict[str, int]
    platforms: dict[str, int]
    lines: dict[str, int]
    enrollments: dict[str, int]
    levels: list[tuple[str, str, int]]
    sums: dict[str, int]
    unseen: int


@dataclass(frozen=True, slots=True)
class Exposure:
    """Where the fixes of vulnerabilities are.

    Attributes:
        findings: where to how many vulnerable images of processes.
        open: vulnerabilities that are not fixed in memory somewhere: CVE, machines, since when.
        closed: vulnerabilities that are fixed in the memory of all machines that have them.
    """

    findings: dict[str, int] = field(default_factory=dict)
    open: list[RowMapping] = field(default_factory=list)
    open_count: int = 0
    closed: int = 0


def counts(connection: Connection, unseen_since: datetime) -> Counts:
    """Return the fleet in figures."""
    states = _grouped(connection, machines.c.state)
    platforms = _grouped(connection, machines.c.platform, _PRESENT)
    said = sa.select(
        *(
            sa.func.coalesce(sa.func.sum(each), 0).label(name)
            for name, each in (
                ("restarts_avoided", reports.c.restarts_avoided),
                ("reboots_avoided", reports.c.reboots_avoided),
                ("restarts_due", reports.c.restarts_due),
                ("reboots_due", sa.case((reports.c.reboot_due, 1), else_=0)),
                ("waiting", sa.case((reports.c.waiting > 0, 1), else_=0)),
                ("alerts", sa.case((reports.c.alerts > 0, 1), else_=0)),
            )
        )
    )
    row = (
        connection.execute(said.join(machines, machines.c.id == reports.c.machine_id).where(_PRESENT)).mappings().one()
    )
    level = (
        sa.select(reports.c.release, reports.c.level, sa.func.count())
        .join(machines, machines.c.id == reports.c.machine_id)
        .where(_PRESENT)
        .group_by(reports.c.release, reports.c.level)
        .order_by(sa.func.count().desc(), reports.c.release, reports.c.level)
        .limit(12)
    )
    late = sa.select(sa.func.count()).select_from(machines).join(contacts).where(unseen(unseen_since))
    return Counts(
        sum(number for state, number in states.items() if state != "left"),
        states,
        platforms,
        _grouped(connection, reports.c.line, _PRESENT),
        _grouped(connection, reports.c.enrollment, _PRESENT),
        [(each[0], each[1], each[2]) for each in connection.execute(level)],
        {name: int(value) for name, value in row.items()},
        int(connection.execute(late).scalar_one()),
    )


def exposure(connection: Connection, limit: int = 10) -> Exposure:
    """Return where the fixes are, and what is open for longest."""
    by_place = connection.execute(sa.select(findings.c.fixed, sa.func.count()).group_by(findings.c.fixed))
    still = (
        sa.select(
            findings.c.cve,
            sa.func.count(findings.c.machine_id.distinct()).label("machines"),
            sa.func.min(findings.c.since).label("since"),
        )
        .where(findings.c.fixed.in_(_OPEN_FIX), findings.c.cve != "")
        .group_by(findings.c.cve)
    )
    open_count = connection.execute(sa.select(sa.func.count()).select_from(still.subquery())).scalar_one()
    every = sa.select(sa.func.count(findings.c.cve.distinct())).where(findings.c.cve != "")
    first = still.order_by(sa.func.min(findings.c.since), findings.c.cve).limit(limit)
    return Exposure(
        {row[0]: row[1] for row in by_place},
        list(connection.execute(first).mappings()),
        open_count,
        connection.execute(every).scalar_one() - open_count,
    )


def halt(connection: Connection) -> RowMapping | None:
    """Return why nothing new begins anywhere, who said so and when; None where it may."""
    return connection.execute(sa.select(brake).where(brake.c.halted)).mappings().one_or_none()


def silent_since(settings: Settings, now: datetime) -> datetime:
    """Return the moment before which a machine that was not heard of is one to look after."""
    return now - max(3 * timedelta(seconds=settings.check_in_seconds), timedelta(minutes=5))


def running_actions(connection: Connection, limit: int = 20) -> list[RowMapping]:
    """Return actions that have not ended, the last changed first, with their machine's name."""
    found = _actions().where(actions.c.state.not_in(_FINAL))
    return list(connection.execute(found.order_by(actions.c.changed_at.desc(), actions.c.id).limit(limit)).mappings())


def failed_actions(connection: Connection, since: datetime, limit: int = 20) -> list[RowMapping]:
    """Return actions that ended badly since a moment, newest first, with their machine's name."""
    found = _actions().where(actions.c.state.in_(_BAD), actions.c.changed_at >= since)
    return list(connection.execute(found.order_by(actions.c.changed_at.desc(), actions.c.id).limit(limit)).mappings())


def page(
    connection: Connection, asked: Query, more: Sequence[sa.ColumnElement[bool]], cursor: str, limit: int
) -> tuple[list[RowMapping], str, int]:
    """Return machines by name, the cursor of the page after ("" at the end), and how many there are in all.

    Raises:
        Problem: not a cursor of ours.
    """
    found = store.listing().where(*query.conditions(asked), *more)
    total = int(connection.execute(sa.select(sa.func.count()).select_from(found.subquery())).scalar_one())
    shown = found.where(query.after(cursor)) if cursor else found
    rows = list(connection.execute(shown.order_by(machines.c.name, machines.c.id).limit(limit + 1)).mappings())
    after = query.cursor_of(rows[limit - 1]["name"], rows[limit - 1]["id"]) if len(rows) > limit else ""
    return rows[:limit], after, total


def at_level(level: str) -> sa.ColumnElement[bool]:
    """Return the condition of machines that say they are at a level."""
    return reports.c.level == level


def unseen(since: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of machines that take part and were not heard of since a moment."""
    late = sa.or_(contacts.c.seen_at < since, contacts.c.seen_at.is_(None))
    return sa.and_(machines.c.state == "active", machines.c.public_key.is_not(None), late)


def with_facts(connection: Connection, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return machines whose facts are known, by name: `id`, `name`, `body`, `at`; and the cursor of the page after.

    Raises:
        Problem: not a cursor of ours.
    """
    found = (
        sa.select(machines.c.id, machines.c.name, facts.c.body, facts.c.at)
        .join(facts, facts.c.machine_id == machines.c.id)
        .where(_PRESENT)
        .order_by(machines.c.name, machines.c.id)
        .limit(limit + 1)
    )
    shown = found.where(query.after(cursor)) if cursor else found
    rows = list(connection.execute(shown).mappings())
    after = query.cursor_of(rows[limit - 1]["name"], rows[limit - 1]["id"]) if len(rows) > limit else ""
    return rows[:limit], after


def facts_of(connection: Connection, identity: str) -> RowMapping | None:
    """Return a machine's facts: `body`, `at`; None where it has sent none."""
    return connection.execute(sa.select(facts).where(facts.c.machine_id == identity)).mappings().one_or_none()


def tag_names(connection: Connection, limit: int = 200) -> list[str]:
    """Return the tags that there are, as `name=value`."""
    found = sa.select(tags.c.name, tags.c.value).distinct().order_by(tags.c.name, tags.c.value).limit(limit)
    return [f"{row.name}={row.value}" for row in connection.execute(found)]


def releases(connection: Connection, limit: int = 100) -> list[str]:
    """Return the operating systems that there are."""
    found = sa.select(reports.c.release).where(reports.c.release != "").distinct().order_by(reports.c.release)
    return list(connection.execute(found.limit(limit)).scalars())


def _actions() -> sa.Select[Any]:
    return sa.select(actions, machines.c.name.label("machine")).join(machines, machines.c.id == actions.c.machine_id)


def _grouped(
    connection: Connection, column: sa.ColumnElement[str], where: sa.ColumnElement[bool] | None = None
) -> dict[str, int]:
    found = sa.select(column, sa.func.count()).select_from(machines).group_by(column)
    if column.table is reports:
        found = found.join(reports, reports.c.machine_id == machines.c.id)
    if where is not None:
        found = found.where(where)
    return {row[0]: row[1] for row in connection.execute(found)}
