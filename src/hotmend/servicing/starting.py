"""Which machines of a ring may be changed next, and the brake.

What is changed at the same time is limited three ways: the ring's budget, a share of each set that is to stay
available, and pairs of which never both are changed. A machine on which something went wrong counts as changed until
somebody has looked: it may be down. Unknown is never a yes: whoever cannot be counted, holds.

The brake. From the first report of a failure on no machine begins, whatever was planned, until the rollout's gate has
judged it; the promise is `BEGIN_AFTER_FAILURE_MAX`, and never more than the budget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hotmend.servicing.lanes import Lane
from hotmend.servicing.message import Cause, cause
from hotmend.servicing.rings import Member
from hotmend.servicing.rollouts import State

BEGIN_AFTER_FAILURE_MAX: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is changed at a time.

    Attributes:
        budget: machines of a ring, at least 1.
        share_percent: of a set, 1 to 100; rounded down, but one machine always.
    """

    budget: int
    share_percent: int = 20


@dataclass(frozen=True, slots=True)
class Start:
    """Who may begin.

    Attributes:
        members: those, in the order asked for.
        held: why each of the others may not.
    """

    members: tuple[Member, ...]
    held: Mapping[str, Cause]


def startable(
    waiting: Iterable[Member], busy: Iterable[Member], set_sizes: Mapping[str, int], in_ring: int, limits: Limits
) -> Start:
    """Return who of those waiting may begin now.

    Args:
        waiting: machines that are there and whose window is open, in the order in which they should begin.
        busy: machines that are being changed by any rollout, or may be down after one.
        set_sizes: how many machines each set has; one that is not named here has an unknown size.
        in_ring: how many of the ring are being changed.
        limits: of the rollout.
    """
    busy = tuple(busy)
    sets = Counter(member.set for member in busy if member.set)
    pairs = {member.pair for member in busy if member.pair}
    taken = {member.id for member in busy}
    begun: list[Member] = []
    held: dict[str, Cause] = {}
    for member in waiting:
        why = _holds(member, sets, pairs, taken, set_sizes, limits)
        if why is None and in_ring + len(begun) >= limits.budget:
            why = cause("budget-used", "{budget} machines of the ring are being changed already.", budget=limits.budget)
        if why is not None:
            held[member.id] = why
            continue
        begun.append(member)
        sets[member.set] += 1
        pairs.add(member.pair)
        taken.add(member.id)
    return Start(tuple(begun), held)


def share(size: int, limits: Limits) -> int:
    """Return how many machines of a set of this size may be changed at a time."""
    return max(1, size * limits.share_percent // 100)


def _holds(
    member: Member,
    sets: Mapping[str, int],
    pairs: set[str],
    taken: set[str],
    sizes: Mapping[str, int],
    limits: Limits,
) -> Cause | None:
    if member.id in taken:
        return cause("machine-busy", "The machine is being changed already.")
    if member.pair and member.pair in pairs:
        return cause("partner-busy", "The other machine of pair {pair} is being changed.", pair=member.pair)
    if not member.set:
        return None
    if member.set not in sizes:
        return cause("set-unknown", "How many machines set {set} has is not known.", set=member.set)
    if sets[member.set] >= share(sizes[member.set], limits):
        return cause(
            "share-used",
            "{count} of the {size} machines of set {set} are being changed already.",
            count=sets[member.set],
            size=sizes[member.set],
            set=member.set,
        )
    return None


def brake(state: State, lane: Lane, *, halted: bool | None, failed_at: datetime | None) -> Cause | None:
    """Return why no machine of a rollout may begin now; None: it may.

    Args:
        state: of the rollout.
        lane: of the action; an emergency revert is what helps, so neither halt nor brake hold it.
        halted: whether everything was halted; None: not known.
        failed_at: when the first failure was reported that no gate has judged yet; None: there is none.
    """
    if lane is Lane.EMERGENCY:
        return None
    if halted is not False:
        return cause("halted", "All rollouts are halted.")
    if state is not State.RUNNING:
        return cause("rollout-not-running", "The rollout does not run: it is {state}.", state=str(state))
    if failed_at is not None:
        return cause(
            "brake-on", "A failure was reported at {since}; nothing begins before it is judged.", since=failed_at
        )
    return None
