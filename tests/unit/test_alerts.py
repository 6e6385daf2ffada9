"""What the records say, how bad it is, and that monitoring and runbook know every alert."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotmend.agent.census.alerts import LEVELS, AlertCode, Level, Record, record_alerts, worst
from hotmend.agent.record.history import AgentBegan, AnyEvent, Assessed, Crashed, Ordered, OrderEnded, RunEnded
from hotmend.agent.record.hold import Hold
from hotmend.servicing.actions import State
from hotmend.wire.report import Issue

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
TURN = timedelta(hours=1)


def codes(
    *events: AnyEvent, hold: Hold | None = None, quarantine: tuple[str, ...] = (), bad: tuple[int, ...] = ()
) -> list[str]:
    return [alert.code for alert in record_alerts(Record(events, bad, hold, quarantine, TURN), NOW)]


def ago(hours: float) -> datetime:
    return NOW - timedelta(hours=hours)


def crash(hours: float, *, ours: bool) -> Crashed:
    return Crashed(at=ago(hours), pid=1, comm="x", unit="x.service", address=1, ours=ours, hotpatches=("ab",))


def test_records() -> None:
    assert codes() == []
    assert codes(crash(1, ours=True)) == [AlertCode.CRASHED]
    assert codes(crash(1, ours=False), crash(25, ours=True)) == []
    assert codes(quarantine=("nginx=2",), hold=Hold(None, "")) == [AlertCode.QUARANTINED, AlertCode.HELD]
    assert codes(bad=(3,)) == [AlertCode.HISTORY]


@pytest.mark.parametrize(
    ("state", "failed"),
    [
        (State.SUCCEEDED, False), (State.SUCCEEDED_WITH_WARNINGS, False), (State.BLOCKED, False), (State.FAILED, True),
        (State.ROLLED_BACK, True), (State.WINDOW_EXCEEDED, True), (State.TIMED_OUT, True),
    ],
)  # fmt: skip
def test_only_the_last_run_counts(state: State, failed: bool) -> None:
    good = RunEnded(at=ago(1), run="b", outcome=State.SUCCEEDED)
    ended = RunEnded(at=ago(2), run="a", outcome=state)
    assert codes(ended) == ([AlertCode.RUN_FAILED] if failed else [])
    assert codes(ended, good) == []


def test_an_agent_that_has_stopped_looking_is_silent_and_one_that_never_began_is_not() -> None:
    began = AgentBegan(at=ago(9), version="1", mode="observe", boot="x")
    assessed = [Assessed(at=ago(hours), waiting=(), restarts=(), reboot=()) for hours in (8, 4, 2.9)]
    assert codes(began, *assessed) == []
    assert codes(began, *assessed[:2]) == [AlertCode.SILENT]
    assert codes(began) == [AlertCode.SILENT]
    assert codes(assessed[0]) == []


def test_a_known_issue_whose_deadline_is_over_is_an_alert() -> None:
    look = Assessed(at=ago(2), waiting=(), restarts=(), reboot=())
    due = Issue("r1/0", "It is slow.", True, deadline=NOW.date())
    late = msgspec.structs.replace(due, overdue=True)
    assert codes(msgspec.structs.replace(look, issues=(due,))) == []
    assert codes(msgspec.structs.replace(look, issues=(due, late))) == [AlertCode.ISSUE]
    assert codes(msgspec.structs.replace(look, issues=(late,)), look) == []


def test_a_probe_that_said_no_at_the_last_look_is_an_alert() -> None:
    looks = [Assessed(at=ago(hours), waiting=(), restarts=(), reboot=()) for hours in (3, 2, 1)]
    ill = msgspec.structs.replace(looks[1], ill=("probe web: status 500", "probe db: refused"))
    assert codes(looks[0], ill) == [AlertCode.PROBE_FAILED]
    assert codes(looks[0], ill, looks[2]) == []


@pytest.mark.parametrize(
    ("state", "hours", "told"),
    [(State.SUCCEEDED, 1, True), (State.FAILED, 1, True), (State.BLOCKED, 167, True), (State.SUCCEEDED, 169, False),
     (State.NOT_APPLICABLE, 1, False)],
)  # fmt: skip
def test_fixes_that_a_server_had_taken_back_are_told_for_a_week(state: State, hours: float, told: bool) -> None:
    other = (
        Ordered(at=ago(hours), order="b" * 32, kind="install"),
        OrderEnded(at=ago(hours), order="b" * 32, state=state),
    )
    order = Ordered(at=ago(hours), order="a" * 32, kind="revert", updates=("nginx=2",), reason="it crashes")
    ended = OrderEnded(at=ago(hours), order=order.order, state=state)
    assert codes(*other, order, ended) == [AlertCode.REVERTED] * told
    assert codes(order) == []  # it is not done yet


@settings(deadline=None)  # a busy machine is no mistake
@given(st.lists(st.sampled_from(Level)))
def test_the_worst_is_critical_then_unknown_then_a_warning(levels: list[Level]) -> None:
    order = [Level.CRITICAL, Level.UNKNOWN, Level.WARNING, Level.OK]
    assert worst(levels) is next((level for level in order if level in levels), Level.OK)


def test_every_alert_has_a_level_a_rule_and_a_section_of_the_runbook() -> None:
    rules = (ROOT / "packaging/prometheus/hotmend.rules.yml").read_text()
    headings = set(re.findall(r"^## (\S+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE))
    assert set(LEVELS) == set(AlertCode)
    assert set(re.findall(r'alert="([^"]+)"', rules)) == set(AlertCode)
    linked = re.findall(r"runbook_url: docs/runbook.md#(\S+)", rules)
    assert len(linked) == rules.count("- alert: ")
    assert set(linked) == headings == {*AlertCode, "metrics-stale"}
