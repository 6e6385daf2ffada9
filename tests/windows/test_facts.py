"""Facts collected on Windows Python; the answers of the update agent and of CIM are recorded ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hotmend.cli.main import run
from hotmend.reference.zones import zone_of_windows
from hotmend.servicing.facts_json import facts_decode
from tests.windows.server import AgentServer, entry
from tests.windows.wine import windows_path

pytestmark = pytest.mark.wine


def _facts(server: AgentServer, *arguments: str) -> dict[str, Any]:
    done = server.wine.hotmend("windows", "facts", "--no-network", *arguments, **server.environment)
    assert done.returncode == 0, done.stderr.decode()
    facts_decode(done.stdout)  # the form that the rules take
    return dict(json.loads(done.stdout))


def _software(server: AgentServer, path: Path) -> bytes:
    assert server.wine.run("reg.exe", "export", "HKLM\\SOFTWARE", windows_path(path)).returncode == 0
    return path.read_bytes()


def test_everything_is_collected_and_nothing_is_changed(october: AgentServer, tmp_path: Path) -> None:
    before, registry = (
        october.agent.read_text(),
        october.wine.run("reg.exe", "export", "HKLM\\SOFTWARE", windows_path(tmp_path / "a.reg")),
    )
    facts = _facts(october)
    october.wine.run("reg.exe", "export", "HKLM\\SOFTWARE", windows_path(tmp_path / "b.reg"))
    assert registry.returncode == 0
    assert (tmp_path / "a.reg").read_bytes() == (tmp_path / "b.reg").read_bytes()
    assert october.agent.read_text() == before
    windows = facts["windows"]
    assert (facts["origin"], facts["environment"], facts["time_zone"], facts["architecture"]) == (
        "read",
        "vmware",
        zone_of_windows(october.get(r"SYSTEM\CurrentControlSet\Control\TimeZoneInformation")["TimeZoneKeyName"]),
        "amd64",
    )
    assert (windows["build"], windows["revision"], windows["edition"], windows["preview"]) == (
        26100,
        6899,
        "ServerDatacenter",
        False,
    )
    assert {each["kb"]: each.get("state", "installed") for each in windows["updates"]} == {
        "KB5066835": "installed",
        "KB5065474": "installed",
        "KB5064010": "installed",
        "KB5062553": "installed",
        "KB5000001": "failed",
    }
    assert windows["updates_since"] == "2025-07-01T02:00:00Z"
    assert windows["vsm"] == {
        "status": 2,
        "status_from": "device-guard",
        "features_configured": ["Credential Guard", "virtualization-based protection of code integrity"],
        "uefi": True,
        "secure_boot": True,
    }
    assert windows["arc"] == {"installed": False, "connected": False, "service_running": False}
    assert windows["workaround"] == {
        "preview_installed": False,
        "preview_policy": False,
        "override_known": True,
        "mutex_present": False,
    }
    assert (windows["policy"], facts["managers"], facts["reboot_pending"]) == (
        {"wsus_server": "", "values": {}},
        {},
        False,
    )
    assert [(each["id"], each["needs_reboot"]) for each in facts["offered"]] == [
        ("KB5070893", True),
        ("KB2267602", False),
    ]
    assert "windows.hotpatch" in facts["unread"]


def test_what_was_collected_there_is_judged_here(
    october: AgentServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = october.wine.hotmend("windows", "facts", "--no-network", **october.environment)
    (tmp_path / "facts.json").write_bytes(done.stdout)
    check = ["check", str(tmp_path / "facts.json"), "--at", "2025-10-20", "--json", "--if-installed"]
    assert run([*check, "KB5070893"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["product"], answer["level"]["line"], answer["level"]["baseline"]["id"]) == (
        "windows-server-2025",
        "on",
        "KB5066835",
    )
    assert (answer["origin"], answer["effects"][0]["outcome"]) == ("read", "stays-on-line")
    assert run([*check, "KB5070881"]) == 4
    refused = capsys.readouterr().out

    there = ["check", windows_path(tmp_path / "facts.json"), "--at", "2025-10-20", "--json", "--if-installed"]
    done = october.wine.hotmend(*there, "KB5070881")
    assert (done.returncode, json.loads(done.stdout)) == (4, json.loads(refused))  # any system gives the same answer
    shown = october.wine.hotmend(
        "calendar", "--channel", "Windows Server 2025", "--since", "2025-10-01"
    ).stdout.decode()
    assert "KB5066835" in shown
    assert b"rollback" in october.wine.hotmend("windows", "--help").stdout
    assert b"windows" in october.wine.hotmend("--help").stdout


def test_other_managers_and_a_policy_are_seen(october: AgentServer) -> None:
    policy = r"SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate"
    october.set(
        {
            policy: {"WUServer": "http://wsus.example:8530", "DeferQualityUpdates": 1},
            rf"{policy}\AU": {"UseWUServer": 1, "NoAutoUpdate": 0, "AUOptions": 3, "ScheduledInstallTime": 3},
            r"SOFTWARE\Microsoft\Enrollments\{1}": {"ProviderID": "MS DM Server"},
        }
    )
    for name in ("CcmExec", "HIMDS"):
        october.wine.run("sc.exe", "create", name, "binPath=", r"C:\windows\system32\spoolsv.exe")
    facts = _facts(october)
    assert set(facts["managers"]) == {
        "wsus",
        "windows-update-for-business",
        "intune",
        "configuration-manager",
        "azure-arc",
    }
    found = facts["windows"]["policy"]
    assert (found["wsus_server"], found["no_auto_update"], found["au_options"], found["scheduled_hour"]) == (
        "http://wsus.example:8530",
        False,
        3,
        3,
    )
    arc = facts["windows"]["arc"]
    assert (arc["installed"], arc.get("connected"), arc["service_running"]) == (True, None, False)
    assert "windows.arc.connected" in facts["unread"]


def test_what_cannot_be_read_is_unknown_and_says_why(october: AgentServer) -> None:
    october.change(cim={}, search_code=0x8024402C)
    facts = _facts(october)
    assert "status" not in facts["windows"].get("vsm", {})
    assert "offered" not in facts
    assert "updates_since" not in facts["windows"]
    assert "0x8024402c WU_E_PT_WINHTTP_NAME_NOT_RESOLVED" in facts["unread"]["offered"]
    assert "0x80041010" in facts["unread"]["windows.vsm.status"]


def test_the_history_tells_the_newest_state_of_each_update(october: AgentServer) -> None:
    october.change(
        history=[
            entry("KB5066835", "2025-10-18", operation=2),
            entry("KB5066835", "2025-10-15"),
            entry("KB5065474", "2025-09-12", result=4, code=0x80240022),  # it was there already
            entry("KB5065474", "2025-09-10"),
        ],
        cim={
            **october.data["cim"],
            r"root\cimv2:Win32_QuickFixEngineering": [{"HotFixID": "KB5068781", "InstalledOn": "11/2/2025"}],
        },
    )
    updates = {each["kb"]: each for each in _facts(october)["windows"]["updates"]}
    assert updates["KB5066835"]["state"] == "uninstalled"
    assert updates["KB5065474"].get("state", "installed") == "installed"
    assert updates["KB5068781"]["installed_at"] == "2025-11-02T00:00:00Z"


def test_a_cumulative_package_that_the_history_does_not_have_ends_what_is_known(october: AgentServer) -> None:
    packages = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"

    def install(build: str, day: str) -> None:
        at = (datetime.fromisoformat(day).replace(tzinfo=UTC) - datetime(1601, 1, 1, tzinfo=UTC)) // timedelta(
            microseconds=1
        )
        high, low = divmod(at * 10, 1 << 32)
        name = rf"{packages}\Package_for_RollupFix~31bf3856ad364e35~amd64~~26100.{build}"
        october.set({name: {"InstallTimeHigh": high, "InstallTimeLow": low}})

    install("6899.1.11", "2025-10-14T22:00:00")  # KB5066835, staged the evening before
    install("1742.1.10", "2024-11-01T12:00:00")  # before the history begins
    assert _facts(october)["windows"]["updates_since"] == "2025-07-01T02:00:00Z"
    install("6905.1.4", "2025-10-23T12:00:00")  # by DISM: which of the two updates with this build it is nobody can say
    assert _facts(october)["windows"]["updates_since"] == "2025-10-24T12:00:00Z"
    level = october.do("assess")[1]
    assert (level["line"], level["baseline"]) == ("unknown", "KB5066835")
