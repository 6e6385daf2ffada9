"""Which services have to run on after a change, by what the service manager says of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.agent.health.ended import ended_together
from hotmend.agent.health.probes import begin, unhealthy
from hotmend.agent.health.services import ServiceProbe
from hotmend.agent.record.history import ChangedProcess
from hotmend.agent.run import unit_probes

UNIT = "a.service"
RUNS = {"ActiveState": "active", "SubState": "running", "Result": "success", "MainPID": "7", "NRestarts": "0"}
RUNS |= {"Type": "simple", "Restart": "no", "ActiveExitTimestampMonotonic": "0", "ExecMainExitTimestampMonotonic": "0"}
ENDED = {"ActiveState": "inactive", "SubState": "dead", "MainPID": "0"}
ASKED = ENDED | {"ActiveExitTimestampMonotonic": "100", "ExecMainExitTimestampMonotonic": "200"}
BY_ITSELF = ENDED | {"ActiveExitTimestampMonotonic": "200", "ExecMainExitTimestampMonotonic": "199"}
ENDING = {"ActiveState": "deactivating", "SubState": "stop-sigterm", "ActiveExitTimestampMonotonic": "100"}
AGAIN = {"MainPID": "8"}
DAEMON = {"WantedBy": "multi-user.target"}
SOCKET = {"TriggeredBy": "a.socket", "WantedBy": "multi-user.target", "Restart": "on-failure"}
TIMER = {"TriggeredBy": "a.timer"}
BUS = {"Type": "dbus", "BusName": "org.a", "Restart": "on-failure"}

Says = Callable[..., None]


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Set what systemctl shows."""
    (program := tmp_path / "systemctl").write_text(f'#!/bin/sh\ncat "{tmp_path}/shown"\n')
    program.chmod(0o755)
    monkeypatch.setattr("hotmend.agent.health.services._LOOK_PAUSE_SECONDS", 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def says(*shown: dict[str, str]) -> None:
        fields = RUNS | {key: value for each in shown for key, value in each.items()}
        (tmp_path / "shown").write_text("".join(f"{key}={value}\n" for key, value in fields.items()))

    return says


@pytest.mark.parametrize(
    ("kind", "after", "why"),
    [
        ({}, {}, ""),
        (DAEMON, {"ActiveState": "reloading"}, ""),
        (DAEMON, ASKED, ""),
        (DAEMON, ENDING, ""),
        (DAEMON, BY_ITSELF, "has ended by itself"),
        (DAEMON, BY_ITSELF | {"ActiveState": "deactivating"}, "has ended by itself"),
        (DAEMON, ENDED, "has ended by itself"),
        ({"RequiredBy": "b.service"}, BY_ITSELF, "has ended by itself"),
        ({"Restart": "on-failure"}, BY_ITSELF, "has ended by itself"),
        (DAEMON, RUNS | {"SubState": "exited", "MainPID": "0"}, "has ended by itself"),
        ({}, BY_ITSELF, ""),
        (SOCKET, BY_ITSELF, ""),
        (TIMER, BY_ITSELF, ""),
        (BUS, BY_ITSELF, ""),
        (BUS | DAEMON, BY_ITSELF, "has ended by itself"),
        (SOCKET, BY_ITSELF | {"ActiveState": "failed", "Result": "exit-code"}, "is failed"),
        (TIMER, BY_ITSELF | {"ActiveState": "failed", "Result": "core-dump"}, "is failed"),
        ({}, ENDING | {"Result": "watchdog"}, "is deactivating"),
        (DAEMON, {"ActiveState": "activating", "SubState": "auto-restart"}, "is activating"),
        (DAEMON, AGAIN, "has restarted"),
        (DAEMON, {"NRestarts": "1"}, "has restarted"),
        (SOCKET, AGAIN, "has restarted"),
        (TIMER, AGAIN, ""),
        (TIMER, AGAIN | {"NRestarts": "1"}, "has restarted"),
    ],
)
def test_how_a_service_may_be_after_a_change(says: Says, kind: dict[str, str], after: dict[str, str], why: str) -> None:
    """Beside the probe, what counts processes that are gone says the same of a service that has ended."""
    probe = ServiceProbe(name="u", unit=UNIT, tries=1)
    says(kind)
    watched = begin([probe])
    assert unhealthy([probe], watched) == ""
    says(kind, after)
    assert unhealthy([probe], watched) == (f"probe u: {UNIT} {why}" if why else "")
    gone = [ChangedProcess(2**22 + 1, 0, "a", UNIT)]
    over = after.get("ActiveState") in ("inactive", "deactivating")
    assert bool(ended_together(gone, 1.0, services=True)) == (bool(why) or not over)


@pytest.mark.parametrize(
    "before",
    [{"Type": "oneshot", "ActiveState": "activating"}, {"ActiveState": "failed"}, {"SubState": "exited"}, ENDED],
)
def test_what_did_not_run_before_says_nothing(says: Says, before: dict[str, str]) -> None:
    probe = ServiceProbe(name="u", unit=UNIT, tries=1)
    says(before)
    watched = begin([probe])
    assert watched.known == {}
    says({"ActiveState": "failed", "MainPID": "0", "Result": "exit-code"})
    assert unhealthy([probe], watched) == ""


def test_sessions_of_people_are_not_watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("hotmend.agent.run._SYSTEMD", tmp_path)
    units = ["user@1000.service", "getty@tty1.service", "dbus.service", "", "session-3.scope", UNIT]
    assert [probe.name for probe in unit_probes(units)] == [f"unit {UNIT}", "unit dbus.service"]
    gone = [ChangedProcess(2**22 + 1, 0, "(sd-pam)", "user@1000.service")]
    assert ended_together(gone, 1.0, services=True) == ""
