"""Which machines of a ring may be changed next, and the brake.

What is changed at the same time is limited three ways: the ring's budget, a share of each set that is to stay
available, and pairs of which never both are changed. A machine on which something went wrong counts as changed until
somebody has looked: it may be down. Unknown is never a yes: whoever cannot be counted, holds.

The brake. From the first report of a failure on no machine begins, whatever was planned, until the rollout's gate has
judged it; the promise is `BEGIN_AFTER_FAILURE_MAX`, and never more than the budget.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import compress
from typing import Final

from hotmend.servicing.lanes import Lane
from hotmend.servicing.message import Cause, cause
from hotmend.servicing.rings import Member, Placed
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
    change = _Change.of(busy, set_sizes, in_ring, limits)
    begun: list[Member] = []
    held: dict[str, Cause] = {}
    for member in waiting:
        why = change.holds(member, member.id)
        if why is not None:
            held[member.id] = why
            continue
        begun.append(member)
        change.begins(member, member.id)
    return Start(tuple(begun), held)


@dataclass(frozen=True, slots=True)
class StartAlike:
    """Who may begin of machines that are given as crowds.

    Attributes:
        begun: those, in the order asked for, by their places.
        held: code of the cause to how many of the others may not because of it.
    """

    begun: tuple[int, ...]
    held: Mapping[str, int]


def startable_alike(
    waiting: Sequence[int],
    placed: Placed,
    likes: Sequence[Member],
    busy: Iterable[Member],
    set_sizes: Mapping[str, int],
    limits: Limits,
    counts: Mapping[int, int],
) -> StartAlike:
    """Return who of those waiting may begin now, where nobody of the ring has begun; otherwise as `startable`.

    A crowd is judged once where the answer can be no other for the next of it.

    Args:
        waiting: places in `placed.ids`, in the order in which they should begin, each once.
        placed: whose places these are, and of which crowd each is.
        likes: one of each crowd.
        busy: as `startable` takes it.
        set_sizes: as `startable` takes it.
        limits: of the rollout.
        counts: how many of each crowd wait, by the crowd's number.
    """
    change = _Change.of(busy, set_sizes, 0, limits)
    ids, kinds, others = placed.ids, placed.kinds, frozenset(change.taken)
    begun: list[int] = []
    held: Counter[str] = Counter()
    known: dict[int, str] = {}
    judged = 0
    for each in waiting:
        if change.in_ring >= limits.budget:
            break
        judged += 1
        kind = kinds[each]
        if kind in known and ids[each] not in others:
            held[known[kind]] += 1
            continue
        why = change.holds(likes[kind], ids[each])
        if why is None:
            begun.append(each)
            change.begins(likes[kind], ids[each])
            continue
        held[why.code] += 1
        # Sets and pairs only fill, but a machine of a pair that its set holds may be held by its partner later.
        if ids[each] not in others and not likes[kind].pair:
            known[kind] = why.code
    rest = waiting[judged:]  # nobody of them begins, and nothing changes any more
    own = list(compress(rest, map(others.__contains__, map(ids.__getitem__, rest)))) if others else []
    left = Counter(counts)
    left.subtract(map(kinds.__getitem__, waiting[:judged]))
    left.subtract(map(kinds.__getitem__, own))
    held["machine-busy"] += len(own)
    groups: Counter[tuple[str, str]] = Counter()  # of a machine that is not busy no rule looks at more
    for kind, count in (+left).items():
        groups[likes[kind].set, likes[kind].pair] += count
    for (set_, pair), count in groups.items():
        why = change.holds(Member("", set=set_, pair=pair), "")
        if why is not None:
            held[why.code] += count
    return StartAlike(tuple(begun), +held)


@dataclass(slots=True)
class _Change:
    """What is being changed while machines are chosen.

    Attributes:
        sets: set to how many of it; pairs: those of which one is; taken: ids.
        sizes, limits: as `startable` takes them; in_ring: how many of the ring.
    """

    sets: Counter[str]
    pairs: set[str]
    taken: set[str]
    sizes: Mapping[str, int]
    limits: Limits
    in_ring: int

    @classmethod
    def of(cls, busy: Iterable[Member], sizes: Mapping[str, int], in_ring: int, limits: Limits) -> _Change:
        busy = tuple(busy)
        sets = Counter(member.set for member in busy if member.set)
        pairs = {member.pair for member in busy if member.pair}
        return cls(sets, pairs, {member.id for member in busy}, sizes, limits, in_ring)

    def begins(self, member: Member, identity: str) -> None:
        self.sets[member.set] += 1
        self.pairs.add(member.pair)
        self.taken.add(identity)
        self.in_ring += 1

    def holds(self, member: Member, identity: str) -> Cause | None:
        why = self._others_hold(member, identity)
        if why is None and self.in_ring >= self.limits.budget:
            budget = self.limits.budget
            why = cause("budget-used", "{budget} machines of the ring are being changed already.", budget=budget)
        return why

    def _others_hold(self, member: Member, identity: str) -> Cause | None:
        if identity in self.taken:
            return cause("machine-busy", "The machine is being changed already.")
        if member.pair and member.pair in self.pairs:
            return cause("partner-busy", "The other machine of pair {pair} is being changed.", pair=member.pair)
        if not member.set:
            return None
        if member.set not in self.sizes:
            return cause("set-unknown", "How many machines set {set} has is not known.", set=member.set)
        if self.sets[member.set] >= share(self.sizes[member.set], self.limits):
            return cause(
                "share-used",
                "{count} of the {size} machines of set {set} are being changed already.",
                count=self.sets[member.set],
                size=self.sizes[member.set],
                set=member.set,
            )
        return None


def share(size: int, limits: Limits) -> int:
    """Return how many machines of a set of this size may be changed at a time."""
    return max(1, size * limits.share_percent // 100)


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
