"""The table of transitions: from everything memory can show, both ways end where they should."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotmend.live.machine import Observation, State, Step, state_of, steps_to_apply, steps_to_revert

COUNTS = st.integers(0, 3)


def walk(seen: Observation, steps: tuple[Step, ...]) -> State:
    """Return the state after `steps`, each of which treats all entries."""
    gate, where = seen.gate, ""
    for step in steps:
        if step in (Step.SWITCH, Step.UNSWITCH):
            gate = step is Step.SWITCH
        elif step is not Step.PLACE:
            where = {"stage": "stub", "settle": "new", "unsettle": "stub", "unstage": "old"}[step.value]
    if not where:
        return state_of(Observation(True, gate, seen.old, seen.stub, seen.new, seen.other))
    total = seen.old + seen.stub + seen.new
    spread = {name: total if name == where else 0 for name in ("old", "stub", "new")}
    return state_of(Observation(True, gate, spread["old"], spread["stub"], spread["new"], 0))


@given(st.booleans(), COUNTS, COUNTS, COUNTS)
def test_both_ways_end(gate: bool, old: int, stub: int, new: int) -> None:
    if old + stub + new == 0:
        return
    seen = Observation(placed=True, gate=gate, old=old, stub=stub, new=new, other=0)
    if state_of(seen) is State.DAMAGED:
        assert steps_to_apply(seen) == steps_to_revert(seen) == ()
        return
    assert walk(seen, steps_to_apply(seen)) is State.SETTLED
    assert walk(seen, steps_to_revert(seen)) is State.PLACED


@given(st.booleans(), COUNTS, COUNTS, COUNTS)
def test_the_gate_alone_decides(gate: bool, old: int, stub: int, new: int) -> None:
    """Whatever subset of entries was written: a state that is not damaged is active exactly with the gate."""
    state = state_of(Observation(placed=True, gate=gate, old=old, stub=stub, new=new, other=0))
    assert state is State.DAMAGED or state.active == gate


def test_half_done_steps_are_done_again() -> None:
    staged = Observation(placed=True, gate=False, old=2, stub=1, new=0, other=0)
    assert steps_to_apply(staged) == (Step.STAGE, Step.SWITCH, Step.SETTLE)
    assert steps_to_revert(staged) == (Step.UNSTAGE,)
    settled = Observation(placed=True, gate=True, old=0, stub=1, new=2, other=0)
    assert steps_to_apply(settled) == (Step.SETTLE,)
    assert steps_to_revert(settled) == (Step.UNSETTLE, Step.UNSWITCH, Step.UNSTAGE)
    assert state_of(Observation(False, False, 0, 0, 0, 0)) is State.EMPTY


def test_a_strange_entry_is_damage() -> None:
    assert state_of(Observation(True, True, 0, 1, 0, 1)) is State.DAMAGED
