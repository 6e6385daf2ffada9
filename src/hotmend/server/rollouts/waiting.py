"""SQL of machines that have not begun: which they are, what holds them, and since when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.machines.policies import HOTPATCH_OFF
from hotmend.server.machines.tables import contacts, machines, reports
from hotmend.server.rollouts.tables import members, rollouts
from hotmend.servicing import holds
from hotmend.servicing.rollouts import State

Clock = tuple[str, str]
"""What a machine's windows rest on: name of its policy, and its zone ("": not known)."""
_ZONE: Final = sa.func.coalesce(reports.c.zone, "")
_PAGE: Final = 500
_NOBODY: Final = ("", holds.TURN)
_SINCE: Final = members.c.held_since.type


@dataclass(frozen=True, slots=True)
class Ring:
    """Machines of one ring that are there, as they were heard of since a moment, and have not begun."""

    connection: Connection
    rollout: str
    number: int
    seen_after: datetime

    def clocks(self) -> dict[Clock, Counter[str]]:
        """Return what their windows rest on, and how many are held by which code ("": none)."""
        found: dict[Clock, Counter[str]] = {}
        keys = (machines.c.policy, _ZONE, members.c.held)
        for policy, zone, held, count in self.connection.execute(self._query(*keys, sa.func.count()).group_by(*keys)):
            found.setdefault((policy, zone), Counter())[held] += count
        return found

    def pages(self, clocks: Collection[Clock] | None, size: int) -> Iterator[list[RowMapping]]:
        """Give them in their order, so many at a time: `machine_id` and `place`.

        Args:
            clocks: of those that are meant; None: of all.
            size: of a page.
        """
        query = self._query(members.c.machine_id, members.c.place)
        query = query.order_by(members.c.place, members.c.machine_id).limit(size)
        if clocks is not None:
            query = query.where(_has(clocks))
        rows = list(self.connection.execute(query).mappings())
        while rows:
            yield rows
            last = sa.tuple_(sa.literal(rows[-1]["place"]), sa.literal(rows[-1]["machine_id"]))
            after = query.where(sa.tuple_(members.c.place, members.c.machine_id) > last)
            rows = list(self.connection.execute(after).mappings()) if len(rows) == size else []

    def hold(self, held: Mapping[str, str], now: datetime) -> None:
        """Keep by which code machines are held."""
        by_code: dict[str, list[str]] = {}
        for machine, code in held.items():
            by_code.setdefault(code, []).append(machine)
        for code, ids in by_code.items():
            for start in range(0, len(ids), _PAGE):
                self._put(code, members.c.machine_id.in_(ids[start : start + _PAGE]), now)

    def hold_clocks(self, code: str, clocks: Collection[Clock], now: datetime) -> None:
        """Keep that those with these clocks are held by a code of windows."""
        self._put(code, members.c.machine_id.in_(self._query(members.c.machine_id).where(_has(clocks))), now)

    def free_clocks(self, clocks: Collection[Clock], now: datetime) -> None:
        """Keep that no window holds those with these clocks any more."""
        mine = self._query(members.c.machine_id).where(_has(clocks), members.c.held.in_(holds.WINDOWS))
        self._put("", members.c.machine_id.in_(mine), now)

    def _put(self, code: str, which: sa.ColumnElement[bool], now: datetime) -> None:
        since = None if code in _NOBODY else sa.func.coalesce(members.c.held_since, sa.literal(now, _SINCE))
        mine = (members.c.rollout_id == self.rollout) & which & (members.c.held != code)
        self.connection.execute(sa.update(members).where(mine).values(held=code, held_since=since))

    def _query(self, *columns: Any) -> sa.Select[Any]:
        found = there(self.seen_after, *columns)
        return found.where(members.c.rollout_id == self.rollout, members.c.number == self.number).correlate(None)


def there(seen_after: datetime, *columns: Any) -> sa.Select[Any]:
    """Return the query of members that have not begun, take part, and were heard of since a moment."""
    return (
        sa.select(*columns)
        .select_from(members)
        .join(machines, machines.c.id == members.c.machine_id)
        .join(contacts, contacts.c.machine_id == members.c.machine_id)
        .outerjoin(reports, reports.c.machine_id == members.c.machine_id)
        .where(
            members.c.action_id.is_(None),
            machines.c.state == "active",
            machines.c.policy != HOTPATCH_OFF,
            machines.c.public_key.is_not(None),
            contacts.c.seen_at >= seen_after,
        )
    )


def _has(clocks: Collection[Clock]) -> sa.ColumnElement[bool]:
    return sa.tuple_(machines.c.policy, _ZONE).in_(sorted(clocks))


def left_behind(
    connection: Connection, identity: str, before: int, seen_after: datetime
) -> list[tuple[str, int, Clock]]:
    """Return machines of the rings before `before` that have not begun and are there now, with their ring and clock."""
    query = there(seen_after, members.c.machine_id, members.c.number, machines.c.policy, _ZONE)
    query = query.where(members.c.rollout_id == identity, members.c.number < before)
    return [(machine, number, (policy, zone)) for machine, number, policy, zone in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Held:
    """Machines of a rollout that runs which are held by one code for longer than is usual."""

    rollout: str
    name: str
    code: str
    machines: int


def held_long(connection: Connection, now: datetime, seen_after: datetime) -> list[Held]:
    """Return who is held for so long that somebody must look, by rollout and code."""
    code, since = members.c.held, members.c.held_since
    before = sa.case(
        *((code == each, sa.literal(now - usual, _SINCE)) for each, usual in holds.LONG_OF.items()),
        else_=sa.literal(now - holds.LONG, _SINCE),
    )
    keys = (rollouts.c.id, rollouts.c.name, code)
    query = (
        there(seen_after, *keys, sa.func.count())
        .join(rollouts, rollouts.c.id == members.c.rollout_id)
        .where(rollouts.c.state == State.RUNNING.value, since <= before)
        .group_by(*keys)
        .order_by(rollouts.c.name, *keys)
    )
    return [Held(*row) for row in connection.execute(query)]
