"""The connector against the routes, both real: Microsoft's SDK on one side, HTTP on loopback between them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from hotmend.arc.machine import Wanted, where_of
from hotmend.cli.main import run
from hotmend.model.errors import InputError
from tests.arc.cloud import TOKEN, WHERE, Cloud, cloud

OCTOBER = Path(__file__).parents[1] / "data" / "facts" / "october-2025.json"


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("HOTMEND_ARC_TOKEN", TOKEN)
    with cloud() as served:
        yield served


class Command:
    def __init__(self, azure: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
        self._azure, self._capsys = azure, capsys

    def __call__(self, *arguments: str, wait: str = "60") -> tuple[int, Any, str]:
        common = ["arc", "--id", WHERE.id, "--endpoint", self._azure.endpoint, "--poll", "0.05", "--wait", wait]
        code = run([*common, *arguments, "--json"])
        said = self._capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err


@pytest.fixture
def arc(azure: Cloud, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(azure, capsys)


def test_enabling_makes_the_profile_follows_it_and_does_it_once(azure: Cloud, arc: Command) -> None:
    code, said, _ = arc("status")
    assert (code, said["agent_status"], said["enablement"], said["subscription"]) == (0, "Connected", "Unknown", None)
    code, said, _ = arc("enable")
    assert (code, said["subscription"], said["enablement"], said["changed"]) == (0, "Enabled", "Enabled", True)
    assert said["billing_from"] is not None
    assert arc("enable")[0] == 3
    code, said, _ = arc("disable")
    assert (code, said["subscription"]) == (0, "Disabled")
    assert arc("enable")[:1] == (0,)  # now the profile exists and is patched
    assert azure.machines.calls == ["set", "set", "set"]


def test_an_assessment_counts_by_classification(azure: Cloud, arc: Command) -> None:
    code, said, _ = arc("assess")
    assert (code, said["status"], said["activity"], said["reboot_pending"]) == (0, "Succeeded", "a-1", False)
    assert {name: count for name, count in said["counts"].items() if count} == {"security": 2, "critical": 1}


def test_an_installation_is_asked_for_as_the_api_takes_it(azure: Cloud, arc: Command) -> None:
    options = ("--include", "KB5070893", "--exclude", "5070881", "--without-reboot", "--reboot", "if-required")
    code, said, err = arc("install", *options, "--minutes", "90", "--leave-line")
    assert (code, said["status"], said["reboot_status"], said["counts"]["installed"]) == (0, "Succeeded", "Required", 2)
    assert "not availability-first" in err
    assert azure.machines.wanted == [
        Wanted(
            ("Critical", "Security"),
            ("5070893",),
            ("5070881",),
            without_reboot=True,
            reboot="IfRequired",
            duration=timedelta(minutes=90),
        )
    ]
    assert arc("install", "--minutes", "30", "--leave-line")[0] == 1
    assert len(azure.machines.calls) == 1


def _facts(path: Path, *offered: dict[str, Any], **changes: Any) -> Path:
    """Write the facts of the machine of October 2025, collected now, with these updates on offer."""
    facts = json.loads(OCTOBER.read_bytes())
    now = datetime.now(UTC).isoformat()
    path.write_text(json.dumps({**facts, "collected_at": now, "assessed_at": now, "offered": offered, **changes}))
    return path


def _offer(kb: str, classification: str | None = "Security Updates", title: str = "") -> dict[str, Any]:
    return {"id": kb, "title": title or f"2025-10 Cumulative Update ({kb})", "needs_reboot": True} | (
        {"classification": classification} if classification else {}
    )


STAYS, LEAVES = _offer("KB5070893"), _offer("KB5070881")


@pytest.mark.parametrize(
    ("offered", "options", "subject"),
    [
        ([STAYS, LEAVES], [], "KB5070881: leaves-line: "),
        ([STAYS, _offer("KB5099999")], [], "KB5099999: unknown: "),
        ([STAYS, _offer("KB5070881", "Updates")], ["--classification", "updates"], "KB5070881: leaves-line: "),
        ([STAYS, _offer("KB5070881", None)], [], "KB5070881: leaves-line: "),  # of a class that nobody knows
        ([STAYS], ["--include", "KB5070881"], "KB5070881: leaves-line: "),  # named, and not among the offered
        ([_offer("KB5070881", "Updates")], ["--include", "KB5070881"], "KB5070881: leaves-line: "),
        ([_offer("KB5074109")], [], "KB5074109: "),  # a baseline of another channel
    ],
)
def test_what_leaves_the_line_is_not_begun(
    azure: Cloud, arc: Command, tmp_path: Path, offered: list[Any], options: list[str], subject: str
) -> None:
    facts = ["--facts", str(_facts(tmp_path / "facts.json", *offered))]
    code, said, err = arc("install", *options, *facts)
    assert (code, [each["code"] for each in said["reasons"]]) == (4, ["leaves-hotpatch-line"])
    assert said["reasons"][0]["subjects"][0].startswith(subject)
    assert (said["status"], said["counts"], azure.machines.calls) == ("", {}, [])
    assert "availability" not in err
    assert arc("install", *options, *facts, "--leave-line")[0] == 0
    assert azure.machines.wanted[0].published_until is None


@pytest.mark.parametrize(
    ("offered", "options"),
    [
        ([STAYS], []),
        ([STAYS, LEAVES], ["--exclude", "KB5070881"]),
        ([STAYS, LEAVES], ["--exclude", "5070881", "--include", "5070881"]),
        ([STAYS], ["--exclude", "5099999", "--include", "5099999"]),
        ([STAYS, _offer("KB5070881", "Updates")], []),  # listed, not installed
        ([LEAVES], ["--without-reboot"]),
        ([STAYS, _offer("KB5099999", title=".NET Framework 4.8.1")], []),
        ([STAYS, _offer("KB890830")], []),
        ([], []),
    ],
)
def test_what_keeps_the_line_is_begun_and_nothing_that_came_later(
    azure: Cloud, arc: Command, tmp_path: Path, offered: list[Any], options: list[str]
) -> None:
    facts = _facts(tmp_path / "facts.json", *offered)
    code, said, _ = arc("install", *options, "--facts", str(facts))
    assert (code, said["reasons"], azure.machines.calls) == (0, [], ["install"])
    until = datetime.fromisoformat(json.loads(facts.read_text())["assessed_at"])
    sent = azure.machines.wanted[0].published_until
    assert sent is not None
    assert abs(sent - until) < timedelta(seconds=1)


def test_without_facts_of_today_nothing_is_begun(
    azure: Cloud, arc: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    old, ahead = ((now + timedelta(hours=hours)).isoformat() for hours in (-25, 25))
    for arguments, reason in [
        ([], "line-not-judged"),
        (["--facts", str(_facts(tmp_path / "a.json", STAYS, offered=None))], "line-not-judged"),
        (["--facts", str(_facts(tmp_path / "b.json", STAYS, assessed_at=None))], "line-not-judged"),
        (["--facts", str(_facts(tmp_path / "c.json", STAYS, assessed_at=old))], "facts-too-old"),
        (["--facts", str(_facts(tmp_path / "d.json", STAYS, assessed_at=ahead))], "facts-too-old"),
    ]:
        code, said, _ = arc("install", *arguments)
        assert (code, [each["code"] for each in said["reasons"]]) == (4, [reason])
    common = ["arc", "--id", WHERE.id, "--endpoint", azure.endpoint]
    assert run([*common, "install", "--language", "de"]) == 4
    assert "abgelehnt: Was installiert würde" in capsys.readouterr().out
    linux = str(OCTOBER.parent / "cases" / "debian-on-line.json")
    assert run([*common, "install", "--facts", linux, "--language", "de"]) == 1
    assert "nicht die Fakten einer Windows-Maschine" in capsys.readouterr().err
    assert azure.machines.calls == []


def test_what_fails_there_is_told_here(azure: Cloud, arc: Command) -> None:
    azure.machines.fails = ("VbsNotRunning", "virtual secure mode does not run")
    for command in (["enable"], ["assess"], ["install", "--leave-line"]):
        code, said, _ = arc(*command)
        assert (code, "VbsNotRunning" in said["error"]) == (1, True), said


def test_stuck_in_enabling_is_told_with_its_likely_causes(azure: Cloud, arc: Command) -> None:
    azure.machines.stuck = True
    code, said, err = arc("enable", wait="0.5")
    assert (code, said["subscription"]) == (1, "Enabling")
    assert "licence issue of October 2025" in err
    arc("enable", wait="0.1")
    assert azure.machines.calls == ["set"]  # what is on its way is not begun again


def test_a_machine_that_is_not_connected_is_refused(azure: Cloud, arc: Command) -> None:
    azure.machines.machines[WHERE] = replace(azure.machines.machines[WHERE], status="Disconnected")
    code, said, _ = arc("enable")
    assert (code, [each["code"] for each in said["reasons"]]) == (4, ["arc-machine-not-connected"])
    code, said, _ = arc("install", "--leave-line")
    assert (code, said["error"]) == (1, "installation on srv-01: InvalidRequestContent: the agent is not connected")
    assert azure.machines.calls == []


def test_a_short_throttle_is_waited_for_and_a_long_one_is_told(azure: Cloud, arc: Command) -> None:
    azure.faults.queue = [("POST", "/assessPatches", (429, 0)), ("GET", "/licenseProfiles/default", (503, 0))]
    assert arc("assess")[0] == 0
    assert arc("status")[0] == 0
    azure.faults.queue = [("POST", "/assessPatches", (429, 3600))]
    code, said, _ = arc("assess")
    assert (code, said["hint"]) == (1, "try again in 3600 s")
    assert azure.machines.calls == ["assess"]


def test_a_conflict_is_told(azure: Cloud, arc: Command) -> None:
    assert arc("assess", wait="0")[0] == 1  # goes on there
    code, said, _ = arc("install", "--leave-line")
    assert (code, "Conflict" in said["error"], said["hint"]) == (
        1,
        True,
        "another operation is going on; try again when it is done",
    )


@pytest.mark.parametrize(("command", "options"), [("install", ["--leave-line"]), ("assess", [])])
def test_what_may_have_begun_is_not_begun_twice_when_the_connection_is_cut(
    azure: Cloud, arc: Command, command: str, options: list[str]
) -> None:
    azure.faults.queue = [("POST", f"/{command}Patches", "cut")]
    code, said, _ = arc(command, *options)
    assert code == 1
    assert "connection was cut" in said["error"]
    assert "whether" in said["hint"]
    assert azure.machines.calls == [command]


def test_nobody_there_and_nobody_known(azure: Cloud, arc: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    azure.machines.machines.clear()
    code, said, _ = arc("status")
    assert (code, "ResourceNotFound: There is no machine srv-01." in said["error"]) == (1, True)
    monkeypatch.setenv("HOTMEND_ARC_TOKEN", "another")
    code, said, _ = arc("status")
    assert (code, said["error"].startswith("machine srv-01: AuthenticationFailed")) == (1, True)
    assert run(["arc", "--id", WHERE.id, "--endpoint", "http://192.0.2.1", "status"]) == 2
    assert run(["arc", "--id", WHERE.id, "--endpoint", "http://127.0.0.1:9", "status"]) == 1


def test_what_azure_knows_completes_the_facts(
    azure: Cloud, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    common = ["arc", "--id", WHERE.id, "--endpoint", azure.endpoint, "--poll", "0.05"]
    facts = json.loads(OCTOBER.read_bytes())
    del facts["windows"]["hotpatch"]
    (tmp_path / "facts.json").write_text(json.dumps({**facts, "unread": {"windows.hotpatch": "Azure tells it"}}))
    assert run([*common, "enable"]) == 0
    capsysbinary.readouterr()
    assert run([*common, "status", "--facts", str(tmp_path / "facts.json")]) == 0
    told = json.loads(capsysbinary.readouterr().out)
    assert (told["windows"]["hotpatch"]["enablement"], told["windows"]["hotpatch"]["subscription"]) == (
        "Enabled",
        "Enabled",
    )
    assert "unread" not in told


def test_enabling_is_refused_where_the_facts_lack_a_prerequisite(azure: Cloud, arc: Command, tmp_path: Path) -> None:
    facts = json.loads(OCTOBER.read_bytes())
    facts["windows"]["vsm"]["status"] = 1
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    code, said, _ = arc("enable", "--facts", str(tmp_path / "facts.json"))
    assert (code, [each["code"] for each in said["reasons"]]) == (4, ["prerequisites-lacking"])
    assert [each.partition(":")[0] for each in said["reasons"][0]["subjects"]] == ["vsm"]
    assert azure.machines.calls == []
    assert arc("enable", "--facts", str(OCTOBER))[0] == 0


def test_the_routes_refuse_what_the_api_refuses(azure: Cloud) -> None:
    install = f"{WHERE.id}/installPatches?api-version=2026-07-15"
    good = {
        "maximumDuration": "PT2H",
        "rebootSetting": "Never",
        "windowsParameters": {"classificationsToInclude": ["Security"]},
    }
    profile = f"{WHERE.id}/licenseProfiles/default?api-version=2026-07-15"
    for method, path, body, status in [
        ("POST", install.partition("?")[0], good, 400),
        ("POST", install, {**good, "maximumDuration": "PT9H"}, 400),
        ("POST", install, {**good, "maximumDuration": "PT"}, 400),
        ("POST", install, {**good, "rebootSetting": "Sometimes"}, 400),
        ("POST", install, {**good, "windowsParameters": {"classificationsToInclude": ["Bitter"]}}, 400),
        ("POST", install, {**good, "windowsParameters": {"kbNumbersToInclude": "5070893"}}, 400),
        ("POST", install, {**good, "windowsParameters": {"maxPatchPublishDate": "2025-10-20"}}, 400),
        ("POST", install, [], 400),
        ("PUT", profile, {"properties": {"productProfile": {"productType": "WindowsServer"}}}, 400),
        ("PATCH", profile, {"properties": {}}, 404),
        ("GET", profile, None, 404),
        ("GET", WHERE.id.replace("srv-01", "srv..") + "?api-version=1", None, 400),
        ("POST", install, good, 202),
    ]:
        assert _ask(azure, method, path, body) == status, (method, path, body)
    assert azure.machines.calls == ["install"]


def _ask(azure: Cloud, method: str, path: str, body: object) -> int:
    connection = http.client.HTTPConnection(urlsplit(azure.endpoint).netloc, timeout=20)
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Authorization": f"Bearer {TOKEN}"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("text", ["", "/subscriptions/a", f"{WHERE.id}/licenseProfiles/x", WHERE.id + "?x=1"])
def test_only_a_machines_id_names_a_machine(text: str) -> None:
    with pytest.raises(InputError):
        where_of(text)


def test_an_id_is_read_without_regard_to_case() -> None:
    assert where_of(WHERE.id.replace("resourceGroups", "resourcegroups") + "/") == WHERE
