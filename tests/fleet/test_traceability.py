"""docs/traceability.md: what a server has of a Linux machine whose agent reports by itself, and what it has it do.

The machine has files, processes and an agent of its own; server and machine are in a network of this thread's own.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hotmend.repository.catalogue import catalogue
from hotmend.repository.client import trust
from hotmend.repository.layout import Tier
from hotmend.server.releases.following import Followed, follow
from tests.agent.machine import Machine
from tests.fleet.members import AGENT, Member, own_network
from tests.fleet.releases import PROGRAM, Releases, compiled, make_releases
from tests.repository.kit import CHANNEL
from tests.server.machine import registration_key
from tests.server.portal.conftest import Person
from tests.server.portal.test_pages import check
from tests.server.running import Running, running
from tests.server.typed import Typed
from tests.traceability import ROOT, Row, stands, table

pytestmark = [pytest.mark.live, pytest.mark.slow]
PAGE = ROOT / "docs" / "traceability.md"
ALWAYS = {"name": "always", "rule": "FREQ=DAILY", "start": datetime(2020, 1, 1).isoformat(), "minutes": 1440}
SHOWN = "hotmend fleet --json machine ID"


@dataclass
class Reporting:
    """A machine whose agent takes a turn when it is told to, and the server that it belongs to."""

    server: Running
    typed: Typed
    releases: Releases
    member: Member

    def hotmend(self, *words: str) -> tuple[int, Any]:
        """Run a command on the machine; return exit code and what it printed."""
        done = self.member.machine.hotmend(*words)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, lines

    def turn(self) -> tuple[int, Any]:
        """Check in, take a turn, and check in again; return the exit code of the turn and what it did."""
        assert self.member.machine.hotmend("agent", "uplink", "--once").returncode == 0
        code, (did,) = self.hotmend("agent", "run", "--once", "--json")
        assert self.member.machine.hotmend("agent", "uplink", "--once").returncode == 0
        return code, did

    def shown(self) -> dict[str, Any]:
        """Return what the server has of the machine."""
        return dict(self.typed.rows("machine", self.member.id)[0])

    def configure(self, **wanted: object) -> None:
        """Say what machines may do by themselves, and when."""
        body = {"windows": [ALWAYS], "zone": "UTC", **wanted}
        assert self.server.call("PUT", "/api/v1/maintenance/configurations/default", body).status == 200

    def begin(self, program: Path) -> None:
        """Start a build of the web server."""
        self.member.machine.run(f"install -m 755 {program} /{PROGRAM}")
        self.member.machine.run(f"setsid /{PROGRAM} < /dev/null > /dev/null 2>&1 &")
        self.member.machine.settle(Path(PROGRAM).name, 1)

    def ended(self, action: str) -> str:
        """Return state and detail of an action, as the server has them."""
        (found,) = [each for each in self.typed.rows("actions", self.member.id) if each["id"] == action]
        return f"{found['state']}: {found['detail']}".removesuffix(": ")

    def answers(self) -> str:
        """Return what the web server says."""
        return self.member.answer()[1]


@pytest.fixture
def reporting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Reporting]:
    (ROOT / ".cache").mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=ROOT / ".cache", prefix="fleet-") as name,
        own_network(),
        running(f"sqlite:///{tmp_path / 'server.db'}") as server,
        Machine(Path(name) / "machine") as machine,
    ):
        server.set_up()
        releases = make_releases(Path(name))
        machine.run("mount -t tmpfs run /run")
        made = Reporting(server, Typed(server, capsys, monkeypatch), releases, Member("web-1", machine, "127.0.0.1"))
        made.begin(releases.program)
        made.member.file("etc/hotmend").mkdir(parents=True)
        made.member.file("etc/hotmend/agent.toml").write_text(AGENT + releases.channel)
        trust(made.member.file("var/lib/hotmend/channel"), releases.world.first_root)
        hotmend = shlex.join([sys.executable, "-m", "hotmend"])
        machine.run(f"HOTMEND_KEY={registration_key(server)} {hotmend} enroll {server.url} --name web-1")
        (each,) = server.get("/api/v1/machines")["items"]
        made.member.id = each["id"]
        yield made


def _took(did: dict[str, Any]) -> str:
    """Return what a turn did."""
    told = [f"mode {did['mode']}", f"waiting: {', '.join(did['waiting']) or 'nothing'}"]
    ran = did["run"]
    if ran is None:
        return "; ".join([*told, "no run"])
    actions = [f"{each['update']} {each['state']}, {len(each['changed'])} process changed" for each in ran["actions"]]
    return "; ".join([*told, ran["state"], *actions])


def _findings(shown: dict[str, Any]) -> str:
    found = [f"{each['cve']} {each['fixed']} ({each['comm']})" for each in shown["findings"] if each["cve"]]
    return f"findings: {', '.join(found) or 'none'}"


def _waits(shown: dict[str, Any]) -> str:
    report = shown["report"]
    left_out = f"; left out: {', '.join(report['left_out'])}" if report["left_out"] else ""
    return f"waiting: {', '.join(report['waiting']) or 'nothing'}{left_out}"


def _automatic(machine: Reporting) -> Iterator[Row]:
    """Nothing without being asked for; by itself where it is."""
    machine.releases.publish("good")
    turn = "hotmend agent run --once --json"
    code, did = machine.turn()
    told = f"{_took(did)}; exit code {code}; the server has mode {machine.shown()['machine']['mode']}"
    yield Row("S29", "hotmend's own default is to say what waits; automatic is somebody's decision", turn, told)
    shown = machine.shown()
    told = f"{_waits(shown)}; {_findings(shown)}; last run: {_last(shown) or 'none'}"
    yield Row("S37, S38", "Offered, and not installed: the server's view", SHOWN, told)
    machine.configure(mode="automatic", classifications=["Feature Packs"])
    code, did = machine.turn()
    yield Row("S30", "Automatic for another class: not this one", turn, f"{_took(did)}; exit code {code}")
    shown = machine.shown()
    told = f"{_waits(shown)}; {_findings(shown)}"
    yield Row("S39", "What is of another class, in the server's view", SHOWN, told)
    before = machine.member.machine.pids(Path(PROGRAM).name)
    machine.configure(mode="automatic")
    code, did = machine.turn()
    same = machine.member.machine.pids(Path(PROGRAM).name) == before
    told = f"{_took(did)}; exit code {code}; the web server says '{machine.answers()}', the same process: {same}"
    yield Row("S29-S30", "Critical and security, by itself, in its window", turn, told)
    shown = machine.shown()
    told = f"mode {shown['machine']['mode']}, last run {_last(shown)}; {_findings(shown)}"
    yield Row("S29-S30", "... and the server's view of it", SHOWN, told)


def _last(shown: dict[str, Any]) -> str:
    return str(shown["report"]["last_run"])


def _status(machine: Reporting) -> Iterator[Row]:
    """What is in memory: read there, reported by the agent, and shown by server and portal."""
    code, did = machine.turn()
    told = f"{_took(did)}; exit code {code}"
    yield Row("S29-S30, S41", "... and not again", "hotmend agent run --once --json", told)
    found = machine.hotmend("status", "--json")[1]
    here = {cve for row in found for each in row["hotpatches"] if each["active"] for cve in each["cves"]}
    shown = machine.shown()
    there = {each["cve"] for each in shown["findings"] if each["fixed"] in ("in-memory", "everywhere")}
    of = shown["machine"]
    told = f"level {of['level']}, line {of['line']}, enrollment {of['enrollment']}; {_findings(shown)}"
    same = f"the same as `hotmend status` reads from process memory: {bool(here) and here == there}"
    yield Row("S38, S44", "Status and what is in memory, by the agent's own report", SHOWN, f"{told}; {same}")
    person = Person(machine.server)
    person.sign_in("operator")
    page = f"/machines/{machine.member.id}"
    for language, first, last in (
        ("en", "Patch status", "Last assessment"),
        ("de", "Patch-Status", "Letzte Bewertung"),
    ):
        text = " ".join(" ".join(check(person.get(page, language).body).find(".//main").itertext()).split())
        _, found_it, rest = text.partition(first)
        assert found_it, text
        assert last in rest, text
        asked = {"en": "The same machine's page in the portal", "de": "... in German"}[language]
        yield Row("S38", asked, "/machines/ID", first + rest.partition(f" {last}")[0])


def _taken_back(machine: Reporting) -> Iterator[Row]:
    """A revert that an operator orders: in memory, and for good."""
    command = "hotmend fleet --json act ID revert --update good"
    (planned,) = machine.typed.rows("act", machine.member.id, "revert", "--update", "good")
    machine.turn()
    told = f"{planned['state']}, then {machine.ended(planned['id'])}; the web server says '{machine.answers()}'"
    yield Row("S45", "Linux: a live revert, ordered by the server", command, told)
    code, did = machine.turn()
    told = f"{_took(did)}; exit code {code}; the web server says '{machine.answers()}'"
    yield Row("S45", "... automatic mode does not bring it back", "hotmend agent run --once --json", told)
    shown = machine.shown()
    kept = [each["update"] for each in shown["report"]["quarantined"]]
    rest = f"{sum(each != 'good' for each in kept)} hotpatch"
    told = f"in quarantine: {', '.join(each for each in kept if each == 'good')} and {rest} of it; {_findings(shown)}"
    told += f"; known issues: {len(shown['report']['issues'])}"
    told += f"; level {shown['machine']['level']}, {_waits(shown)}"
    yield Row("S45", "... as the server has it: quarantine, and the baseline", SHOWN, told)


_ISSUE = """
deadline = 2099-12-31
cost = "Pages over 64 KiB are cut off."
[[options]]
id = "whole"
title = "Whole pages"
[[options.steps]]
title = "Allow them"
commands = ["echo 'pages whole' > /etc/subject.conf"]
proof = { linux = { file = "/etc/subject.conf", line = "pages whole" } }
[[options.steps]]
title = "Take the old setting away"
commands = ["rm /etc/subject.old"]
proof = { not = { linux = { file = "/etc/subject.old" } } }
[[options]]
id = "boot"
title = "Boot onto the update"
[[options.steps]]
title = "Reboot"
commands = ["systemctl reboot"]
reboot = true
proof = { linux = { booted_since = "/usr/sbin/subject" } }
"""


def _known_issue(machine: Reporting, folder: Path) -> Iterator[Row]:
    """What the publisher says of a release that machines have, and what each machine finds."""
    machine.member.machine.run("touch /etc/subject.old")
    machine.releases.add_issue("good", "A page is cut off.", "Ask for it again.", _ISSUE)
    trust(folder / "client", machine.releases.world.first_root)
    row = _followed(machine, folder)
    yield Row("S47", "Linux: a known issue of a release, and how many machines are at it", "/calendar", row)
    machine.turn()
    yield Row("S47", "... as the machine finds it by itself, and reports it", SHOWN, _issue(machine))
    found = machine.hotmend("agent", "assess", "--json")[1][0]["issues"]
    (issue,) = found
    reboots = [f"{each['title']}: {sum(step['reboot'] for step in each['steps'])} reboots" for each in issue["options"]]
    told = f"without: {issue['cost']} With {', '.join(reboots)}; before {issue['deadline']}"
    yield Row("S50", "Linux: with and without the workaround, and its deadline", "hotmend agent assess --json", told)
    first, second = issue["options"][0]["steps"]
    machine.member.machine.run(first["commands"][0])
    machine.turn()
    yield Row("S48", "Linux: the first step is done, and proven by what is on the machine", SHOWN, _issue(machine))
    machine.member.machine.run(second["commands"][0])
    machine.turn()
    yield Row("S49", "Linux: all of one option is done; the other is not needed", SHOWN, _issue(machine))
    yield Row("S47-S50", "Linux: the same issue over the whole fleet", "/issues", _on_page(machine, "good/0"))
    late = _ISSUE.replace("2099", "2025").replace("pages whole", "pages soon")
    machine.releases.add_issue("good", "A page is late.", "", late)
    machine.turn()
    yield Row("S50", "Linux: the deadline of another one is over", SHOWN, _issue(machine, 1))
    alerts = ", ".join(code for code, _ in machine.hotmend("agent", "assess", "--json")[1][0]["alerts"])
    yield Row("S50", "... as the machine's monitoring has it", "hotmend agent assess --json", f"alerts: {alerts}")


def _on_page(machine: Reporting, issue: str) -> str:
    """Return how many machines an issue concerns, and the proof and the deadline of the first."""
    person = Person(machine.server)
    person.sign_in("operator")
    (section,) = check(person.get("/issues").body).findall(f".//section[@aria-labelledby='{issue}']")
    tiles = [" ".join(" ".join(tile.itertext()).split()) for tile in section.findall("ul/li")]
    cells = [" ".join(" ".join(cell.itertext()).split()) for cell in section.find("table/tbody/tr") or ()]
    return f"{', '.join(tiles)}; {', '.join((cells[1], cells[3], cells[4]))}"


def _issue(machine: Reporting, number: int = 0) -> str:
    """Return a known issue as the machine reports it."""
    issue = sorted(machine.shown()["report"]["issues"], key=lambda each: str(each["id"]))[number]
    words = {True: "done", False: "to do", None: "not known"}
    options = [
        f"{each['title']}: {', '.join(words[step['proven']] for step in each['steps'])}" for each in issue["options"]
    ]
    state = (
        f"affected: {'yes' if issue['affected'] else 'may be'}, deadline over: {'yes' if issue['overdue'] else 'no'}"
    )
    return "; ".join([f"{issue['title']} {state}", *options])


def _withdrawn(machine: Reporting, folder: Path) -> Iterator[Row]:
    """By hand once more, and then its publisher withdraws it."""
    machine.configure(mode="notify")
    machine.typed("act", machine.member.id, "lift", "--update", "good")
    machine.turn()
    (waits,) = machine.shown()["report"]["waiting"]
    (planned,) = machine.typed.rows("act", machine.member.id, "install", "--update", waits, "--yes")
    machine.turn()
    told = f"{planned['state']}, then {machine.ended(planned['id'])}; the web server says '{machine.answers()}'"
    command = f"hotmend fleet --json act ID install --update {waits} --yes"
    yield Row("S43", "Install now, ordered by the server", command, told)
    machine.releases.withdraw("good")
    code, did = machine.turn()
    told = f"withdrawn: {', '.join(did['withdrawn']) or 'nothing'}; exit code {code}"
    alerts = ", ".join(each["code"] for each in machine.shown()["report"]["alerts"])
    row = _followed(machine, folder)
    asked = "Linux: a release is withdrawn while the machine runs it"
    yield Row("S47", asked, "hotmend agent run --once --json", told)
    yield Row("S47", "... and the server's view of it", SHOWN, f"alerts: {alerts}")
    yield Row("S47", "... and where all releases are listed", "/calendar", row)


def _followed(machine: Reporting, folder: Path) -> str:
    """Have the server read the channel, and return what its page says of the release."""
    mirror = str(machine.releases.world.mirror)
    look = lambda: catalogue(mirror, folder / "client", CHANNEL, Tier.STABLE)  # noqa: E731
    assert follow(machine.server.app.state.context, Followed(CHANNEL, "stable", "a mirror", look)) == ""
    person = Person(machine.server)
    person.sign_in("operator")
    (row,) = [each for each in _cells(person, "/calendar") if each[1].startswith("good ")]
    return f"{row[1]}; machines at it: {row[7]}"


def _cells(person: Person, path: str) -> list[list[str]]:
    """Return the text of each cell of a page's table."""
    rows = check(person.get(path).body).findall(".//tbody/tr")
    return [[" ".join(" ".join(cell.itertext()).split()) for cell in row] for row in rows]


