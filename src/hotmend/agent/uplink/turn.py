"""A turn of a machine of a fleet: what its server asks for, then the turn as ever, then what there is to tell."""

from __future__ import annotations

from hotmend.agent.census.look import look
from hotmend.agent.machine import Machine
from hotmend.agent.turn import Turn, turn
from hotmend.agent.uplink.afterwards import Afterwards
from hotmend.agent.uplink.directing import reached, with_directions
from hotmend.agent.uplink.doing import perform
from hotmend.agent.uplink.files import Outbox, read, write
from hotmend.agent.uplink.letters import Opened
from hotmend.agent.uplink.reporting import report_of
from hotmend.agent.uplink.slot import leave_wish
from hotmend.model.errors import HotmendError


def directed_turn(machine: Machine) -> Turn:
    """Take one turn, with or without a server.

    Raises:
        HotmendError: another run is under way, or what is needed cannot be read, reached or written.
    """
    machine, wanted = with_directions(machine)
    if wanted is None:
        return turn(machine)
    try:
        after = Afterwards(machine)
        for order in wanted.orders:
            ended = perform(machine, order)
            after = after.of(order, ended)
            if ended is not None:
                _tell(machine, wanted, full=False)
        return after.turn()
    finally:
        leave_wish(machine, wanted)
        _tell(machine, wanted, full=True)


def _tell(machine: Machine, wanted: Opened, *, full: bool) -> None:
    """Leave what there is to tell where the part with network finds it; `full`: with a new look at the machine.

    Raises:
        HotmendError: it cannot be written.
    """
    places = machine.places
    try:
        before = read(places.outbox, Outbox) or Outbox()
        report = report_of(machine, look(places)) if full else before.report
        places.outbox.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        write(places.outbox, Outbox(report, reached(machine.history.read().events), wanted.policy_hash))
    except OSError as error:
        raise HotmendError(f"{places.outbox}: {error.strerror or error}") from error
