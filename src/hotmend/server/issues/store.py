"""Rows of how known issues concern machines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.compliance.tables import concerns
from hotmend.server.machines.tables import IS_OPEN, actions, facts, machines
from hotmend.servicing.known_issues import Concern
from hotmend.wire.report import Issue

_OF_RELEASE: Final = concerns.c.issue.contains("/")
"""Issues of a channel's releases are called RELEASE/NUMBER, and those of the rules have no slash in theirs."""


@dataclass(frozen=True, slots=True)
class Totals:
    """How many machines an issue concerns.

    Attributes:
        affected, perhaps: that are, or of which it cannot be told; workaround not complete.
        done: whose workaround is complete.
        overdue: whose deadline is over.
    """

    affected: int = 0
    perhaps: int = 0
    done: int = 0
    overdue: int = 0

    @property
    def machines(self) -> int:
        """How many it concerns in any way."""
        return self.affected + self.perhaps + self.done


def put_concerns(
    connection: Connection, identity: str, found: Iterable[Concern], day: date, facts_at: datetime
) -> None:
    """Keep how issues of the rules concern a machine by its facts, in place of what was kept of such before."""
    rows = [
        {
            "machine_id": identity,
            "issue": each.issue.id,
            "affected": each.affected,
            "done": each.done,
            "overdue": each.overdue,
            **_furthest(option.proven for option in each.options),
            "day": day,
            "facts_at": facts_at,
        }
        for each in found
    ]
    _put(connection, identity, ~_OF_RELEASE, rows)


def put_reported(connection: Connection, identity: str, found: Iterable[Issue], at: datetime) -> None:
    """Keep how issues of releases concern a machine by its own report, in place of what it reported of such before.

    An issue that does not concern it, or that it names twice, is kept not at all, or once.
    """
    rows = {
        each.id: {
            "machine_id": identity,
            "issue": each.id,
            "affected": each.affected,
            "done": each.done,
            "overdue": each.overdue,
            **_furthest([step.proven for step in option.steps] for option in each.options),
            "day": at.date(),
            "facts_at": at,
            "title": each.title,
        }
        for each in found
        if each.affected is not False
    }
    _put(connection, identity, _OF_RELEASE, list(rows.values()))


def has_reported(identity: sa.ColumnElement[str]) -> sa.Exists:
    """Return the condition that an issue of a release is kept of a machine."""
    return sa.exists().where(concerns.c.machine_id == identity, _OF_RELEASE)


def _put(connection: Connection, identity: str, which: sa.ColumnElement[bool], rows: list[dict[str, Any]]) -> None:
    connection.execute(sa.delete(concerns).where(concerns.c.machine_id == identity, which))
    if rows:
        connection.execute(sa.insert(concerns), rows)


def _furthest(options: Iterable[Sequence[bool | None]]) -> dict[str, int]:
    """Return how many steps of how many are proven, of the workaround that has come furthest."""
    each = [(sum(step is True for step in one), len(one)) for one in options]
    proven, steps = max(each, key=lambda pair: (pair[0] / pair[1] if pair[1] else 0, pair[0]), default=(0, 0))
    return {"proven": proven, "steps": steps}


def totals(connection: Connection) -> dict[str, Totals]:
    """Return how many machines each issue concerns, over the whole fleet."""
    query = (
        sa.select(concerns.c.issue, concerns.c.affected, concerns.c.done, concerns.c.overdue, sa.func.count())
        .join(machines, machines.c.id == concerns.c.machine_id)
        .where(machines.c.state != "left")
        .group_by(concerns.c.issue, concerns.c.affected, concerns.c.done, concerns.c.overdue)
    )
    found: dict[str, list[int]] = {}
    for issue, affected, done, overdue, count in connection.execute(query):
        each = found.setdefault(issue, [0, 0, 0, 0])
        each[2 if done else 0 if affected else 1] += count
        each[3] += count if overdue else 0
    return {issue: Totals(*numbers) for issue, numbers in found.items()}


