"""Orders and what became of them: each is on the disk before it is begun, and not done again once it has ended."""

from __future__ import annotations

from collections.abc import Sequence
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
    """What the file holds.

    Attributes:
        reached: the states that orders came to, each order's own in turn.
        brought: KBs that each installation was about to install, none of which was installed before.
    """

    reached: tuple[Reached, ...] = ()
    brought: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)


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
        return self._book().reached

    def ended(self) -> frozenset[str]:
        """Return the orders that have ended."""
        return frozenset(each.action for each in self.reached() if State(each.state).final)

    def last(self, order: Order) -> State:
        """Return the last state of an order."""
        return _last(self._book(), order)

    def note(self, order: Order, state: State, at: datetime, detail: str = "") -> None:
        """Write down that an order came to a state; one that it cannot come to any more is left out."""
        book = self._book()
        if may_follow(_last(book, order), state):
            reached = (*book.reached, Reached(order.id, state, at, detail[:2000]))[-KEPT:]
            write(self._file, msgspec.structs.replace(book, reached=reached))

    def bring(self, order: Order, kbs: Sequence[str]) -> None:
        """Write down what an order is about to install; an order that was cut off adds to what it had begun."""
        book = self._book()
        kept = dict(list(book.brought.items())[-KEPT:])
        kept[order.id] = tuple(dict.fromkeys((*kept.pop(order.id, ()), *kbs)))
        write(self._file, msgspec.structs.replace(book, brought=kept))

    def brought(self, order: str) -> tuple[str, ...] | None:
        """Return what an order was about to install; None: that is not written down here."""
        return self._book().brought.get(order)

    def _book(self) -> _Book:
        return read(self._file, _Book) or _Book()


def _last(book: _Book, order: Order) -> State:
    return next((State(each.state) for each in reversed(book.reached) if each.action == order.id), State.SCHEDULED)
