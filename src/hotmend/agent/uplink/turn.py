"""A turn of a machine of a fleet: what its server asks for, then the turn as ever, then what there is to tell.

States are told as they come, not at the end: a server that waits for the end of a long action knows nothing meanwhile,
and a failure has to stop others at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from dataclasses import dataclass

import msgspec

from hotmend.agent.census.look import look
from hotmend.agent.machine import Machine
from hotmend.agent.turn import Turn, turn
from hotmend.agent.uplink.afterwards import Afterwards
from hotmend.agent.uplink.asking import leave_wish
from hotmend.agent.uplink.directing import reached, with_directions
from hotmend.agent.uplink.doing import perform
from hotmend.agent.uplink.files import Outbox, read, write
from hotmend.agent.uplink.letters import Opened
from hotmend.agent.uplink.news import note_name
from hotmend.agent.uplink.reporting import report_of
from hotmend.model.errors import HotmendError
from hotmend.wire.messages import Order, Reached


def directed_turn(machine: Machine) -> Turn:
    """Take one turn, with or without a server.

    Raises:
        HotmendError: another run is under way, or what is needed cannot be read, reached or written.
    """
    machine, wanted = with_directions(machine)
    if wanted is None:
        return turn(machine)
    teller = Teller(machine, wanted)
    machine = dataclasses.replace(machine, told=teller.states)
    try:
        after = Afterwards(machine)
        for order in wanted.orders:
            if still_wanted(machine, order):
                after = after.of(order, perform(machine, order))
        return after.turn()
    finally:
        try:
            leave_wish(machine, wanted)
        finally:
            teller.everything()


def still_wanted(machine: Machine, order: Order) -> bool:
    """Say whether the last letter has an order still: one may have come while those before it were done."""
    wanted = with_directions(machine)[1]
    return wanted is not None and any(each.id == order.id for each in wanted.orders)


@dataclass
class Teller:
    """Leaves what there is to tell where the part with network finds it.

    Attributes:
        machine: whose history is told.
        wanted: what its server asks for.
    """

    machine: Machine
    wanted: Opened
    _last: tuple[Reached, ...] | None = None

    def states(self) -> None:
        """Leave the states that orders have come to. An action does not end because nobody can be told of it."""
        with contextlib.suppress(HotmendError, OSError):
            states = reached(self.machine.history.read().events)
            if states != self._last:
                self._leave(read(self.machine.places.outbox, Outbox) or Outbox(), states)

    def everything(self) -> None:
        """Leave a new look at the machine, too.

        Raises:
            HotmendError: it cannot be written.
        """
        places = self.machine.places
        try:
            seen = look(places)
            minutes = self.machine.configuration.assess_minutes
            made = Outbox(report_of(self.machine, seen), looked_at=seen.assessment.at, look_minutes=minutes)
            self._leave(made, reached(self.machine.history.read().events))
        except OSError as error:
            raise HotmendError(f"{places.outbox}: {error.strerror or error}") from error

    def _leave(self, looked: Outbox, states: tuple[Reached, ...]) -> None:
        places = self.machine.places
        places.outbox.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        write(places.outbox, msgspec.structs.replace(looked, reached=states, policy=self.wanted.policy_hash))
        ends = [(each.action, str(each.state)) for each in states]
        note_name(places.states, hashlib.sha256(repr(ends).encode()).hexdigest())
        self._last = states
