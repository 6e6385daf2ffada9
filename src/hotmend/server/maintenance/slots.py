"""Restart slots, handed out at check-ins: so many machines with one configuration restart at a time.

Whose slot is not given back in its time has not come back: the slot is free for others, and the machine has an event;
at once where another machine asks, and else when the server looks by itself (`take_back`).
Slots of a configuration are handed out under a lock of its row, so that two servers never give more than there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.machines.store import add_event
from hotmend.server.machines.tables import machines
from hotmend.server.maintenance import store
from hotmend.server.maintenance.tables import slots
from hotmend.server.paging import page
from hotmend.servicing.slots import Slot, expired, take
from hotmend.wire.maintenance import ConfigurationWanted


@dataclass(frozen=True, slots=True)
class Given:
    """What a machine is told: until when it has a slot (None: it has none), and why it has none."""

    until: datetime | None
    why: str = ""


_ORDER: Final = ((slots.c.pool, False), (slots.c.taken_at, False), (slots.c.machine_id, False))


def hand_out(
    connection: Connection,
    now: datetime,
    wanting: Mapping[str, str],
    done: Iterable[str],
    lost: Callable[[str], None] = lambda _: None,
) -> dict[str, Given]:
    """Take back the slots of machines that need none any more, and give out what is free.

    Args:
        connection: of a transaction that may write.
        now: UTC.
        wanting: machines that ask for a slot, with their configuration.
        done: machines that have nothing to restart any more.
        lost: told of each machine that did not come back in its time.
    """
    back = list(done)
    if back:
        connection.execute(sa.delete(slots).where(slots.c.machine_id.in_(back)))
    by_pool: dict[str, list[str]] = defaultdict(list)
    for machine, pool in wanting.items():
        by_pool[pool].append(machine)
    given: dict[str, Given] = {}
    for pool in sorted(by_pool):  # in one order, so that servers wait for each other and never in a ring
        given |= _of_pool(connection, now, pool, sorted(by_pool[pool]), lost)
    return given


def take_back(connection: Connection, now: datetime, until: datetime, lost: Callable[[str], None]) -> int:
    """Take back the slots whose time was over at a moment, whether or not anybody asks for them; return how many.

    Args:
        connection: of a transaction that may write.
        now: UTC.
        until: before `now` by what a machine that has come back takes to say so.
        lost: told of each machine that did not come back.
    """
    over = slots.c.expires_at <= until
    pools = sorted(connection.scalars(sa.select(slots.c.pool).where(over).distinct()))  # in the order of `hand_out`
    number = 0
    for pool in pools:
        store.configuration(connection, pool, lock=True)
        mine = sa.select(slots.c.machine_id).where(over, slots.c.pool == pool).order_by(slots.c.machine_id)
        for machine in list(connection.scalars(mine)):
            _lose(connection, now, machine, lost)
            number += 1
    return number


def _lose(connection: Connection, now: datetime, machine: str, lost: Callable[[str], None]) -> None:
    connection.execute(sa.delete(slots).where(slots.c.machine_id == machine))
    add_event(connection, machine, now, "slot", "its restart slot was not given back in time")
    lost(machine)


def _of_pool(
    connection: Connection, now: datetime, pool: str, asking: list[str], lost: Callable[[str], None]
) -> dict[str, Given]:
    row = store.configuration(connection, pool, lock=True)
    wanted = msgspec.convert(row["content"], ConfigurationWanted) if row is not None else ConfigurationWanted()
    if not wanted.slots:  # the machine has a policy of before: it gets the one of now in the same answer
        return dict.fromkeys(asking, Given(None, "the configuration has no slots any more"))
    length = timedelta(minutes=wanted.slot_minutes)
    taken = [Slot(each["machine_id"], each["expires_at"]) for each in rows(connection, pool)]
    for machine in expired(taken, now):
        _lose(connection, now, machine, lost)
    held = tuple(slot for slot in taken if slot.expires_at > now)
    given: dict[str, Given] = {}
    for machine in asking:
        own = next((slot for slot in held if slot.owner == machine), None)
        if own is not None:  # it is not made longer: who asks again and again would keep it for ever
            given[machine] = Given(own.expires_at)
            continue
        found = take(held, wanted.slots, machine, now, length)
        if found.refused is not None:
            given[machine] = Given(None, str(found.refused.message))
            continue
        held = found.slots
        connection.execute(sa.delete(slots).where(slots.c.machine_id == machine))  # one of another configuration
        values = {"machine_id": machine, "pool": pool, "taken_at": now, "expires_at": now + length}
        connection.execute(sa.insert(slots).values(values))
        given[machine] = Given(now + length)
    return given


def rows(connection: Connection, pool: str = "") -> list[RowMapping]:
    """Return the slots that are taken, of one configuration or of all, with the machine's name."""
    found = _taken() if not pool else _taken().where(slots.c.pool == pool)
    return list(connection.execute(found.order_by(*(column for column, _ in _ORDER))).mappings())


def taken_page(connection: Connection, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return some of the slots that are taken, and the cursor of those behind them."""
    return page(connection, _taken(), _ORDER, cursor, limit)


def _taken() -> sa.Select[Any]:
    return sa.select(slots, machines.c.name).join(machines, machines.c.id == slots.c.machine_id)
