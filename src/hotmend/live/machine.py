"""The states of one update in one process, and the steps between them. A pure table.

What the memory shows decides the state; nothing is remembered anywhere else. Any subset of the entry writes of a
step is harmless (the gate alone decides old or new), so a half-done step is simply done again, in either direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where an update stands in a process."""

    EMPTY = "empty"  # no complete shadow
    PLACED = "placed"  # shadow and header complete, no entry changed, gate 0: the old code
    STAGED = "staged"  # entries lead to stubs, gate 0: still exactly the old code
    SWITCHED = "switched"  # gate 1: the new code, through the stubs
    SETTLED = "settled"  # entries jump to the new code
    REPLACED = "replaced"  # gate 1, but a later hotpatch has taken over: its code runs instead
    DAMAGED = "damaged"  # an entry holds none of the bytes it may hold

    @property
    def active(self) -> bool:
        """Whether the new code runs."""
        return self in (State.SWITCHED, State.SETTLED)


class Step(StrEnum):
    """What the driver can do."""

    PLACE = "place"
    STAGE = "stage"
    SWITCH = "switch"
    SETTLE = "settle"
    UNSETTLE = "unsettle"
    UNSWITCH = "unswitch"
    UNSTAGE = "unstage"


FORWARD: dict[State, tuple[Step, State]] = {
    State.EMPTY: (Step.PLACE, State.PLACED),
    State.PLACED: (Step.STAGE, State.STAGED),
    State.STAGED: (Step.SWITCH, State.SWITCHED),
    State.SWITCHED: (Step.SETTLE, State.SETTLED),
}

BACKWARD: dict[State, tuple[Step, State]] = {
    State.SETTLED: (Step.UNSETTLE, State.SWITCHED),
    State.SWITCHED: (Step.UNSWITCH, State.STAGED),
    State.STAGED: (Step.UNSTAGE, State.PLACED),
}


@dataclass(frozen=True, slots=True)
class Observation:
    """What memory shows of one update.

    Attributes:
        placed: whether shadow and headers are complete.
        gate: whether the gate byte is 1.
        old, stub, new, other: how many entries hold the old bytes, `jmp stub`, `jmp new`, or anything else.
        replaced: whether a later hotpatch that takes over from this one is active.
    """

    placed: bool
    gate: bool
    old: int
    stub: int
    new: int
    other: int
    replaced: bool = False

    @property
    def damaged(self) -> bool:
        """Whether an entry holds bytes that no step writes in this position of the gate."""
        return self.other > 0 or (self.old > 0 if self.gate else self.new > 0)


def state_of(seen: Observation) -> State:
    """Return the state to report."""
    if not seen.placed:
        return State.EMPTY
    if seen.damaged:
        return State.DAMAGED
    if seen.gate and seen.replaced:
        return State.REPLACED
    if seen.gate:
        return State.SWITCHED if seen.stub else State.SETTLED
    return State.STAGED if seen.stub else State.PLACED


def steps_to_apply(seen: Observation) -> tuple[Step, ...]:
    """Return the steps from what is seen to SETTLED; a half-done step is done again."""
    state = state_of(seen)
    if state in (State.DAMAGED, State.REPLACED):
        return ()
    if state is State.STAGED and seen.old:
        state = State.PLACED
    return _walk(FORWARD, state, State.SETTLED)


def steps_to_revert(seen: Observation) -> tuple[Step, ...]:
    """Return the steps from what is seen to PLACED; a half-done step is done again."""
    state = state_of(seen)
    if state in (State.DAMAGED, State.EMPTY, State.REPLACED):
        return ()
    if state is State.SWITCHED and seen.new:
        state = State.SETTLED
    return _walk(BACKWARD, state, State.PLACED)


def steps_to_repair(seen: Observation) -> tuple[Step, ...]:
    """Return the step that ends what a patcher that died had begun: the gate says whether to finish or to undo."""
    state = state_of(seen)
    if state is State.STAGED:
        return (Step.UNSTAGE,)
    return (Step.SETTLE,) if state is State.SWITCHED else ()


def _walk(table: dict[State, tuple[Step, State]], state: State, goal: State) -> tuple[Step, ...]:
    """Follow `table` from `state` to `goal`."""
    steps = []
    while state is not goal:
        step, state = table[state]
        steps.append(step)
    return tuple(steps)
