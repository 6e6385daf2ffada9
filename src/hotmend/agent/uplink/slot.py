"""Restart slots: of the machines with one configuration only so many restart something at a time.

A machine that has something to restart says so when it checks in, and restarts nothing before its server has given it a
slot. It gives the slot back when it has done what it could, after a reboot when it is there again. The rule is the same
for machines of every kind.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from hotmend.agent.paths import Places
from hotmend.agent.uplink.files import Wish, read, wish_file, write
from hotmend.agent.uplink.letters import Opened
from hotmend.wire.signing import CLOCK_SKEW_SECONDS_MAX

MARGIN: Final = timedelta(seconds=CLOCK_SKEW_SECONDS_MAX)
"""Nothing is begun so shortly before a slot ends: the server's clock may be ahead by that."""
NO_SLOT: Final = "no restart slot"
"""Why nothing is restarted."""


class Slot(Enum):
    """Whether something may be restarted."""

    NOT_NEEDED = "not needed"
    HELD = "held"
    MISSING = "missing"


def slot_at(wanted: Opened | None, now: datetime) -> Slot:
    """Return whether a machine of which a server wants this has the slot that it needs; None: it is nobody's."""
    if wanted is None or wanted.policy is None or not wanted.policy.slots:
        return Slot.NOT_NEEDED
    until = wanted.slot_until
    return Slot.HELD if until is not None and now < until - MARGIN else Slot.MISSING


def said(slot: Slot, *, rebooting: bool, due: bool) -> bool | None:
    """Return what a machine says of its slot: it asks for one or keeps it, it needs none, None: there are none.

    Args:
        slot: as it was when there was something to do: with one then, all that could be restarted was.
        rebooting: a reboot has begun, and the machine is not there again.
        due: something that may be restarted now would be, with a slot.
    """
    if slot is Slot.NOT_NEEDED:
        return None
    return rebooting or (due and slot is Slot.MISSING)


def leave(places: Places, wish: Wish) -> bool:
    """Leave what is said of the slot where the part with network finds it; return whether that is news.

    Raises:
        InputError: what was left before cannot be read.
        OSError: it cannot be written.
    """
    file = wish_file(places)
    if (read(file, Wish) or Wish()) == wish:
        return False
    write(file, wish)
    return True
