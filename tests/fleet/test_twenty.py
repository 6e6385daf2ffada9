"""Twenty machines with agents, networks and processes of their own, and a server: a bad release, then a good one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hotmend.agent.record.history import Action, Ordered, OrderEnded, Quarantined
from hotmend.servicing.actions import State
from hotmend.wire.rollouts import RingWanted, Rollout, RolloutMember, RolloutWanted, ThresholdsWanted
from tests.fleet.members import Fleet, Member, fleet, wait
from tests.fleet.releases import PROGRAM
from tests.traceability import ROOT, Row, stands, table

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.long]
PAGE = ROOT / "docs" / "traceability.md"
MACHINES, CANARIES, BUDGET = 20, 4, 2
BAD, GOOD = "1.0-2", "1.0-3"


@pytest.fixture
def twenty() -> Iterator[Fleet]:
    with fleet() as begun:
        begun.add(CANARIES, canary="1")
        begun.add(MACHINES - CANARIES)
        begun.open_windows()
        begun.begin_agents()
        yield begun


def test_a_bad_release_stops_at_the_canaries_and_a_good_one_reaches_all(twenty: Fleet) -> None:
    canaries, others = twenty.members[:CANARIES], twenty.members[CANARIES:]
    assert {member.answer()[:2] for member in twenty.members} == {(200, "as shipped")}
    twenty.releases.publish("bad")
    bad = _begin(twenty, "bad", BUDGET)
    wait("the rollout is paused", lambda: _shown(twenty, bad).state == "PAUSED")
    wait("all that had begun has ended", lambda: all(State(str(each.state)).final for each in _actions(twenty, bad)))

    # The brake came with the first report, and only canaries had begun by then: as many as may at a time.
    shown = _shown(twenty, bad)
    assert [group.state for group in shown.groups] == ["ERROR", "SCHEDULED", "SCHEDULED"]
    assert shown.why["code"] == "errors-over-threshold"
    what = [event.what for event in twenty.server.rollouts.events(bad).items]
    assert what.count("brake") == 1
    assert "begun" not in what[what.index("brake") :]
    began = _ordered(twenty.members)
    assert 1 <= len(began) <= BUDGET
    assert set(began) <= {member.name for member in canaries}

    # Each of them had the new code in memory, saw that it is bad, and runs the old code again, in the same process.
    for member in canaries:
        if member.name in began:
            _taken_back(member)
    assert {member.answer()[:2] for member in twenty.members} == {(200, "as shipped")}
    assert all(member.active() == [] for member in canaries)
    told = {each.name: each for each in _actions(twenty, bad)}
    assert {name: each.state for name, each in told.items() if each.state != State.CANCELED} == dict.fromkeys(
        began, State.ROLLED_BACK
    )
    assert all("status 500" in told[name].detail for name in began)
    assert all(not any(isinstance(event, Action) for event in member.events()) for member in others)

    # The good one goes through all rings; nobody's web server was restarted meanwhile.
    twenty.server.rollouts.act(bad, "stop")
    wait("the bad one is stopped", lambda: _shown(twenty, bad).state == "STOPPED")
    twenty.releases.withdraw("bad")
    twenty.releases.publish("good")
    good = _begin(twenty, "good", MACHINES // 2)
    wait("the rollout is finished", lambda: _shown(twenty, good).state in ("FINISHED", "PAUSED"))
    shown = _shown(twenty, good)
    assert (shown.state, [group.state for group in shown.groups]) == ("FINISHED", ["FINISHED"] * 3), shown.why
    assert sum(sum(group.actions.values()) for group in shown.groups) == MACHINES
    answers = [member.answer() for member in twenty.members]
    assert {answer[:2] for answer in answers} == {(200, "repaired")}
    assert min(answer[2] for answer in answers) > 2  # it counts on: the process is the one that it was
    assert all(member.active() == [GOOD] for member in twenty.members)
    assert all(_ordered([member])[member.name][-1] == State.SUCCEEDED for member in twenty.members)
    starts = [group.began_at for group in shown.groups if group.began_at is not None]
    assert starts == sorted(set(starts))
    assert stands(PAGE, "twenty", table(_rows(twenty, bad, good))), "the page is written anew: read what changed"
    _soak(twenty)


def _soak(fleet: Fleet) -> None:
    """A canary's web server ends while its ring soaks: a look shows it, at the end of a run or asked for."""
    canaries, others = fleet.members[:CANARIES], fleet.members[CANARIES:]
    before = {name: len(ends) for name, ends in _ordered(others).items()}
    soaked = _begin(fleet, "good", CANARIES, name="again", soak_minutes=1)
    wait("the canaries soak", lambda: _shown(fleet, soaked).groups[0].state == "SOAKING")
    ill = canaries[0]
    ill.machine.run(f"kill $(pidof {Path(PROGRAM).name})")
    wait("the ring is judged", lambda: _shown(fleet, soaked).groups[0].state in ("ERROR", "FINISHED"))
    shown = _shown(fleet, soaked)
    assert (shown.state, shown.why["code"]) == ("PAUSED", "errors-over-threshold")
    assert [group.state for group in shown.groups] == ["ERROR", "SCHEDULED", "SCHEDULED"]
    report = fleet.server.machines.machine(ill.id).report
    assert report is not None
    assert "probe-failed" in [alert["code"] for alert in report["alerts"]]
    assert {name: len(ends) for name, ends in _ordered(others).items()} == before