def _unknown(machine: Reporting) -> Iterator[Row]:
    """A build that the channel does not know, what needs a reboot, and no server."""
    machine.releases.publish("bad")
    machine.member.machine.run(f"kill $(pidof {Path(PROGRAM).name})")
    machine.configure(mode="automatic")
    machine.begin(compiled(machine.releases.folder / "own", "200 OK", "home-made"))
    code, did = machine.turn()
    of = machine.shown()
    why = " ".join(of["report"]["why"])
    told = f"{_took(did)}; exit code {code}; line {of['machine']['line']}: {why} It says '{machine.answers()}'"
    yield Row("S10, S46", "Linux: a build that the channel does not know is not changed", SHOWN, told)
    machine.member.machine.run("touch /run/reboot-required; echo linux-image-amd64 > /run/reboot-required.pkgs")
    machine.turn()
    of = machine.shown()
    told = f"reboot due: {of['machine']['reboot_due']}: {' '.join(of['report']['reboot'])}"
    yield Row("S27", "Linux: the kernel is not hot-patched, and its reboot is due", SHOWN, told)
    command = "hotmend agent uplink --once --json"
    code, (said,) = machine.hotmend("agent", "uplink", "--once", "--json")
    told = f"approved: {said['approved']}; exit code {code}"
    yield Row("S16", "Linux: agent and server reach each other", command, told)
    registration = machine.member.file("etc/hotmend/server.json")
    kept = registration.read_text()
    registration.write_text(json.dumps({**json.loads(kept), "url": "http://127.0.0.1:9"}))
    done = machine.member.machine.hotmend("agent", "uplink", "--once", "--json")
    registration.write_text(kept)
    told = f"{done.stderr.strip().splitlines()[0]}; exit code {done.returncode}"
    yield Row("S16", "... and where they do not", command, told)


def test_the_page_has_what_a_machine_reports_by_itself(reporting: Reporting, tmp_path: Path) -> None:
    rows = [*_automatic(reporting), *_status(reporting), *_known_issue(reporting, tmp_path)]
    rows += [*_taken_back(reporting), *_withdrawn(reporting, tmp_path), *_unknown(reporting)]
    assert stands(PAGE, "reporting", table(rows)), "the page was out of date and is written anew: read what changed"
