"""The part that acts: opens letters, follows the policy, and does what is due, each action once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import msgspec

from hotmend.agent.configuration import Configuration
from hotmend.agent.machine import Machine
from hotmend.agent.paths import Places
from hotmend.agent.record.history import Action, AnyEvent, Ordered, OrderEnded, RunState
from hotmend.agent.uplink.letters import Opened, open_letter, to_do
from hotmend.model.errors import HotmendError
from hotmend.servicing.actions import State, may_follow
from hotmend.servicing.maintenance import reboot_within
from hotmend.wire.messages import Reached

ORDERS_KEPT: Final = 50
"""Of so many orders the states are told again until the server has them."""


def directions(machine: Machine) -> Opened | None:
    """Open the last letter, and return what is wanted and not done; None: this machine is nobody's.

    Raises:
        InputError: registration or what was taken before cannot be read.
        OSError: what was taken cannot be kept.
    """
    wanted = open_letter(machine.places, machine.clock())
    if wanted is None:
        return None
    ended = {event.order for event in machine.history.read().events if isinstance(event, OrderEnded)}
    return dataclasses.replace(wanted, orders=to_do(wanted, ended))


def directed(configuration: Configuration, wanted: Opened) -> Configuration:
    """Return the configuration with what the policy says; without one this machine only says what waits.

    `observe` in the machine's own file wins: who administers it wants it left alone, and the limits are then that
    nothing is installed or taken back. So do its limits (`FleetLimits`) in any mode. Days of observing are over once a
    policy says what the mode is. What is never touched, probes and commands around a run are the machine's own in any
    case.
    """
    if configuration.mode == "observe":
        alone = msgspec.structs.replace(configuration.fleet, install=False, revert=False)
        return msgspec.structs.replace(configuration, fleet=alone)
    policy = wanted.policy
    if policy is None or wanted.halted or wanted.closed:
        return msgspec.structs.replace(configuration, mode="notify")
    limits = configuration.fleet
    own = limits.windows == "own"
    return msgspec.structs.replace(
        configuration,
        mode="download" if policy.mode == "automatic" and not limits.install else policy.mode,
        observe_days=0,
        maintenance=configuration.maintenance if own else policy.maintenance,
        zone=configuration.zone if own else policy.zone or configuration.zone,
        restart=policy.restart and limits.restart,
        reboot=reboot_within(limits.reboot, policy.reboot),
    )


def with_directions(machine: Machine) -> tuple[Machine, Opened | None]:
    """Return the machine as its server wants it, and what is wanted.

    Raises:
        HotmendError: it cannot be told.
    """
    try:
        wanted = directions(machine)
    except OSError as error:
        raise HotmendError(f"{machine.places.directed}: {error.strerror or error}") from error
    if wanted is None:
        return machine, None
    return dataclasses.replace(machine, configuration=directed(machine.configuration, wanted)), wanted


def reached(events: Sequence[AnyEvent]) -> tuple[Reached, ...]:
    """Return the states that the last orders came to, oldest first, each once and forward only."""
    found: list[Reached] = []
    order, state = "", State.SCHEDULED
    kept = {event.order for event in [e for e in events if isinstance(e, Ordered)][-ORDERS_KEPT:]}
    for event in events:
        match event:
            case Ordered():
                order, state = event.order, State.SCHEDULED
                new, detail = State.PRECHECK, ""
            case RunState() | Action() if order and not event.state.final:
                new, detail = event.state, event.update if isinstance(event, Action) else event.detail
            case OrderEnded():
                order, new, detail = event.order, event.state, event.detail
            case _:
                continue
        if order in kept and may_follow(state, new):
            found.append(Reached(order, new, event.at, detail[:2000]))
            state = new
        if isinstance(event, OrderEnded):
            order = ""
    return tuple(found)


def is_directed(places: Places) -> bool:
    """Say whether this machine is somebody's."""
    return places.server.exists()