def _rows(fleet: Fleet, bad: str, good: str) -> Iterator[Row]:
    canaries, others = fleet.members[:CANARIES], fleet.members[CANARIES:]
    command = "hotmend fleet --json rollout show ID"
    shown = _shown(fleet, bad)
    began = len(_actions_of(canaries, "bad"))
    paused = next(event for event in fleet.server.rollouts.events(bad).items if event.what == "paused")
    yield Row(
        "S33",
        "A release that breaks the server, seen by the probe of the agent that took it",
        command,
        f"paused, then {shown.state}; {_groups(shown)}; {paused.why['code']}; canaries that began: at most"
        f" {BUDGET} of {len(canaries)} ({1 <= began <= BUDGET});"
        f" of {len(others)} others: {len(_actions_of(others, 'bad'))}",
    )
    ends = {f"{each.state}: {each.detail}" for each in _actions(fleet, bad) if each.state != State.CANCELED}
    yield Row("S33", "... and what became of those that began", "hotmend fleet --json rollout show ID", "; ".join(ends))
    shown = _shown(fleet, good)
    new = sum(member.active() == [GOOD] for member in fleet.members)
    yield Row(
        "S32",
        "The right one, ring after ring",
        command,
        f"{shown.state}; {_groups(shown)}; with the new code in memory: {new} of {len(fleet.members)}",
    )


def _groups(shown: Rollout) -> str:
    return ", ".join(f"{group.name} {group.state}" for group in shown.groups)


def _actions_of(members: Sequence[Member], release: str) -> list[str]:
    """Return the machines whose history has an action for a release."""
    return [
        member.name
        for member in members
        if any(isinstance(event, Action) and event.release == release for event in member.events())
    ]


def _begin(fleet: Fleet, release: str, budget: int, *, name: str = "", soak_minutes: int = 0) -> str:
    wanted = RolloutWanted(
        name or release,
        [release],
        [RingWanted("canary", tag="canary"), RingWanted("half", percent=50), RingWanted("rest")],
        budget=budget,
        thresholds=ThresholdsWanted(soak_minutes=soak_minutes),
        disk=False,
    )
    made = fleet.server.rollouts.create(wanted)
    fleet.server.rollouts.approve(made.id, made.plan)
    fleet.server.rollouts.act(made.id, "start")
    return made.id


def _shown(fleet: Fleet, rollout: str) -> Rollout:
    return fleet.server.rollouts.get(rollout)


def _actions(fleet: Fleet, rollout: str) -> list[RolloutMember]:
    """Return the machines for which there is an action; one that was taken back before they were told is canceled."""
    return [each for each in fleet.server.rollouts.machines(rollout).items if each.state is not None]


def _ordered(members: Sequence[Member]) -> dict[str, list[State]]:
    """Return how the orders of each machine ended that has begun one, by its own history."""
    events = {member.name: member.events() for member in members}
    return {
        name: [each.state for each in its if isinstance(each, OrderEnded)]
        for name, its in events.items()
        if any(isinstance(each, Ordered) for each in its)
    }


def _taken_back(member: Member) -> None:
    """Check that the machine's history says what happened, and in which order."""
    actions = [event for event in member.events() if isinstance(event, Action)]
    assert [event.state for event in actions] == ["VERIFYING", "APPLYING", "HEALTH_CHECK", "ROLLED_BACK"]
    assert [process.comm for process in actions[2].changed] == ["subject"]
    assert actions[-1].changed == ()
    assert actions[-1].brings == f"subject={BAD}"
    assert [event.update for event in member.events() if isinstance(event, Quarantined)] == [actions[0].update]
