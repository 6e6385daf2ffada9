"""Rollouts: the tables, walked; rings; who may begin; gates; slots; lanes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.servicing import rollouts as r
from hotmend.servicing.actions import State as ActionState
from hotmend.servicing.gates import Judgement, Tally, Thresholds, Verdict, judge, well
from hotmend.servicing.lanes import RULES, Approval, Lane, approved
from hotmend.servicing.rings import (
    REST,
    Alike,
    Member,
    Placed,
    Ring,
    late_ring,
    plan,
    plan_alike,
    rings_check,
    tags_asked,
)
from hotmend.servicing.rollouts import GroupEvent, GroupState
from hotmend.servicing.slots import Slot, expired, give_back, take
from hotmend.servicing.starting import Limits, brake, share, startable, startable_alike
from tests.servicing.machines import BUSY, at, because

NOW = at("2026-11-29")
MINUTE = timedelta(minutes=1)

_ROLLOUT = """CREATING WAITING_FOR_APPROVAL, WAITING_FOR_APPROVAL READY, READY STARTING, STARTING RUNNING,
    RUNNING PAUSED, PAUSED RUNNING, PAUSED STOPPING, RUNNING STOPPING, STOPPING STOPPED, RUNNING FINISHED,
    RUNNING ROLLING_BACK,
    ROLLING_BACK ROLLED_BACK"""
_GROUP = """CREATING READY, READY SCHEDULED, SCHEDULED RUNNING, RUNNING SOAKING, SOAKING FINISHED, RUNNING ERROR,
    SOAKING ERROR"""
_DECIDED = {
    ("PAUSED", "ROLLING_BACK"),
    ("WAITING_FOR_APPROVAL", "STOPPING"),
    ("READY", "STOPPING"),
    ("STARTING", "STOPPING"),
    ("ROLLING_BACK", "STOPPING"),
}


def _pairs(text: str) -> set[tuple[str, ...]]:
    return {tuple(each.split()) for each in text.split(",")}


def test_the_tables_are_what_was_asked_for_and_what_was_decided() -> None:
    assert {(str(old), str(new)) for (old, _), new in r.TRANSITIONS.items()} == _pairs(_ROLLOUT) | _DECIDED
    assert {(str(old), str(new)) for (old, _), new in r.GROUP_TRANSITIONS.items()} == _pairs(_GROUP)


def test_ends_are_reached_from_everywhere_and_never_left() -> None:
    assert frozenset({r.State.STOPPED, r.State.FINISHED, r.State.ROLLED_BACK}) == r.FINAL
    assert frozenset({GroupState.FINISHED, GroupState.ERROR}) == r.GROUP_FINAL
    reached = {r.State.CREATING}
    for _ in r.State:
        reached |= {new for (old, _), new in r.TRANSITIONS.items() if old in reached}
    assert reached == set(r.State)
    for state in r.State:
        after = {state}
        for _ in r.State:
            after |= {new for (old, _), new in r.TRANSITIONS.items() if old in after}
        assert after & r.FINAL
        assert not state.final or after == {state}


@BUSY
@given(st.lists(st.sampled_from(r.Event), max_size=20), st.lists(st.sampled_from(GroupEvent), max_size=10))
def test_whatever_happens_the_tables_decide(events: list[r.Event], group_events: list[GroupEvent]) -> None:
    state, begun = r.State.CREATING, False
    for event in events:
        after = r.advance(state, event)
        assert after == r.TRANSITIONS.get((state, event))
        assert not (after and state.final)
        # Nothing runs that nobody has approved.
        begun = begun or after is r.State.READY
        assert begun or after is not r.State.RUNNING
        state = after or state
    group = GroupState.CREATING
    for group_event in group_events:
        then = r.group_advance(group, group_event)
        assert not (then is GroupState.FINISHED and group is not GroupState.SOAKING)
        group = then or group


def test_the_diagrams_draw_every_transition() -> None:
    assert len(r.diagram().split("\n")) == len(r.TRANSITIONS) + 2
    assert len(r.group_diagram().split("\n")) == len(r.GROUP_TRANSITIONS) + 2
    assert "    PAUSED --> RUNNING: resumed" in r.diagram()
    assert "    RUNNING --> ERROR: failed" in r.group_diagram()


# Rings

RINGS = (Ring("canary", tag="canary"), Ring("early", percent=10), Ring("rest"))
_names = st.sampled_from(["", "a", "b", "c"])
_member = st.builds(
    Member,
    st.uuids().map(str),
    st.sampled_from([frozenset[str](), frozenset({"canary"}), frozenset({"db"})]),
    _names,
    _names,
    st.sampled_from(["", *"pqrstuvw"]),
    st.sampled_from(["canary", "stable"]),
)
_members = st.lists(_member, max_size=60, unique_by=lambda member: member.id)
_selecting = st.one_of(
    st.builds(Ring, st.just("x"), tag=st.sampled_from(["canary", "db"])),
    st.builds(Ring, st.just("x"), domain=st.sampled_from(["a", "b"])),
    st.builds(Ring, st.just("x"), tier=st.sampled_from(["canary", "stable"])),
    st.builds(Ring, st.just("x"), percent=st.integers(1, 100)),
)


@BUSY
@given(_members, st.lists(_selecting, min_size=1, max_size=5), st.text(max_size=5))
def test_every_machine_is_in_one_ring(members: list[Member], chosen: list[Ring], seed: str) -> None:
    named = (msgspec.structs.replace(ring, name=str(number)) for number, ring in enumerate(chosen))
    rings = (*named, Ring("rest"))
    found = plan(members, rings, seed)
    assert sorted(each for ring in found.rings for each in ring) == sorted(member.id for member in members)
    assert found == plan(reversed(members), rings, seed)
    pairs = {member.id: member.pair for member in members}
    for ring in found.rings[:-1]:
        together = [pairs[each] for each in ring if pairs[each]]
        assert len(together) == len(set(together))
    if not found.causes:
        assert found.rings[0]
        assert len(members) == 1 or len(found.rings[0]) < len(members)


def test_rings_by_tag_domain_tier_and_percentage() -> None:
    members = [Member(f"m{number:03}", frozenset({"canary"} if number < 2 else ())) for number in range(100)]
    found = plan(members, RINGS, "x")
    assert found.rings[0] == tuple(sorted(found.rings[0], key=list(found.rings[0]).index))
    assert [len(ring) for ring in found.rings] == [2, 10, 88]
    assert set(found.rings[0]) == {"m000", "m001"}
    assert plan(members, RINGS, "y").rings[1] != found.rings[1]
    domains = [Member(str(number), domain="abc"[number % 3]) for number in range(9)]
    found = plan(domains, (Ring("a", domain="a"), Ring("b", domain="b"), Ring("c")), "")
    assert [sorted(ring) for ring in found.rings] == [["0", "3", "6"], ["1", "4", "7"], ["2", "5", "8"]]
    tiers = [Member(str(number), tier="stable" if number % 3 else "canary") for number in range(9)]
    found = plan(tiers, (Ring("first", tier="canary"), Ring("early", percent=20), Ring("rest")), "")
    assert sorted(found.rings[0]) == ["0", "3", "6"]
    assert [len(ring) for ring in found.rings] == [3, 1, 5]
    assert plan([Member("only")], (Ring("canary", percent=1), Ring("rest")), "").rings == (("only",), ())


@pytest.mark.parametrize(
    ("rings", "codes"),
    [
        ((), ["rings-count"]),
        ((Ring("a", percent=1), Ring("a")), ["ring-name-twice"]),
        ((Ring("a", tag="x", percent=1), Ring("b")), ["ring-selects-twice"]),
        ((Ring("a", tag="x", tier="canary"), Ring("b")), ["ring-selects-twice"]),
        ((Ring("a"), Ring("b")), ["ring-of-the-rest"]),
        ((Ring("a", percent=1),), ["ring-of-the-rest"]),
    ],
)
def test_rings_that_make_no_sense_are_refused(rings: tuple[Ring, ...], codes: list[str]) -> None:
    assert [each.code for each in rings_check(rings)] == codes
    assert plan([Member("a")], rings, "").causes == rings_check(rings)


@pytest.mark.parametrize(
    ("members", "rings", "code"),
    [
        ([], RINGS, "nobody-selected"),
        ([Member("a")], RINGS, "canary-empty"),
        ([Member("a"), Member("b")], (Ring("all"),), "canary-everyone"),
    ],
)
def test_without_a_canary_there_is_no_plan(members: list[Member], rings: tuple[Ring, ...], code: str) -> None:
    assert [each[0] for each in because(plan(members, rings, "").causes)] == [code]


def test_late_machines_join_a_ring_that_is_still_open() -> None:
    ended, soaking, running, ahead = GroupState.FINISHED, GroupState.SOAKING, GroupState.RUNNING, GroupState.SCHEDULED
    assert late_ring(0, [running, ahead, ahead]) == 0
    assert late_ring(0, [soaking, ahead, ahead]) == 1
    assert late_ring(REST, [running, ahead, ahead]) == 2
    assert late_ring(1, [ended, ended, running]) == 2
    assert late_ring(0, [ended, ended, soaking]) is None
    assert late_ring(0, [GroupState.ERROR]) is None


# Who may begin


def _crowded(members: list[Member]) -> list[Alike]:
    """Put machines together that differ in nothing but their ids, in any order."""
    ids: dict[Member, list[str]] = {}
    for member in members:
        ids.setdefault(dataclasses.replace(member, id=""), []).append(member.id)
    return [Alike(like, its) for like, its in ids.items()]


@BUSY
@given(_members, st.lists(_selecting, min_size=1, max_size=5), st.text(max_size=5))
def test_a_plan_of_crowds_is_that_of_their_machines(members: list[Member], chosen: list[Ring], seed: str) -> None:
    named = (msgspec.structs.replace(ring, name=str(number)) for number, ring in enumerate(chosen))
    rings = (*named, Ring("rest"))
    placed = plan_alike(_crowded(members), rings, seed)
    found = plan(members, rings, seed)
    assert placed.causes == found.causes
    assert tuple(tuple(placed.ids[each] for each in ring) for ring in placed.rings) == found.rings
    crowds = _crowded(members)
    assert all(placed.ids[each] in crowds[placed.kinds[each]].ids for ring in placed.rings for each in ring)
    asked = tags_asked(rings)
    less = [dataclasses.replace(each, tags=each.tags & asked) for each in members]
    assert plan(less, rings, seed) == plan(members, rings, seed)  # no other tag has a say


_crowding = st.builds(
    Member,
    st.uuids().map(str),
    st.just(frozenset[str]()),
    st.just(""),
    st.sampled_from(["", "a", "b", "c"]),
    st.sampled_from(["", "", "", "p", "q"]),
)


@BUSY
@given(
    st.lists(_crowding, max_size=40, unique_by=lambda member: member.id),
    st.lists(_crowding, max_size=3, unique_by=lambda member: member.id),
    st.integers(0, 3),
    st.integers(1, 20),
    st.integers(1, 100),
)
def test_who_begins_of_crowds_is_who_begins_of_their_machines(
    waiting: list[Member], others: list[Member], own: int, budget: int, percent: int
) -> None:
    busy = [*others, *waiting[:own]]
    sizes = Counter(member.set for member in [*waiting, *busy] if member.set != "c")
    limits = Limits(budget, percent)
    found = startable(waiting, busy, sizes, 0, limits)
    crowds = _crowded(waiting)
    ids = [each for crowd in crowds for each in crowd.ids]
    placed = Placed(ids, [number for number, crowd in enumerate(crowds) for _ in crowd.ids], ())
    numbers = [ids.index(member.id) for member in waiting]
    counts = {number: len(crowd.ids) for number, crowd in enumerate(crowds)}
    alike = startable_alike(numbers, placed, [crowd.like for crowd in crowds], busy, sizes, limits, counts)
    assert [ids[each] for each in alike.begun] == [member.id for member in found.members]
    assert alike.held == Counter(why.code for why in found.held.values())


@BUSY
@given(_members, _members, st.integers(1, 10), st.integers(1, 100))
def test_never_more_than_the_budget_and_the_share_and_never_both_of_a_pair(
    waiting: list[Member], busy: list[Member], budget: int, percent: int
) -> None:
    sizes = Counter(member.set for member in [*waiting, *busy] if member.set != "c")
    limits = Limits(budget, percent)
    found = startable(waiting, busy, sizes, in_ring=0, limits=limits)
    assert len(found.members) <= budget
    assert {member.id for member in found.members} | found.held.keys() == {member.id for member in waiting}
    pairs = Counter(member.pair for member in [*found.members, *busy] if member.pair)
    assert all(pairs[member.pair] == 1 for member in found.members if member.pair)
    sets = Counter(member.set for member in [*found.members, *busy])
    for member in found.members:
        assert member.set != "c"  # its size is not known
        assert not member.set or sets[member.set] <= share(sizes[member.set], limits)
    free = [member for member in waiting if not member.set and not member.pair and member not in busy]
    assert len(found.members) >= min(budget, len(free))


@pytest.mark.parametrize(
    ("waiting", "busy", "code"),
    [
        (Member("a"), [Member("a")], "machine-busy"),
        (Member("a", pair="p"), [Member("b", pair="p")], "partner-busy"),
        (Member("a", set="other"), [], "set-unknown"),
        (Member("a", set="s"), [Member("b", set="s")], "share-used"),
    ],
)
def test_why_a_machine_does_not_begin(waiting: Member, busy: list[Member], code: str) -> None:
    found = startable([waiting], busy, {"s": 5}, 0, Limits(5))
    assert found.members == ()
    assert [each[0] for each in because(found.held.values())] == [code]
    full = startable([Member("z")], [], {}, 5, Limits(5))
    assert [each[0] for each in because(full.held.values())] == ["budget-used"]


def test_a_share_is_rounded_down_but_never_to_nothing() -> None:
    assert [share(size, Limits(1, 20)) for size in (1, 4, 5, 9, 10, 11)] == [1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("state", r.State)
def test_nothing_begins_unless_the_rollout_runs_and_nothing_failed(state: r.State) -> None:
    for lane in (Lane.NORMAL, Lane.ZERO_DAY):
        held = brake(state, lane, halted=False, failed_at=None)
        assert (held is None) == (state is r.State.RUNNING)
        for halted in (True, None):
            found = brake(state, lane, halted=halted, failed_at=None)
            assert found is not None
            assert because([found])[0][0] == "halted"
        found = brake(state, lane, halted=False, failed_at=NOW)
        assert found is not None
        assert because([found])[0][0] == ("brake-on" if held is None else "rollout-not-running")
    assert brake(state, Lane.EMERGENCY, halted=True, failed_at=NOW) is None


# Gates

_count = st.integers(0, 40)


@BUSY
@given(st.builds(Tally, *[_count] * 7), st.integers(1, 100), st.integers(0, 10), st.integers(-60, 60), st.booleans())
def test_a_gate_opens_only_on_proof(tally: Tally, percent: int, errors: int, minutes: int, canary: bool) -> None:
    thresholds = Thresholds(percent, errors, 30)
    found = judge(tally, thresholds, NOW - minutes * MINUTE, NOW, canary=canary)
    if tally.failed > errors:
        assert found.verdict is Verdict.STOP
    if found.verdict is Verdict.OPEN:
        counted = tally.well + tally.failed + tally.blocked
        assert tally.busy == tally.waiting == 0
        assert tally.failed <= errors
        assert minutes >= 30
        assert 100 * tally.well >= percent * counted
        assert tally.well or not canary
    # A failure more never opens it, nor does one more that is not done.
    if found.verdict is not Verdict.OPEN:
        worse = Tally(tally.well, tally.failed + 1, tally.blocked, tally.none, tally.busy, tally.waiting, tally.off)
        assert judge(worse, thresholds, NOW - minutes * MINUTE, NOW, canary=canary).verdict is not Verdict.OPEN


_NONE = None
_SOAKED = NOW - 30 * MINUTE


@pytest.mark.parametrize(
    ("tally", "quiet", "verdict", "code"),
    [
        (Tally(well=9, failed=2), _SOAKED, Verdict.STOP, "errors-over-threshold"),
        (Tally(well=9, busy=1), _SOAKED, Verdict.WAIT, "ring-running"),
        (Tally(well=9, waiting=1), _SOAKED, Verdict.WAIT, "ring-running"),
        (Tally(off=3), _SOAKED, Verdict.WAIT, "canary-silent"),
        (Tally(none=3), _SOAKED, Verdict.WAIT, "canary-silent"),
        (Tally(well=9, blocked=2), _SOAKED, Verdict.STOP, "success-under-threshold"),
        (Tally(well=9, failed=1), _SOAKED + MINUTE, Verdict.SOAK, "soaking"),
        (Tally(well=9), _NONE, Verdict.SOAK, "soaking"),
        (Tally(well=9), NOW + MINUTE, Verdict.SOAK, "soaking"),
        (Tally(well=9, failed=1, off=5), _SOAKED, Verdict.OPEN, "ring-passed"),
    ],
)
def test_what_a_gate_says(tally: Tally, quiet: object, verdict: Verdict, code: str) -> None:
    found = judge(tally, Thresholds(90, 1, 30), quiet, NOW, canary=True)  # type: ignore[arg-type]
    assert isinstance(found, Judgement)
    assert (found.verdict, because([found.cause])[0][0]) == (verdict, code)


def test_a_ring_after_the_canary_may_be_off_as_a_whole() -> None:
    assert judge(Tally(off=3), Thresholds(), _SOAKED, NOW, canary=False).verdict is Verdict.OPEN


@pytest.mark.parametrize("state", ActionState)
def test_an_unreadable_signal_counts_as_no(state: ActionState) -> None:
    limit = Thresholds(silence_minutes=10)
    assert well(state, True, NOW - 10 * MINUTE, NOW, limit) == state.good
    assert not well(state, None, NOW, NOW, limit)
    assert not well(state, False, NOW, NOW, limit)
    assert not well(state, True, None, NOW, limit)
    assert not well(state, True, NOW - 11 * MINUTE, NOW, limit)


# Slots


@BUSY
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans(), st.integers(0, 20))), st.integers(1, 3))
def test_never_more_owners_than_slots(deeds: list[tuple[str, bool, int]], size: int) -> None:
    slots: tuple[Slot, ...] = ()
    now = NOW
    for owner, takes, minutes in deeds:
        now += minutes * MINUTE
        if takes:
            found = take(slots, size, owner, now, 15 * MINUTE)
            slots = found.slots
            assert (owner in {slot.owner for slot in slots}) == (found.refused is None)
        else:
            slots = give_back(slots, owner)
        alive = [slot for slot in slots if slot.expires_at > now]
        assert len(alive) <= size
        assert len({slot.owner for slot in slots}) == len(slots)


def test_an_owner_that_does_not_come_back_loses_its_slot() -> None:
    first = take((), 1, "a", NOW, 15 * MINUTE)
    second = take(first.slots, 1, "b", NOW + MINUTE, 15 * MINUTE)
    assert second.refused is not None
    assert because([second.refused])[0][0] == "no-slot"
    again = take(first.slots, 1, "a", NOW + MINUTE, 15 * MINUTE)
    assert again.slots == (Slot("a", NOW + 16 * MINUTE),)
    assert expired(again.slots, NOW + 15 * MINUTE) == ()
    assert expired(again.slots, NOW + 16 * MINUTE) == ("a",)
    assert take(again.slots, 1, "b", NOW + 16 * MINUTE, MINUTE).refused is None
    assert take((), 0, "a", NOW, MINUTE).refused is not None


# Lanes


def test_a_zero_day_takes_two_people_and_keeps_the_canary() -> None:
    assert RULES[Lane.ZERO_DAY].canary
    assert not RULES[Lane.ZERO_DAY].windows
    one, two, other = Approval("ann", "plan"), Approval("bob", "plan"), Approval("bob", "an older plan")
    for approvals in ([], [one], [one, one], [one, other]):
        missing = approved(Lane.ZERO_DAY, "plan", "", approvals)
        assert missing is not None
        assert because([missing])[0][0] == "approval-missing"
    assert approved(Lane.ZERO_DAY, "plan", "cid", [one, two]) is None
    assert approved(Lane.NORMAL, "plan", "ann", [one]) is None
    assert approved(Lane.NORMAL, "plan", "cid", [other]) is not None
    # Whoever planned a zero-day, or may not approve any more, is none of the two.
    missing = approved(Lane.ZERO_DAY, "plan", "ann", [one, two])
    assert missing is not None
    assert dict(missing.message.values) == {"count": 1, "needed": 2}
    assert approved(Lane.ZERO_DAY, "plan", "cid", [one, Approval("bob", "plan", may=False)]) is not None
    assert approved(Lane.NORMAL, "plan", "cid", [Approval("ann", "plan", may=False)]) is not None


def test_an_emergency_revert_waits_for_nothing() -> None:
    rules = RULES[Lane.EMERGENCY]
    assert (rules.windows, rules.slots, rules.canary, rules.approvals) == (False, False, False, 0)
