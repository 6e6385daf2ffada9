"""What pages show of many machines: counts, and lists by what one looks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.machines import query, store
from hotmend.server.machines.tables import (
    IS_BAD,
    IS_OPEN,
    actions,
    brake,
    contacts,
    facts,
    findings,
    machines,
    reports,
    tags,
)
from hotmend.server.settings import Settings
from hotmend.wire.api import Query

_PRESENT: Final = machines.c.state != "left"
LEVELS_MAX: Final = 12
SUMS: Final = ("restarts_avoided", "reboots_avoided", "restarts_due", "reboots_due", "waiting", "asking", "alerts")
_FIRST_LOOK: Final = timedelta(hours=3)
"""By then a machine that was taken in has been looked at."""
_OPEN_FIX: Final = ("on-disk", "nowhere")


@dataclass(frozen=True, slots=True)
class Counts:
    """The fleet in figures.

    Attributes:
        machines: that have not left; by state and platform.
        lines, enrollments, levels: value to machines; of levels the most frequent.
        sums: `restarts_avoided` and `reboots_avoided` until now, `restarts_due`: units; `reboots_due`, `waiting` and
            `alerts`: machines; `asking`: those of `waiting` that take nothing by themselves, so that a person has to.
        unseen: active machines that were not heard of since a moment.
        blind: active machines that were, and whose agent does not look.
    """

    machines: int
    states: Mapping[str, int]
    platforms: Mapping[str, int]
    lines: Mapping[str, int]
    enrollments: Mapping[str, int]
    levels: list[tuple[str, str, int]]
    sums: Mapping[str, int]
    unseen: int
    blind: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """A vulnerability that is not fixed in the memory of `machines` machines, the first of them since a moment."""

    cve: str
    machines: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Exposure:
    """Where the fixes of vulnerabilities are.

    Attributes:
        findings: where to how many vulnerable images of processes.
        open: the oldest of those that are not fixed in the memory of some machine; open_count: how many there are.
        closed: vulnerabilities that are fixed in the memory of all machines that have them.
    """

    findings: Mapping[str, int]
    open: list[Open]
    open_count: int
    closed: int


def counts(connection: Connection, unseen_since: datetime, now: datetime) -> Counts:
    """Return the fleet in figures: each table is read once."""
    by_kind = sa.select(machines.c.state, machines.c.platform, sa.func.count())
    states, platforms = Counter[str](), Counter[str]()
    for state, platform, number in connection.execute(by_kind.group_by(machines.c.state, machines.c.platform)):
        states[state] += number
        if state != "left":
            platforms[platform] += number
    keys = (reports.c.release, reports.c.level, reports.c.line, reports.c.enrollment)
    said = (
        sa.select(*keys, sa.func.count().label("machines"), *_sums())
        .join(machines, machines.c.id == reports.c.machine_id)
        .where(_PRESENT)
        .group_by(*keys)
    )
    lines, enrollments, sums = Counter[str](), Counter[str](), Counter[str]()
    levels = Counter[tuple[str, str]]()
    for row in connection.execute(said).mappings():
        number = row["machines"]
        lines[row["line"]] += number
        enrollments[row["enrollment"]] += number
        levels[row["release"], row["level"]] += number
        sums.update({name: int(row[name]) for name in SUMS})
    late = sa.select(sa.func.count()).select_from(machines).where(unseen(unseen_since))
    blindly = sa.select(sa.func.count()).select_from(machines).where(blind(unseen_since, now))
    return Counts(
        platforms.total(),
        states,
        platforms,
        lines,
        enrollments,
        [(release, level, number) for (release, level), number in levels.most_common(LEVELS_MAX)],
        {name: sums[name] for name in SUMS},
        int(connection.execute(late).scalar_one()),
        int(connection.execute(blindly).scalar_one()),
    )


def _sums() -> list[sa.Label[Any]]:
    made = {
        "restarts_avoided": reports.c.restarts_avoided,
        "reboots_avoided": reports.c.reboots_avoided,
        "restarts_due": reports.c.restarts_due,
        "reboots_due": sa.case((reports.c.reboot_due, 1), else_=0),
        "waiting": sa.case((reports.c.waiting > 0, 1), else_=0),
        "asking": sa.case((asking(), 1), else_=0),
        "alerts": sa.case((reports.c.alerts > 0, 1), else_=0),
    }
    return [sa.func.sum(made[name]).label(name) for name in SUMS]


def exposure(connection: Connection, limit: int = 10) -> Exposure:
    """Return where the fixes are, and what is open for longest."""
    places, every, still = Counter[str](), set[str](), dict[str, datetime]()
    grouped = sa.select(findings.c.cve, findings.c.fixed, sa.func.count(), sa.func.min(findings.c.since))
    for cve, fixed, number, since in connection.execute(grouped.group_by(findings.c.cve, findings.c.fixed)):
        places[fixed] += number
        if cve:
            every.add(cve)
            if fixed in _OPEN_FIX:
                still[cve] = min(since, still.get(cve, since))
    oldest = sorted(still, key=lambda cve: (still[cve], cve))[:limit]
    on = (
        sa.select(findings.c.cve, sa.func.count(findings.c.machine_id.distinct()))
        .where(findings.c.cve.in_(oldest), findings.c.fixed.in_(_OPEN_FIX))
        .group_by(findings.c.cve)
    )
    have = {row[0]: row[1] for row in connection.execute(on)}
    return Exposure(places, [Open(cve, have[cve], still[cve]) for cve in oldest], len(still), len(every) - len(still))


def halt(connection: Connection) -> RowMapping | None:
    """Return why nothing new begins anywhere, who said so and when; None where it may."""
    return connection.execute(sa.select(brake).where(brake.c.halted)).mappings().one_or_none()


def silent_since(settings: Settings, now: datetime) -> datetime:
    """Return the moment before which a machine that was not heard of is one to look after."""
    return now - max(3 * timedelta(seconds=settings.check_in_seconds), timedelta(minutes=5))


def running_actions(connection: Connection, limit: int = 20) -> list[RowMapping]:
    """Return actions that have not ended, the last changed first, with their machine's name."""
    return _actions(connection, IS_OPEN, limit)


