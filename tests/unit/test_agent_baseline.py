"""Restarts and reboots wait for a baseline window, where there are any."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hotmend.agent.census.assessment import Assessment
from hotmend.agent.census.kernel import Boot
from hotmend.agent.configuration import parse_configuration
from hotmend.agent.finishing import finish
from hotmend.agent.machine import Machine, baseline_window, window
from hotmend.agent.paths import Places
from hotmend.agent.record.history import History
from hotmend.model.errors import InputError

NIGHTS = """
zone = "UTC"
reboot = "if-required"
[[maintenance.window]]
name = "night"
rule = "FREQ=DAILY"
start = 2026-01-01T02:00:00
minutes = 120
"""
QUARTERS = """
[[baseline_window]]
name = "quarter"
rule = "FREQ=MONTHLY;INTERVAL=3;BYDAY=2SU"
start = 2026-01-11T02:00:00
minutes = 60
"""
A_NIGHT, THE_NIGHT = datetime(2026, 4, 11, 2, 10, tzinfo=UTC), datetime(2026, 4, 12, 2, 10, tzinfo=UTC)
A_DAY = datetime(2026, 4, 12, 12, tzinfo=UTC)


def test_hotpatches_need_any_window_restarts_a_baseline_window() -> None:
    plain, quarters = parse_configuration(NIGHTS, "a"), parse_configuration(NIGHTS + QUARTERS, "b")
    for configuration in (plain, quarters):
        assert [window(configuration, at)[0].allowed for at in (A_NIGHT, THE_NIGHT, A_DAY)] == [True, True, False]
    assert [baseline_window(plain, at).allowed for at in (A_NIGHT, THE_NIGHT, A_DAY)] == [True, True, False]
    assert [baseline_window(quarters, at).allowed for at in (A_NIGHT, THE_NIGHT, A_DAY)] == [False, True, False]


def test_a_freeze_wins_over_a_baseline_window() -> None:
    freeze = '[[maintenance.freeze]]\nname = "sale"\nfirst = 2026-04-12\nlast = 2026-04-12\n'
    assert not baseline_window(parse_configuration(NIGHTS + freeze + QUARTERS, "c"), THE_NIGHT).allowed


def test_a_rule_that_is_none_is_an_error() -> None:
    with pytest.raises(InputError):
        parse_configuration(NIGHTS + QUARTERS.replace("MONTHLY", "HOURLY"), "d")


@pytest.mark.parametrize(("text", "rebooted"), [(NIGHTS, [True, True]), (NIGHTS + QUARTERS, [False, True])])
def test_a_reboot_waits_for_it(tmp_path: Path, text: str, rebooted: list[bool]) -> None:
    assert [_reboots(tmp_path / f"{at:%d}", text, at) for at in (A_NIGHT, THE_NIGHT)] == rebooted


def _reboots(root: Path, text: str, at: datetime) -> bool:
    """Return whether a machine that needs a reboot does it."""
    places, done = Places(root), list[str]()
    machine = Machine(places, parse_configuration(text, "e"), History(places.history), clock=lambda: at)
    due = Assessment(at, (), (), Boot("6.1.0-1", "", (), False, True, ("linux-image",)))
    finish(machine, installed=False, reboot=lambda: done.append("rebooted"), seen=due)
    return bool(done)
