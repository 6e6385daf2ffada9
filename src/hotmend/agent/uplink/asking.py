"""What a machine that restarts services and itself says of its restart slot, by its history and what is due."""

from __future__ import annotations

from hotmend.agent.census.assessment import Assessment, take_assessment
from hotmend.agent.machine import Machine, window
from hotmend.agent.record.history import AgentBegan, AnyEvent, Rebooting
from hotmend.agent.uplink.directing import directions
from hotmend.agent.uplink.files import Wish, wish_file
from hotmend.agent.uplink.letters import Opened
from hotmend.agent.uplink.slot import Slot, leave, said, slot_at
from hotmend.model.errors import HotmendError


def slot_of(machine: Machine) -> Slot:
    """Return whether a machine has the slot that it needs.

    Raises:
        InputError: what its server wants cannot be read.
        OSError: what was taken of it cannot be kept.
    """
    return slot_at(directions(machine), machine.clock())


def slot_wanted(machine: Machine, wanted: Opened, assessment: Assessment) -> bool | None:
    """Return what a machine says of its slot after a turn, as `said` does.

    Args:
        machine: as its server wants it.
        wanted: what held when the turn began.
        assessment: of after the turn.
    """
    configuration = machine.configuration
    due = (
        (configuration.restart and bool(assessment.restarts))
        or (configuration.reboot != "never" and bool(assessment.reboot))
        or (configuration.reboot == "always" and bool(assessment.waiting))
    )
    is_open = window(configuration, machine.clock())[0].allowed
    return said(
        slot_at(wanted, machine.clock()),
        rebooting=_is_rebooting(machine.history.read().events),
        due=due and is_open and configuration.mode == "automatic",
    )


def leave_wish(machine: Machine, wanted: Opened) -> None:
    """Leave what is said of the slot where the part with network finds it.

    Raises:
        HotmendError: it cannot be written.
    """
    try:
        wish = Wish()
        if slot_at(wanted, machine.clock()) is not Slot.NOT_NEEDED:  # a look at all processes: who needs it alone
            wish = Wish(slot_wanted(machine, wanted, take_assessment(now=machine.clock())))
        leave(machine.places, wish)
    except OSError as error:
        raise HotmendError(f"{wish_file(machine.places)}: {error.strerror or error}") from error


def _is_rebooting(events: tuple[AnyEvent, ...] | list[AnyEvent]) -> bool:
    last = next((event for event in reversed(events) if isinstance(event, AgentBegan | Rebooting)), None)
    return isinstance(last, Rebooting)
