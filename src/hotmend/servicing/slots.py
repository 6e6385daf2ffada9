"""Restart slots: how many machines of a pool restart at the same time, with owners that expire.

A slot belongs to one action until it gives it back or its time is over, so that a machine which never comes back does
not keep all others from restarting; that machine is then a failure, which the brake and the gate see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hotmend.servicing.message import Cause, cause


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot that is taken.

    Attributes:
        owner: id of the action.
        expires_at: from then on others may take it, UTC.
    """

    owner: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of asking for a slot.

    Attributes:
        slots: all that are taken afterwards.
        refused: why there is none; None: the owner has one.
    """

    slots: tuple[Slot, ...]
    refused: Cause | None = None


def take(slots: Sequence[Slot], size: int, owner: str, now: datetime, length: timedelta) -> Taken:
    """Give an owner a slot of a pool, or its own again for a new `length`.

    Args:
        slots: those taken now.
        size: of the pool; where it was made smaller, those taken stay.
        owner: who asks.
        now: UTC.
        length: for how long.
    """
    others = tuple(slot for slot in slots if slot.owner != owner and slot.expires_at > now)
    if len(others) >= size:
        until = min(slot.expires_at for slot in others) if others else now
        return Taken(
            others, cause("no-slot", "All {size} restart slots are taken until {until}.", size=size, until=until)
        )
    return Taken((*others, Slot(owner, now + length)))


def give_back(slots: Sequence[Slot], owner: str) -> tuple[Slot, ...]:
    """Return the slots without those of an owner; giving back twice is no mistake."""
    return tuple(slot for slot in slots if slot.owner != owner)


def expired(slots: Sequence[Slot], now: datetime) -> tuple[str, ...]:
    """Return the owners whose time is over: they did not come back."""
    return tuple(slot.owner for slot in slots if slot.expires_at <= now)
