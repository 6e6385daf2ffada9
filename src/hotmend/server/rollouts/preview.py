"""What a rollout would do, before it is made and before it is approved. Nothing is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy.engine import Connection

from hotmend.server.context import Context
from hotmend.server.maintenance.events import allowed
from hotmend.server.problem import conflict, not_found
from hotmend.server.rollouts import candidates, store
from hotmend.server.rollouts.service import seed_of
from hotmend.server.rollouts.spec import Spec, cause_json, plan_digest
from hotmend.server.rollouts.windows import Windows
from hotmend.servicing import rings
from hotmend.servicing.lanes import RULES, Lane
from hotmend.servicing.rollouts import State
from hotmend.servicing.starting import share, startable_alike

_FIRST: Final = 100
"""Machines that a preview names."""
PLANNED: Final = (State.WAITING_FOR_APPROVAL, State.READY)
"""States of a rollout of which nothing has begun."""


@dataclass(frozen=True, slots=True)
class RingPreview:
    """What would become of one ring.

    Attributes:
        name: of the ring.
        machines: how many.
        off: how many of them are not there now.
        waves: how many times its budget, or what its sets and pairs allow, must be begun at least.
        held_now: code of the cause to how many would not begin now.
        first: ids of machines that would begin first.
    """

    name: str
    machines: int
    off: int
    waves: int
    held_now: dict[str, int]
    first: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rollout would do; nothing is done.

    Attributes:
        plan: digest of it, for these machines and this seed.
        seed: what the choice by percentage and the order follow from.
        causes: why it would not be made; empty where it would.
        machines: how many in all.
        rings: in their order.
        hours_min: shortest time of all soaks together.
        approvals: how many people would have to approve.
    """

    plan: str
    seed: str
    causes: tuple[Mapping[str, object], ...]
    machines: int
    rings: tuple[RingPreview, ...]
    hours_min: float
    approvals: int


def preview(context: Context, lane: Lane, spec: Spec, given: str = "") -> Preview:
    """Return what a rollout would do now.

    Args:
        context: the server.
        lane: of the rollout.
        spec: of the rollout.
        given: seed of an earlier preview; "" draws anew.

    Raises:
        Problem: the seed is none.
    """
    now, seed = context.clock(), seed_of(given)
    with context.database.survey() as connection:
        asked = rings.tags_asked(spec.rings)
        crowds = candidates.crowds(connection, spec.selection, asked, _seen_after(context, now))
        placed = rings.plan_alike([each.alike for each in crowds], spec.rings, seed)
        state = _state(connection, now, lane, spec, crowds, placed)
    digest = plan_digest(spec, lane, [map(placed.ids.__getitem__, ring) for ring in placed.rings])
    return _preview(state, spec, lane, digest, seed)


def planned(context: Context, identity: str) -> Preview:
    """Return what a rollout that has not begun would do now, with the machines that its plan has.

    Raises:
        Problem: there is none, or it has begun or ended: then its machines say what they do.
    """
    now = context.clock()
    with context.database.survey() as connection:
        row = store.rollout(connection, identity)
        if row is None:
            raise not_found("rollout")
        if row["state"] not in PLANNED:
            raise conflict("state", f"it is {row['state']}", "its machines say where each stands")
        lane, spec = Lane(row["lane"]), msgspec.convert(row["spec"], Spec)
        crowds, placed = candidates.planned(connection, identity, len(spec.rings), _seen_after(context, now))
        state = _state(connection, now, lane, spec, crowds, placed)
    return _preview(state, spec, lane, row["plan"], row["seed"])


def _seen_after(context: Context, now: datetime) -> datetime:
    """Return since when somebody must have been heard of to be there."""
    return now - 3 * timedelta(seconds=context.settings.check_in_seconds)


def _state(
    connection: Connection,
    now: datetime,
    lane: Lane,
    spec: Spec,
    crowds: Sequence[candidates.Crowd],
    placed: rings.Placed,
) -> _Now:
    windows = Windows(
        candidates.policy_contents(connection), now, timedelta(minutes=spec.minutes), allowed(connection, now)
    )
    closed = [_closed(each, windows, lane) for each in crowds]
    sizes = candidates.set_sizes(connection) if any(each.alike.like.set for each in crowds) else {}
    return _Now(crowds, placed, closed, candidates.busy(connection, now), sizes)


def _preview(state: _Now, spec: Spec, lane: Lane, digest: str, seed: str) -> Preview:
    placed = state.placed
    found = tuple(
        _ring_preview(state, spec, ring.name, numbers)
        for ring, numbers in zip(spec.rings, placed.rings, strict=bool(placed.rings))
    )
    causes = tuple(cause_json(each) for each in placed.causes)
    hours = len(spec.rings) * spec.thresholds.soak_minutes / 60
    total = sum(len(each.alike.ids) for each in state.crowds)
    return Preview(digest, seed, causes, total, found, hours, RULES[lane].approvals)


def _closed(crowd: candidates.Crowd, windows: Windows, lane: Lane) -> str:
    """Return the code of what keeps a crowd's windows closed; "" where they are open, or the lane leaves them out."""
    if not crowd.there or not RULES[lane].windows:
        return ""
    decision = windows.ask(crowd.policy, crowd.zone)
    return "" if decision.allowed else decision.cause.code


@dataclass(frozen=True, slots=True)
class _Now:
    """What all rings of a preview rest on: who is like whom, windows, who is being changed, and how large sets are."""

    crowds: Sequence[candidates.Crowd]
    placed: rings.Placed
    closed: Sequence[str]
    busy: Iterable[rings.Member]
    sizes: Mapping[str, int]


def _ring_preview(state: _Now, spec: Spec, name: str, numbers: Sequence[int]) -> RingPreview:
    kinds = state.placed.kinds
    held, sets, pairs = Counter[str](), Counter[str](), Counter[str]()
    off, waits = 0, dict[int, int]()
    for kind, count in Counter(map(kinds.__getitem__, numbers)).items():
        crowd = state.crowds[kind]
        like = crowd.alike.like
        sets[like.set] += count
        pairs[like.pair] += count
        if not crowd.there:
            off += count
        elif state.closed[kind]:
            held[state.closed[kind]] += count
        else:
            waits[kind] = count
    whole = sum(waits.values()) == len(numbers)
    waiting = numbers if whole else [each for each in numbers if kinds[each] in waits]
    likes = [each.alike.like for each in state.crowds]
    start = startable_alike(waiting, state.placed, likes, state.busy, state.sizes, spec.limits, waits)
    held.update(start.held)
    waves = max(
        [
            -(-len(numbers) // spec.budget),
            *(-(-count // share(state.sizes.get(each, 0), spec.limits)) for each, count in sets.items() if each),
            *(count for each, count in pairs.items() if each),
        ],
        default=0,
    )
    first = tuple(state.placed.ids[each] for each in start.begun[:_FIRST])
    return RingPreview(name, len(numbers), off, waves, dict(held), first)