def failed_actions(connection: Connection, since: datetime, limit: int = 20) -> list[RowMapping]:
    """Return actions that ended badly since a moment, newest first, with their machine's name."""
    return _actions(connection, sa.and_(IS_BAD, actions.c.changed_at >= since), limit)


def page(
    connection: Connection, asked: Query, more: Sequence[sa.ColumnElement[bool]], cursor: str, limit: int
) -> tuple[list[RowMapping], str, int]:
    """Return machines by name, the cursor of the page after ("" at the end), and how many there are in all.

    Raises:
        Problem: not a cursor of ours.
    """
    found = store.listing().where(*query.conditions(asked), *more)
    total = int(connection.execute(query.count(asked).where(*more)).scalar_one())
    shown = found.where(query.after(cursor)) if cursor else found
    rows = list(connection.execute(shown.order_by(machines.c.name, machines.c.id).limit(limit + 1)).mappings())
    after = query.cursor_of(rows[limit - 1]["name"], rows[limit - 1]["id"]) if len(rows) > limit else ""
    return rows[:limit], after, total


def at_level(level: str) -> sa.ColumnElement[bool]:
    """Return the condition of machines that say they are at a level."""
    return reports.c.level == level


def asking() -> sa.ColumnElement[bool]:
    """Return the condition of machines whose updates wait for a person: they take none by themselves."""
    return sa.and_(reports.c.waiting > 0, reports.c.mode != "automatic")


def unseen(since: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of machines that take part and were not heard of since a moment."""
    late = sa.select(contacts.c.machine_id).where(sa.or_(contacts.c.seen_at < since, contacts.c.seen_at.is_(None)))
    return sa.and_(machines.c.state == "active", machines.c.public_key.is_not(None), machines.c.id.in_(late))


def blind(since: datetime, now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of machines that take part, were heard of since a moment, and are not looked at any more.

    The part of an agent that has a network goes on alone where the part that acts does not: what such a machine is
    taken for is what it was. Of agents of earlier versions it is not known when they looked.
    """
    overdue = sa.select(contacts.c.machine_id).where(contacts.c.seen_at >= since, contacts.c.look_by < now)
    heard = sa.select(contacts.c.machine_id).where(contacts.c.seen_at >= since)
    never = machines.c.id.in_(heard) & machines.c.id.not_in(sa.select(reports.c.machine_id))
    active = sa.and_(machines.c.state == "active", machines.c.public_key.is_not(None))
    return active & (machines.c.id.in_(overdue) | (never & (machines.c.registered_at < now - _FIRST_LOOK)))


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


def _actions(connection: Connection, which: sa.ColumnElement[bool] | sa.TextClause, limit: int) -> list[RowMapping]:
    last = sa.select(actions).where(which).order_by(actions.c.changed_at.desc(), actions.c.id).limit(limit).subquery()
    named = sa.select(last, machines.c.name.label("machine")).join(machines, machines.c.id == last.c.machine_id)
    return list(connection.execute(named.order_by(last.c.changed_at.desc(), last.c.id)).mappings())
