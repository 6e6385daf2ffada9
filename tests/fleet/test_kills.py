"""kill -9 of an agent and of its server at any moment of an order: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hotmend.agent.record.history import Ordered, OrderEnded
from hotmend.servicing.actions import State
from hotmend.wire.api import Action, ActionWanted
from tests.fleet.members import Fleet, Member, fleet
from tests.repository.kit import BASELINE

pytestmark = [pytest.mark.live, pytest.mark.slow]
UPDATE, RELEASE, GOOD = "good/good.0.hotmend", "good", "1.0-3"
CVE = "CVE-2026-3333"
HOTMEND = shlex.join([sys.executable, "-m", "hotmend"])
AUDIT = "/var/lib/hotmend/audit.jsonl"
MOMENTS = ("ordered", "APPLYING", "HEALTH_CHECK", "order-ended")
"""Lines of the history: the agent is killed when each is on the disk; its server while it acts, or before it tells."""


@dataclass
class One:
    """A machine whose two parts are run by hand, and its server."""

    fleet: Fleet
    member: Member

    def carry(self) -> None:
        """Check in."""
        self.member.machine.run(f"{HOTMEND} agent uplink --once")

    def act(self) -> None:
        """Take a turn."""
        self.member.machine.run(f"{HOTMEND} agent run --once --audit {AUDIT}")

    def killed(self, words: str, call: str, number: int) -> None:
        """Run a command and kill it right after the n-th call of a kind."""
        inject = f"-e trace={call} -e inject={call}:signal=KILL:when={number}"
        done = self.member.machine.run(f"strace -qq {inject} -o /dev/null {HOTMEND} {words}", check=False)
        assert done.returncode != 0, f"{words}: it had ended before call {number} of {call}"

    def plan(self, kind: str, *updates: str, emergency: bool = False) -> str:
        """Have the server plan an action; an installation with the forecast that has to be seen first."""
        machines = self.fleet.server.machines
        token = machines.forecast(self.member.id, updates).token if kind == "install" else ""
        wanted = ActionWanted(kind, list(updates), anytime=True, emergency=emergency, forecast=token)  # type: ignore[arg-type]
        return machines.act(self.member.id, wanted).id

    def shown(self, action: str) -> Action:
        return self.fleet.server.machines.action(action)

    def reported(self) -> tuple[str, str, set[tuple[str, str]]]:
        """Return what the server knows of it: line, level, and where the fix of each vulnerability is."""
        report = self.fleet.server.machines.machine(self.member.id).report
        assert report is not None
        here = [each for each in report["findings"] if each["comm"] == "subject"]
        return report["line"], report["level"], {(each["cve"], each["fixed"]) for each in here}

    def lines(self) -> list[str]:
        """Return the lines of the history: of an action its state, of all else the kind."""
        text = self.member.file("var/lib/hotmend/agent/history.jsonl").read_text()
        lines = map(json.loads, text.splitlines())
        return [line["state"] if line["event"] == "action" else line["event"] for line in lines]

    def applied(self) -> int:
        """Return how often a process was changed to new code, by the audit record."""
        lines = map(json.loads, self.member.file(AUDIT).read_text().splitlines())
        return sum(
            line["deed"] == "apply" and line["phase"] == "after" and line["outcome"] == "applied" for line in lines
        )

    def taken_back(self) -> None:
        """Have the server take it back, at once, and let it be taken again; all of it is told."""
        revert, lift = self.plan("revert", RELEASE, emergency=True), self.plan("lift", RELEASE)
        self.carry()
        self.act()
        self.carry()
        assert [self.shown(each).state for each in (revert, lift)] == [State.SUCCEEDED] * 2
        assert self.member.answer()[:2] == (200, "as shipped")


@pytest.fixture
def one() -> Iterator[One]:
    with fleet() as begun:
        (member,) = begun.add(1)
        begun.releases.publish("good")
        made = One(begun, member)
        made.act()
        made.carry()
        yield made


@pytest.mark.long
def test_killed_in_the_middle_of_an_order(one: One) -> None:
    assert one.reported() == ("on", BASELINE, {(CVE, "nowhere")})
    before = len(one.lines())
    action = one.plan("install", UPDATE)
    one.carry()
    one.act()
    one.carry()
    assert one.shown(action).state == State.SUCCEEDED
    assert (one.member.answer()[1], one.member.active(), one.applied()) == ("repaired", [GOOD], 1)
    assert one.reported() == ("on", f"{BASELINE}, {RELEASE}", {(CVE, "in-memory")})
    lines = one.lines()[before:]
    one.taken_back()
    assert one.member.active() == []
    for count, moment in enumerate(MOMENTS, 2):
        action = one.plan("install", UPDATE)
        one.carry()
        if count % 2:
            one.fleet.server.kill()
        one.killed(f"agent run --once --audit {AUDIT}", "fdatasync", lines.index(moment) + 1)
        assert one.lines()[-1] == moment
        if count % 2:
            one.fleet.server.begin()
        one.act()
        if not count % 2:
            one.fleet.server.kill()
            assert one.member.machine.run(f"{HOTMEND} agent uplink --once", check=False).returncode == 1
            one.fleet.server.begin()
        one.carry()
        # It is there once: in memory, in the record of changes, in the machine's history and at the server.
        assert (one.member.answer()[1], one.member.active(), one.applied()) == ("repaired", [GOOD], count), moment
        ends = [each.state for each in one.member.events() if isinstance(each, OrderEnded) and each.order == action]
        assert len(ends) == 1, moment
        assert ends[0].good, moment
        shown = one.shown(action)
        assert shown.state == ends[0], moment
        states = [step.state for step in shown.steps]
        assert len(set(states)) == len(states), moment
        one.taken_back()
        begun = [each for each in one.member.events() if isinstance(each, Ordered) and each.order == action]
        assert len(begun) == (1 if moment == "order-ended" else 2), moment
    assert one.member.answer()[2] > len(MOMENTS)  # the process is the one that it was


def test_killed_between_asking_and_telling(one: One) -> None:
    """The part with a network is killed after each of its writes; the server hears each state once, and trusts it."""
    action = one.plan("install", UPDATE)
    for number in (1, 2, 3):  # the counter, the letter, what was told
        one.killed("agent uplink --once", "fsync", number)
    one.carry()
    one.act()
    for number in (1, 2, 3):
        one.killed("agent uplink --once", "fsync", number)
    one.carry()
    shown = one.shown(action)
    states = [step.state for step in shown.steps]
    assert (shown.state, len(set(states))) == (State.SUCCEEDED, len(states))
    detail = one.fleet.server.machines.machine(one.member.id)
    assert (detail.machine.state, one.applied()) == ("active", 1)


def test_what_an_order_brought_is_taken_back_and_nothing_else(one: One) -> None:
    action = one.plan("install", UPDATE)
    one.carry()
    one.act()
    later = one.plan("install")  # as a later rollout of all that is offered, which finds it here
    one.carry()
    one.act()
    one.carry()
    assert (one.shown(action).state, one.shown(later).state) == (State.SUCCEEDED, State.ALREADY_INSTALLED)
    machines = one.fleet.server.machines
    for undoes, active in ((later, [GOOD]), (action, [])):
        wanted = ActionWanted("revert", emergency=True, undoes=undoes)
        revert = machines.act(one.member.id, wanted).id
        one.carry()
        one.act()
        one.carry()
        assert (one.shown(revert).state, one.member.active()) == (State.SUCCEEDED, active)
    assert one.member.answer()[:2] == (200, "as shipped")
    again = one.plan("install")
    one.carry()
    one.act()
    one.carry()
    assert (one.shown(again).state, one.member.active()) == (State.ALREADY_INSTALLED, [])  # in quarantine