def concerned(connection: Connection, issue: str, after: str, limit: int) -> list[RowMapping]:
    """Return machines that an issue concerns, those first whose workaround is not complete, with what runs there."""
    runs = (
        sa.select(sa.func.count())
        .select_from(actions)
        .where(actions.c.machine_id == concerns.c.machine_id, IS_OPEN)
        .scalar_subquery()
    )
    here = machines.join(concerns, concerns.c.machine_id == machines.c.id)
    which = (concerns.c.issue == issue) & (machines.c.state != "left")
    shown = sa.select(concerns, machines.c.name, runs.label("runs")).select_from(here).where(which)
    ordered = shown.order_by(machines.c.name, machines.c.id)
    offset = int(after) if after.isascii() and after.isdigit() and len(after) < 10 else 0
    # Those that are not done, and then those that are: in either case the index of names gives the order.
    rows = list(connection.execute(ordered.where(~concerns.c.done).offset(offset).limit(limit)).mappings())
    if len(rows) < limit:
        undone = 0
        if offset:
            count = sa.select(sa.func.count()).select_from(here).where(which, ~concerns.c.done)
            undone = int(connection.execute(count).scalar_one())
        rest = ordered.where(concerns.c.done).offset(max(offset - undone, 0)).limit(limit - len(rows))
        rows += connection.execute(rest).mappings()
    return rows


def facts_after(connection: Connection, after: str, day: date, limit: int) -> Sequence[RowMapping]:
    """Return facts that were not judged on a day, of machines by id that come after one: `machine_id`, `body`, `at`."""
    query = (
        sa.select(facts.c.machine_id, facts.c.body, facts.c.at)
        .join(machines, machines.c.id == facts.c.machine_id)
        .where(machines.c.state != "left", facts.c.machine_id > after, _not_judged(day))
        .order_by(facts.c.machine_id)
        .limit(limit)
    )
    return connection.execute(query).mappings().all()


def mark_judged(connection: Connection, identity: str, at: datetime, day: date) -> bool:
    """Note that the facts of a moment are judged on a day; False: they are others by now, or somebody else has judged.

    Who has marked them keeps what came of it, in the same transaction: of two that judge at once one does.
    """
    which = (facts.c.machine_id == identity) & (facts.c.at == at) & _not_judged(day)
    return bool(connection.execute(sa.update(facts).where(which).values(judged=day)).rowcount)


def _not_judged(day: date) -> sa.ColumnElement[bool]:
    return facts.c.judged.is_distinct_from(day)


def judged(connection: Connection) -> int:
    """Return of how many machines the facts are known."""
    query = (
        sa.select(sa.func.count())
        .select_from(facts.join(machines, machines.c.id == facts.c.machine_id))
        .where(machines.c.state != "left")
    )
    return int(connection.execute(query).scalar_one())


def told(connection: Connection, issues: Sequence[str]) -> list[RowMapping]:
    """Return who tells of issues of releases: `issue`, `title`, `id` and `name` of one machine, always the same one.

    The order is that of the issues. One that no machine reports any more is left out.
    """
    first = (
        sa.select(concerns.c.issue, sa.func.min(concerns.c.machine_id).label("machine_id"))
        .join(machines, machines.c.id == concerns.c.machine_id)
        .where(concerns.c.issue.in_(issues), _OF_RELEASE, machines.c.state != "left")
        .group_by(concerns.c.issue)
        .subquery()
    )
    query = (
        sa.select(concerns.c.issue, concerns.c.title, machines.c.id, machines.c.name)
        .join(first, (first.c.issue == concerns.c.issue) & (first.c.machine_id == concerns.c.machine_id))
        .join(machines, machines.c.id == concerns.c.machine_id)
    )
    found = {row["issue"]: row for row in connection.execute(query).mappings()}
    return [found[each] for each in issues if each in found]


def is_of_release(issue: str) -> bool:
    """Return whether an id is one of a release's issue."""
    return "/" in issue
