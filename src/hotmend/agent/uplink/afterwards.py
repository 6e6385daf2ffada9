"""What follows the orders of a turn: the turn itself, with no more reboots than the orders ask for."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import msgspec

from hotmend.agent.finishing import finish
from hotmend.agent.machine import Machine, alone
from hotmend.agent.record.history import OrderEnded
from hotmend.agent.turn import Turn, turn
from hotmend.servicing.maintenance import reboot_within
from hotmend.wire.messages import Kind, Order


@dataclass(frozen=True, slots=True)
class Afterwards:
    """How much may be rebooted after the orders of a turn.

    Attributes:
        machine: with what its policy allows, and of that no more than the installations asked for.
        installed: one of them has installed something.
    """

    machine: Machine
    installed: bool = False

    def of(self, order: Order, ended: OrderEnded | None) -> Afterwards:
        """Return the same after an order; None: it waits for its window."""
        if order.kind is not Kind.INSTALL or ended is None:
            return self
        configuration = self.machine.configuration
        reboot = reboot_within(configuration.reboot, order.reboot)
        changed = msgspec.structs.replace(configuration, reboot=reboot)
        return Afterwards(dataclasses.replace(self.machine, configuration=changed), self.installed or ended.state.good)

    def turn(self) -> Turn:
        """Take the turn, and reboot where it did not and an installation asked for it in any case."""
        taken = turn(self.machine)
        finished = taken.finished
        if not self.installed or self.machine.configuration.reboot != "always" or finished is None:
            return taken
        if finished.reboot.reboot:
            return taken
        with alone(self.machine.places):
            again = finish(self.machine, installed=True)
        return dataclasses.replace(taken, finished=again)
