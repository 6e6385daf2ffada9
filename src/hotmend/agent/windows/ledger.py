"""Orders and what became of them: each is on the disk before it is begun, and not done again once it has ended."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from hotmend.agent.uplink.files import read, write
from hotmend.servicing.actions import State, may_follow
from hotmend.wire.messages import Order, Reached

KEPT: Final = 500
"""A server asks for an order as long as it has no end of it, and for a few at a time."""


class _Book(msgspec.Struct, frozen=True):
    """What the file holds: the states that orders came to, each order's own in turn."""

    reached: tuple[Reached, ...] = ()


class Ledger:
    """One machine's file of orders, or of what it did by itself.

    Raises (all methods):
        InputError: it cannot be read: what was done here is not known then, and nothing is done.
        OSError: it cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def reached(self) -> tuple[Reached, ...]:
        """Return all states, oldest first."""
        return (read(self._file, _Book) or _Book()).reached

    def ended(self) -> frozenset[str]:
        """Return the orders that have ended."""
        return frozenset(each.action for each in self.reached() if State(each.state).final)

    def note(self, order: Order, state: State, at: datetime, detail: str = "") -> None:
        """Write down that an order came to a state; one that it cannot come to any more is left out."""
        known = self.reached()
        last = next((State(each.state) for each in reversed(known) if each.action == order.id), State.SCHEDULED)
        if may_follow(last, state):
            write(self._file, _Book((*known, Reached(order.id, state, at, detail[:2000]))[-KEPT:]))
