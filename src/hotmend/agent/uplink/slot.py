"""Restart slots: of the machines with one configuration only so many restart something at a time.

A machine that has something to restart says so when it checks in, and restarts nothing before its server has given it a
slot. It gives the slot back when it has done what it could, after a reboot when it is there again.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Final

from hotmend.agent.census.assessment import Assessment, take_assessment
from hotmend.agent.machine import Machine, window
from hotmend.agent.record.history import AgentBegan, AnyEvent, Rebooting
from hotmend.agent.uplink.directing import directions
from hotmend.agent.uplink.files import Wish, read, wish_file, write
from hotmend.agent.uplink.letters import Opened
from hotmend.model.errors import HotmendError
from hotmend.wire.signing import CLOCK_SKEW_SECONDS_MAX

MARGIN: Final = timedelta(seconds=CLOCK_SKEW_SECONDS_MAX)
"""Nothing is begun so shortly before a slot ends: the server's clock may be ahead by that."""


class Slot(Enum):
    """Whether something may be restarted."""

    NOT_NEEDED = "not needed"
    HELD = "held"
    MISSING = "missing"


def slot_of(machine: Machine) -> Slot:
    """Return whether a machine has the slot that it needs.

    Raises:
        InputError: what its server wants cannot be read.
        OSError: what was taken of it cannot be kept.
    """
    return _slot(machine, directions(machine))


def _slot(machine: Machine, wanted: Opened | None) -> Slot:
    if wanted is None or wanted.policy is None or not wanted.policy.slots:
        return Slot.NOT_NEEDED
    until = wanted.slot_until
    return Slot.HELD if until is not None and machine.clock() < until - MARGIN else Slot.MISSING


def slot_wanted(machine: Machine, wanted: Opened, assessment: Assessment) -> bool | None:
    """Return what a machine says of its slot after a turn: it asks for one, it needs none, None: there are none.

    Args:
        machine: as its server wants it.
        wanted: what held when the turn began: with a slot then, all that could be restarted was.
        assessment: of after the turn.
    """
    slot = _slot(machine, wanted)
    if slot is Slot.NOT_NEEDED:
        return None
    if _is_rebooting(machine.history.read().events):
        return True
    configuration = machine.configuration
    due = (
        (configuration.restart and bool(assessment.restarts))
        or (configuration.reboot != "never" and bool(assessment.reboot))
        or (configuration.reboot == "always" and bool(assessment.waiting))
    )
    is_open = window(configuration, machine.clock())[0].allowed
    return bool(due and is_open and configuration.mode == "automatic" and slot is Slot.MISSING)


def leave_wish(machine: Machine, wanted: Opened) -> None:
    """Leave what is said of the slot where the part with network finds it.

    Raises:
        HotmendError: it cannot be written.
    """
    file = wish_file(machine.places)
    try:
        wish = Wish()
        if _slot(machine, wanted) is not Slot.NOT_NEEDED:  # a look at all processes, for those alone who need it
            wish = Wish(slot_wanted(machine, wanted, take_assessment(now=machine.clock())))
        if (read(file, Wish) or Wish()) != wish:
            write(file, wish)
    except OSError as error:
        raise HotmendError(f"{file}: {error.strerror or error}") from error


def _is_rebooting(events: tuple[AnyEvent, ...] | list[AnyEvent]) -> bool:
    last = next((event for event in reversed(events) if isinstance(event, AgentBegan | Rebooting)), None)
    return isinstance(last, Rebooting)
