"""The states of an action: forward only, and every one comes to an end."""

from __future__ import annotations

from itertools import product

import pytest

from hotmend.servicing.actions import FINAL, TRANSITIONS, WAITING, State, ends, may_follow, reachable


def test_every_state_is_an_end_or_in_the_table() -> None:
    assert TRANSITIONS.keys() | FINAL == set(State)
    assert not TRANSITIONS.keys() & FINAL


def test_every_state_but_the_first_is_reached_from_it() -> None:
    assert reachable(State.SCHEDULED) | ends(State.SCHEDULED) == set(State) - {State.SCHEDULED}


@pytest.mark.parametrize("state", sorted(FINAL))
def test_nothing_follows_an_end(state: State) -> None:
    assert not any(may_follow(state, after) for after in State)


def test_nothing_follows_itself_and_nothing_goes_back_to_the_start() -> None:
    assert not any(may_follow(state, state) for state in State)
    assert not any(may_follow(state, State.SCHEDULED) for state in State)


def test_what_may_follow_at_once_may_follow_later() -> None:
    for one, two, three in product(State, repeat=3):
        if may_follow(one, two) and may_follow(two, three) and one is not three:
            assert may_follow(one, three), (one, two, three)


def test_a_change_that_has_begun_is_not_blocked() -> None:
    assert may_follow(State.PRECHECK, State.BLOCKED)
    assert not may_follow(State.APPLYING, State.BLOCKED)
    assert may_follow(State.APPLYING, State.ROLLED_BACK)


def test_what_waits_has_changed_nothing() -> None:
    assert {State.SCHEDULED, State.WAITING_WINDOW} == WAITING
