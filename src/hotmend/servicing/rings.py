"""Which machine belongs to which ring of a rollout: by tag, fault domain, tier or percentage, canary first.

Rings are looked at in their order, and the first that fits takes the machine. A percentage is of all machines, taken
from those that no tag, domain or tier has claimed, in an order that follows from the rollout's own seed: another
rollout has other canaries, and the same plan made twice is the same. Two machines of a pair are never in one ring while
there is a later one; whoever starts them sees to it besides that they are never changed at the same time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta

from hotmend.servicing.message import Cause, cause
from hotmend.servicing.rollouts import OPEN, GroupState

RINGS_MAX: Final = 50
REST: Final = -1


class Ring(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ring. Of `tag`, `domain`, `tier` and `percent` one is given, or none: the rest, which is the last ring.

    Attributes:
        name: for people, unlike that of any other ring.
        tag: machines with this tag.
        domain: machines of this fault domain.
        percent: of all machines, at least one.
        tier: machines of this tier, which their registration key gave them.
    """

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    tag: Annotated[str, Meta(max_length=200)] = ""
    domain: Annotated[str, Meta(max_length=200)] = ""
    percent: Annotated[int, Meta(ge=0, le=100)] = 0
    tier: Literal["", "canary", "stable"] = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A machine as the planner sees it.

    Attributes:
        id: of the machine.
        tags: those it has.
        domain: its fault domain; "" where it has none.
        set: the set that is to stay available, of which only a share is changed at a time; "": none.
        pair: name that both machines of a pair have; "": none.
        tier: whose releases it takes.
    """

    id: str
    tags: frozenset[str] = frozenset()
    domain: str = ""
    set: str = ""
    pair: str = ""
    tier: str = ""


@dataclass(frozen=True, slots=True)
class Alike:
    """Machines that the rules cannot tell apart but by their ids: what holds for one holds for each.

    Attributes:
        like: one of them; its id is not looked at.
        ids: of all.
    """

    like: Member
    ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """Who is where.

    Attributes:
        rings: machine ids of each ring, in the order in which they start.
        causes: why the plan must not be used; empty where it may.
    """

    rings: tuple[tuple[str, ...], ...]
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class Placed:
    """Who is where, by numbers: a hundred thousand machines are placed in the time in which a person waits.

    Attributes:
        ids: of all machines; kinds: number of each one's crowd.
        rings: places in `ids` of each ring's machines, in the order in which they start.
        causes: as of a `Plan`.
    """

    ids: Sequence[str]
    kinds: Sequence[int]
    rings: Sequence[Sequence[int]]
    causes: tuple[Cause, ...] = ()


def rings_check(rings: Sequence[Ring]) -> tuple[Cause, ...]:
    """Return what is wrong with rings, whoever is in them."""
    found: list[Cause] = []
    if not 1 <= len(rings) <= RINGS_MAX:
        found.append(cause("rings-count", "A rollout has 1 to {limit} rings.", limit=RINGS_MAX))
    if len({ring.name for ring in rings}) != len(rings):
        found.append(cause("ring-name-twice", "Two rings have the same name."))
    for number, ring in enumerate(rings):
        if sum(map(bool, (ring.tag, ring.domain, ring.tier, ring.percent))) > 1:
            found.append(cause("ring-selects-twice", "Ring {ring} selects in more than one way.", ring=ring.name))
        if (not _selects(ring)) != (number == len(rings) - 1):
            found.append(
                cause(
                    "ring-of-the-rest", "The last ring, and no other, takes the rest; {ring} does not.", ring=ring.name
                )
            )
    return tuple(found)


def plan(members: Iterable[Member], rings: Sequence[Ring], seed: str) -> Plan:
    """Return who is in which ring.

    Args:
        members: all machines of the rollout.
        rings: in their order; the first is the canary.
        seed: what the choice by percentage follows from.
    """
    placed = plan_alike([Alike(member, (member.id,)) for member in members], rings, seed)
    return Plan(tuple(tuple(map(placed.ids.__getitem__, ring)) for ring in placed.rings), placed.causes)


def plan_alike(crowds: Sequence[Alike], rings: Sequence[Ring], seed: str) -> Placed:
    """Return who is in which ring, of machines that are given as crowds; otherwise as `plan`."""
    wrong = rings_check(rings)
    if wrong:
        return Placed((), (), (), wrong)
    ids = [each for crowd in crowds for each in crowd.ids]
    kinds = [number for number, crowd in enumerate(crowds) for _ in crowd.ids]
    ordered = _ordered(seed, ids)
    found, left = _taken(crowds, kinds, rings, ordered)
    for number, ring in enumerate(rings):
        if ring.percent:
            count = max(1, ring.percent * len(ordered) // 100)
            found[number] += left[:count]
            left = left[count:]
    found[-1] += left
    if any(crowd.like.pair for crowd in crowds):
        _part_pairs(found, [crowds[kind].like.pair for kind in kinds])
    return Placed(ids, kinds, found, _wrong(found, len(ordered)))


def _taken(
    crowds: Sequence[Alike], kinds: Sequence[int], rings: Sequence[Ring], ordered: list[int]
) -> tuple[list[list[int]], list[int]]:
    """Return the machines that each ring takes by tag, domain or tier, and those that are left, in order."""
    places = [natural_ring(crowd.like, rings) for crowd in crowds]
    found: list[list[int]] = [[] for _ in rings]
    if all(place == REST for place in places):
        return found, ordered
    left: list[int] = []
    for each in ordered:
        place = places[kinds[each]]
        (left if place == REST else found[place]).append(each)
    return found, left


def _wrong(placed: Sequence[Sequence[int]], count: int) -> tuple[Cause, ...]:
    if not count:
        return (cause("nobody-selected", "No machine is selected."),)
    if not placed[0]:
        return (cause("canary-empty", "The first ring, the canary, has no machine."),)
    if count > 1 and len(placed[0]) == count:
        return (cause("canary-everyone", "All machines are in the first ring: nobody would go first."),)
    return ()


def tags_asked(rings: Iterable[Ring]) -> frozenset[str]:
    """Return the names of the tags by which rings take machines: no other tag has a say in who is where."""
    return frozenset(ring.tag.partition("=")[0] for ring in rings if ring.tag)


def natural_ring(member: Member, rings: Sequence[Ring]) -> int:
    """Return the number of the ring whose tag, domain or tier a machine has; REST where it is left to percentages."""
    for number, ring in enumerate(rings):
        own = (ring.domain and ring.domain == member.domain) or (ring.tier and ring.tier == member.tier)
        if own or (ring.tag and ring.tag in member.tags):
            return number
    return REST


def late_ring(place: int, states: Sequence[GroupState]) -> int | None:
    """Return the ring that takes a machine which comes late; None: the next rollout does.

    A ring whose gate already counts its time takes nobody: what it proved would no longer be what it has.

    Args:
        place: the ring that the machine belongs to by its tags, or in which it was when it was off; REST: the last.
        states: of all rings.
    """
    first = len(states) - 1 if place == REST else place
    return next((number for number in range(first, len(states)) if states[number] in OPEN), None)


def _selects(ring: Ring) -> bool:
    return bool(ring.tag or ring.domain or ring.tier or ring.percent)


def _ordered(seed: str, ids: Sequence[str]) -> list[int]:
    prefix = f"{seed}\0".encode()
    sha256 = hashlib.sha256
    ranks = b"".join([sha256(prefix + each).digest() for each in map(str.encode, ids)])
    # Sorted as bytes by numpy: a key for each of a hundred thousand takes longer than its hash.
    order: list[int] = np.argsort(np.frombuffer(ranks, f"S{sha256().digest_size}")).tolist()
    return order


def _part_pairs(found: list[list[int]], pairs: Sequence[str]) -> None:
    """Move the second machine of a pair one ring further, as long as there is one."""
    for number, ring in enumerate(found[:-1]):
        seen: set[str] = set()
        stay: list[int] = []
        for each in ring:
            pair = pairs[each]
            if pair and pair in seen:
                found[number + 1].append(each)
                continue
            stay.append(each)
            seen.add(pair)
        found[number] = stay
