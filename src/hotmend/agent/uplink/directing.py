"""The part that acts: opens letters, follows the policy, and does what is due, each action once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from hotmend.agent.configuration import Configuration
from hotmend.agent.machine import Machine
from hotmend.agent.paths import Places
from hotmend.agent.record.history import Action, AnyEvent, Ordered, OrderEnded, RunState
from hotmend.agent.uplink.files import Directed, Registration, letter, read, registration, write
from hotmend.model.errors import HotmendError, InputError
from hotmend.servicing.actions import State, may_follow
from hotmend.wire.keys import PublicKey
from hotmend.wire.messages import Answer, Order, Reached
from hotmend.wire.policy import Policy, open_policy, policy_hash

LETTER_LIFE: Final = timedelta(days=1)
"""What an older letter asks for is not begun: nobody knows whether it is still meant."""
ORDERS_KEPT: Final = 50
"""Of so many orders the states are told again until the server has them."""


@dataclass(frozen=True, slots=True)
class Directions:
    """What a server wants of this machine now.

    Attributes:
        own: whose machine it is.
        policy: in force; None: none, or it has ended.
        policy_hash: of the last one, in force or not.
        halted: why nothing new begins; "": it may.
        orders: not done yet.
        slot_until: of its restart slot; None: it has none.
    """

    own: Registration
    policy: Policy | None
    policy_hash: str
    halted: str
    orders: tuple[Order, ...]
    slot_until: datetime | None = None


def directions(machine: Machine) -> Directions | None:
    """Open the last letter, and return what is wanted; None: this machine is nobody's.

    Raises:
        InputError: registration or what was taken before cannot be read.
        OSError: what was taken cannot be kept.
    """
    own = registration(machine.places)
    if own is None:
        return None
    now = machine.clock()
    before = read(machine.places.directed, Directed) or Directed()
    try:
        answer = letter(machine.places, own)
    except InputError:
        answer = None  # whoever carries letters may write what it likes: the last good one holds
    taken = before
    if answer is not None and answer.counter >= before.counter:
        taken = _taken(before, answer, own)
    if taken != before:
        machine.places.directed.parent.mkdir(mode=0o750, parents=True, exist_ok=True)  # history may have no line yet
        write(machine.places.directed, taken, 0o600)
    policy = _policy(taken, own)
    fresh = answer is not None and answer.counter == taken.counter and answer.at > now - LETTER_LIFE
    orders = answer.orders if answer is not None and fresh and taken.approved else ()
    return Directions(
        own,
        policy if policy is not None and policy.holds(now) else None,
        policy_hash(taken.policy) if taken.policy is not None else "",
        taken.halted,
        _open(orders, machine.history.read().events, taken.halted),
        taken.slot_until if taken.approved and not taken.halted else None,
    )


def _taken(before: Directed, answer: Answer, own: Registration) -> Directed:
    policy = before.policy
    if answer.policy is not None:
        offered, held = _policy(Directed(policy=answer.policy), own), _policy(before, own)
        if offered is not None and (held is None or offered.serial >= held.serial):
            policy = answer.policy
    return Directed(answer.counter, policy, answer.halted, answer.approved, answer.slot_until)


def _policy(directed: Directed, own: Registration) -> Policy | None:
    if directed.policy is None:
        return None
    try:
        return open_policy(directed.policy, PublicKey(own.server_key))
    except InputError:
        return None


def _open(orders: Iterable[Order], events: Sequence[AnyEvent], halted: str) -> tuple[Order, ...]:
    """Return the orders that are to be done: once, and none but emergencies where the fleet is halted."""
    ended = {event.order for event in events if isinstance(event, OrderEnded)}
    return tuple(o for o in orders if o.id not in ended and (o.emergency or not halted))


def directed(configuration: Configuration, wanted: Directions) -> Configuration:
    """Return the configuration with what the policy says; without one this machine only says what waits.

    `observe` in the machine's own file wins: who administers it wants it left alone. What is never touched, probes and
    commands around a run are the machine's own in any case.
    """
    if configuration.mode == "observe":
        return configuration
    policy = wanted.policy
    if policy is None or wanted.halted:
        return msgspec.structs.replace(configuration, mode="notify")
    return msgspec.structs.replace(
        configuration,
        mode=policy.mode,
        observe_days=0,
        maintenance=policy.maintenance,
        zone=policy.zone or configuration.zone,
        restart=policy.restart,
        reboot=policy.reboot,
    )


def with_directions(machine: Machine) -> tuple[Machine, Directions | None]:
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
