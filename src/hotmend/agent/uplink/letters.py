"""What a letter says, once it is clear who wrote it: the policy, whether anything may begin, and what is due."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hotmend.agent.paths import Places
from hotmend.agent.uplink.files import Directed, Registration, letter, read, registration, write
from hotmend.model.errors import InputError
from hotmend.wire.keys import PublicKey
from hotmend.wire.messages import Answer, Kind, Order
from hotmend.wire.policy import Policy, open_policy, policy_hash

LETTER_LIFE: Final = timedelta(days=1)
"""What an older letter asks for is not begun: nobody knows whether it is still meant."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a server wants of this machine now.

    Attributes:
        own: whose machine it is.
        policy: in force; None: none, or it has ended.
        policy_hash: of the last one, in force or not.
        halted: why nothing new begins; "": it may.
        orders: that the letter has.
        slot_until: of its restart slot; None: it has none.
        closed: a window that is open lacks the word that the policy asks for: nothing begins in it.
    """

    own: Registration
    policy: Policy | None
    policy_hash: str
    halted: str
    orders: tuple[Order, ...]
    slot_until: datetime | None = None
    closed: bool = False


def open_letter(places: Places, now: datetime) -> Opened | None:
    """Take from the last letter what it says, and return it; None: this machine is nobody's.

    Raises:
        InputError: registration or what was taken before cannot be read.
        OSError: what was taken cannot be kept.
    """
    own = registration(places)
    if own is None:
        return None
    before = read(places.directed, Directed) or Directed()
    try:
        answer = letter(places, own)
    except InputError:
        answer = None  # whoever carries letters may write what it likes: the last good one holds
    taken = before
    if answer is not None and answer.counter >= before.counter:
        taken = _taken(before, answer, own)
    if taken != before:
        places.directed.parent.mkdir(mode=0o750, parents=True, exist_ok=True)  # history may have no line yet
        write(places.directed, taken)
    policy = held_policy(taken, own)
    policy = policy if policy is not None and policy.holds(now) else None
    fresh = answer is not None and answer.counter == taken.counter and answer.at > now - LETTER_LIFE
    return Opened(
        own,
        policy,
        policy_hash(taken.policy) if taken.policy is not None else "",
        taken.halted,
        answer.orders if answer is not None and fresh and taken.approved else (),
        taken.slot_until if taken.approved and not taken.halted else None,
        policy is not None and policy.events and (taken.window_until is None or now >= taken.window_until),
    )


def to_do(wanted: Opened, ended: Collection[str]) -> tuple[Order, ...]:
    """Return the orders that are to be done: once, none but emergencies where the fleet is halted.

    What waits for a window waits for its word, too.
    """
    todo = (o for o in wanted.orders if o.id not in ended and (o.emergency or not wanted.halted))
    return tuple(o for o in todo if o.kind is not Kind.INSTALL or o.anytime or not wanted.closed)


def _taken(before: Directed, answer: Answer, own: Registration) -> Directed:
    policy = before.policy
    if answer.policy is not None:
        offered, held = held_policy(Directed(policy=answer.policy), own), held_policy(before, own)
        if offered is not None and (held is None or offered.serial >= held.serial):
            policy = answer.policy
    return Directed(
        answer.counter, policy, answer.halted, answer.approved, answer.slot_until, answer.window_until, answer.at
    )


def held_policy(directed: Directed, own: Registration) -> Policy | None:
    """Return the last policy, in force or not; None: there is none that the pinned key has signed."""
    if directed.policy is None:
        return None
    try:
        return open_policy(directed.policy, PublicKey(own.server_key))
    except InputError:
        return None
