"""docs/traceability.md: a Windows machine of a fleet, by its own agent's report, and what a server has it do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.server.portal.conftest import Person
from tests.server.portal.test_pages import check
from tests.server.running import Running
from tests.server.typed import Typed
from tests.traceability import ROOT, Row, stands, table
from tests.windows.server import AgentServer, update
from tests.windows.test_fleet import ALWAYS, Member, enrolled
from tests.windows.test_updates import LEAVES, SIGNATURES, STAYS

pytestmark = pytest.mark.wine
PAGE = ROOT / "docs" / "traceability.md"
JULY = update("KB5062553", "2025-07 Cumulative Update (KB5062553)", superseded=True)
TURN, SHOWN = "hotmend windows agent --once --json", "hotmend fleet --json machine ID"


@pytest.fixture
def typed(fleet: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Typed:
    return Typed(fleet, capsys, monkeypatch)


@pytest.fixture
def windows(october: AgentServer) -> AgentServer:
    rows = october.data["cim"] | {r"root\cimv2:Win32_ComputerSystemProduct": [{"UUID": "4C4C4544-0042"}]}
    installed = [each for each in october.data["updates"] if each["installed"]]
    october.change(cim=rows, updates=[*installed, STAYS, LEAVES, SIGNATURES])
    return october


def _installed(member: Member) -> str:
    kbs = [kb for each in member.windows.data["updates"] if each["installed"] for kb in each["kbs"]]
    return f"installed on the machine: {', '.join(sorted(kbs)) or 'none of these'}"


def _shown(typed: Typed, member: Member) -> dict[str, Any]:
    return dict(typed.rows("machine", member.id)[0])


def _standing(shown: dict[str, Any]) -> str:
    of = shown["machine"]
    waits = ", ".join(shown["report"]["waiting"]) or "nothing"
    enrollment = of["enrollment"] or "not known"
    return f"level {of['level']}, line {of['line']}, enrollment {enrollment}; waiting: {waits}"


def _status(member: Member, typed: Typed) -> Iterator[Row]:
    """What the machine reports, as server and portal show it; by default it says what waits, and no more."""
    member.turn()
    yield Row("S29", "hotmend's own default is to say what waits", TURN, _installed(member))
    shown = _shown(typed, member)
    yield Row("S38, S44", "Status and what is installed, by the agent's own report", SHOWN, _standing(shown))
    person = Person(member.fleet)
    person.sign_in("operator")
    for language, first, last in (
        ("en", "Patch status", "Last assessment"),
        ("de", "Patch-Status", "Letzte Bewertung"),
    ):
        page = check(person.get(f"/machines/{member.id}", language).body)
        text = " ".join(" ".join(page.find(".//main").itertext()).split())
        _, found, rest = text.partition(first)
        assert found, text
        assert last in rest, text
        asked = {"en": "The same machine's page in the portal", "de": "... in German"}[language]
        yield Row("S38", asked, "/machines/ID", first + rest.partition(f" {last}")[0])
    checks = ", ".join(f"{each['name']}: {_WORDS[each['holds']]}" for each in shown["report"]["prerequisites"])
    yield Row("S10-S12, S16", "Prerequisites, as the machine reports them", SHOWN, checks)


_WORDS = {True: "yes", False: "no", None: "unknown"}


def _automatic(member: Member, typed: Typed) -> Iterator[Row]:
    """Critical and security updates by themselves, and no other class."""
    member.policy(maintenance=ALWAYS | {"exclude": ["KB5070881"]}, reboot="never", mode="automatic")
    member.turn()
    yield Row("S29-S30, S39", "Automatic: security, and not definitions", TURN, _installed(member))
    report = _shown(typed, member)["report"]
    yield Row("S29-S30", "... and the server's view of it", SHOWN, f"last run {report['last_run']}")
    before = len(json.loads((member.windows.state / "fleet" / "own.json").read_text())["reached"])
    member.turn()
    after = len(json.loads((member.windows.state / "fleet" / "own.json").read_text())["reached"])
    yield Row("S29-S30", "... once in a window", TURN, f"begun anew: {'no' if before == after else 'yes'}")


def _rollback(member: Member, typed: Typed) -> Iterator[Row]:
    """The three steps as orders of the server, with the boots between them."""
    windows = member.windows
    windows.reboot()
    latest = {**windows.stored("KB5066835"), "blocks_until_boot": True}
    windows.change(updates=[latest, JULY], history=[e for e in windows.data["history"] if "KB507" not in e["title"]])
    member.policy(maintenance=ALWAYS, reboot="never", mode="notify")
    command = "hotmend fleet --json act ID revert"
    for asked, boots in (
        ("1: the latest update is taken away", True),
        ("2: the last working baseline is installed", True),
        ("3: booted, and proven", False),
    ):
        (planned,) = typed.rows("act", member.id, "revert")
        member.turn()
        action = member.action(planned["id"])
        told = f"{planned['state']}, then {action['state']}: {action['detail']}; {_installed(member)}"
        yield Row("S45", asked, command, told)
        if boots:
            windows.reboot()
            there = [kb for each in windows.data["updates"] if each["installed"] for kb in each["kbs"]]
            fixes = [{"HotFixID": kb, "InstalledOn": "7/9/2025"} for kb in there]
            windows.change(cim=windows.data["cim"] | {r"root\cimv2:Win32_QuickFixEngineering": fixes})
    yield Row("S45", "... as the server has the machine then", SHOWN, _standing(_shown(typed, member)))
    said = typed.error("--json", "forecast", member.id, "--update", "KB5066835", code=4)
    told = f"{said.strip().splitlines()[0]}; exit code 4; hidden: {windows.stored('KB5066835')['hidden']}"
    yield Row(
        "S45", "... and what was rolled back stays away", "hotmend fleet --json forecast ID --update KB5066835", told
    )


def test_the_page_has_what_a_windows_machine_reports(fleet: Running, typed: Typed, windows: AgentServer) -> None:
    said = enrolled(fleet, windows)
    member = Member(fleet, windows, said["machine"])
    of = _told_of(fleet, member)
    rows = [Row("S17", "Enrolled", "hotmend enroll URL --json", f"approved: {said['approved']}; {of}")]
    for part in (_status, _automatic, _rollback):
        rows += part(member, typed)
    assert stands(PAGE, "windows-fleet", table(rows)), "the page was out of date and is written anew: read what changed"


def _told_of(fleet: Running, member: Member) -> str:
    (listed,) = fleet.get("/api/v1/machines")["items"]
    assert listed["id"] == member.id
    return f"the server lists {listed['name']}, {listed['platform']}, {listed['state']}"
