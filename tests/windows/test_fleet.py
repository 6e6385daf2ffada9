"""A Windows machine of a fleet: enrolled by a real server, told what is due, and what it does and reports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from hotmend.server.machines import policies, view
from hotmend.server.machines.tables import actions
from hotmend.servicing.releases import Line
from tests.server.machine import registration_key, simple
from tests.server.running import Running
from tests.windows.server import AgentServer
from tests.windows.test_updates import LEAVES, STAYS
from tests.windows.wine import windows_path

pytestmark = pytest.mark.wine
ALWAYS = {"window": [{"name": "always", "rule": "FREQ=WEEKLY", "start": "2020-01-01T12:00:00", "minutes": 10080}]}
"""Once a week another window begins: what is done once in a window is not done again because it is midnight."""
NEVER = {"window": [{"name": "once", "rule": "FREQ=DAILY;COUNT=1", "start": "2020-01-01T00:00:00", "minutes": 60}]}


@dataclass
class Member:
    """A Windows Server that is one of a fleet."""

    fleet: Running
    windows: AgentServer
    id: str

    def turn(self) -> dict[str, Any]:
        ran = self.windows.run("agent", "--once", "--json")
        assert ran.returncode == 0, ran.stderr.decode()
        return dict(json.loads(ran.stdout))

    def plan(self, kind: str, **fields: object) -> str:
        """Plan an action; an installation with its forecast seen."""
        wanted = {"kind": kind, **fields}
        if kind == "install":
            query = "&".join(f"update={each}" for each in fields["updates"])  # type: ignore[attr-defined]
            wanted["forecast"] = self.fleet.get(f"/api/v1/machines/{self.id}/forecast?{query}")["token"]
        return str(self.fleet.post(f"/api/v1/machines/{self.id}/actions", wanted, status=202)["id"])

    def action(self, identity: str) -> dict[str, Any]:
        return dict(self.fleet.get(f"/api/v1/actions/{identity}"))

    def shown(self) -> dict[str, Any]:
        return dict(self.fleet.get(f"/api/v1/machines/{self.id}")["machine"])

    def policy(self, **content: object) -> None:
        context = self.fleet.app.state.context
        with self.fleet.database.write() as connection:
            policies.put(connection, "default", content, context.key, context.settings, self.fleet.clock())


@pytest.fixture
def member(fleet: Running, october: AgentServer) -> Member:
    rows = october.data["cim"] | {r"root\cimv2:Win32_ComputerSystemProduct": [{"UUID": "4C4C4544-0042"}]}
    october.change(cim=rows, updates=[each for each in october.data["updates"] if each["installed"]] + [STAYS, LEAVES])
    made = Member(fleet, october, enrolled(fleet, october)["machine"])
    made.policy(maintenance=ALWAYS, reboot="never")
    made.turn()
    return made


def enrolled(fleet: Running, windows: AgentServer, *more: str) -> dict[str, Any]:
    key = registration_key(fleet)
    environment = {**windows.environment, "HOTMEND_KEY": key, "HOTMEND_STATE": windows_path(windows.state)}
    ran = windows.wine.hotmend("enroll", fleet.url, "--name", "win-1", "--json", *more, **environment)
    assert ran.returncode == 0, ran.stderr.decode()
    return dict(json.loads(ran.stdout))


def test_a_server_is_listed_and_does_what_is_due_once_even_where_it_is_killed(
    member: Member,
) -> None:
    shown = member.shown()
    assert (shown["platform"], shown["line"], shown["level"]) == ("windows", "on", "KB5066835")
    with member.fleet.database.read() as connection:  # its facts came with the report, and are judged as uploaded ones
        answers = view.load(connection, member.id, member.fleet.clock()).answers
    assert answers is not None
    assert answers.level is not None
    assert answers.level.line is Line.ON
    order = member.plan("install", updates=["KB5070893"])
    assert member.turn() == {"ended": 1, "orders": {order: "SUCCEEDED_WITH_WARNINGS"}}
    assert [member.windows.stored(kb)["installed"] for kb in ("KB5070893", "KB5070881")] == [True, False]
    action = member.action(order)
    assert action["state"] == "SUCCEEDED_WITH_WARNINGS"
    assert "a reboot is due" in action["detail"]
    assert member.shown()["reboot_due"]
    assert member.turn()["ended"] == 0  # once
    # Killed after the update agent was done, before anybody was told.
    ledger = member.windows.state / "fleet" / "ledger.json"
    told = json.loads(ledger.read_text())
    assert [each["state"] for each in told["reached"]] == ["PRECHECK", "APPLYING", "SUCCEEDED_WITH_WARNINGS"]
    ledger.write_text(json.dumps({"reached": told["reached"][:2]}))
    with member.fleet.database.write() as connection:  # nor has its server the end
        which = actions.c.id == order
        connection.execute(sa.update(actions).where(which).values(state="APPLYING", detail=""))
    carried = member.windows.state / "fleet" / "uplink" / "carried.json"
    carried.write_text(json.dumps({**json.loads(carried.read_text()), "told": []}))
    assert member.turn()["orders"] == {order: "ALREADY_INSTALLED"}
    assert member.action(order)["state"] == "ALREADY_INSTALLED"
    ledger.write_text("{")
    ran = member.windows.run("agent", "--once")
    assert (ran.returncode, b"ledger.json" in ran.stderr) == (1, True)


def test_outside_its_window_an_order_waits_and_what_would_leave_the_line_is_refused(member: Member) -> None:
    member.policy(maintenance=NEVER)
    order = member.plan("install", updates=["KB5070893"])
    for _ in range(2):
        assert member.turn() == {"ended": 0, "orders": {order: "WAITING_WINDOW"}}
    member.turn()
    assert member.action(order)["state"] == "WAITING_WINDOW"
    assert not member.windows.stored("KB5070893")["installed"]
    leaves = member.plan("install", updates=["KB5070881"], anytime=True)
    now = member.plan("install", updates=["KB5070893"], anytime=True)
    assert member.turn()["orders"] == {order: "WAITING_WINDOW", leaves: "BLOCKED", now: "SUCCEEDED_WITH_WARNINGS"}
    assert "leaves-hotpatch-line" in member.action(leaves)["detail"]
    assert not member.windows.stored("KB5070881")["installed"]


def test_quarantine_hides_an_update_until_it_is_lifted_and_revert_takes_it_away(member: Member) -> None:
    hidden = member.plan("quarantine", updates=["KB5070893"])
    member.turn()
    assert (member.action(hidden)["state"], member.windows.stored("KB5070893")["hidden"]) == ("SUCCEEDED", True)
    kept = member.fleet.call("GET", f"/api/v1/machines/{member.id}/forecast?update=KB5070893")
    assert (kept.status, kept.json()["code"]) == (422, "not-offered")
    member.plan("lift", updates=["KB5070893"])
    member.turn()
    done = member.plan("install", updates=["KB5070893"])
    assert member.turn()["orders"][done] == "SUCCEEDED_WITH_WARNINGS"
    back = member.plan("revert", updates=["KB5070893"])
    assert member.turn()["orders"][back] in ("SUCCEEDED", "SUCCEEDED_WITH_WARNINGS")
    assert not member.windows.stored("KB5070893")["installed"]


def test_what_an_order_brought_is_taken_away_and_nothing_else(member: Member) -> None:
    before = _installed(member)
    nothing = member.plan("quarantine", updates=["KB5070893"])
    member.plan("lift", updates=["KB5070893"])
    member.turn()
    with member.fleet.database.write() as connection:  # as an installation that found nothing to do
        connection.execute(sa.update(actions).where(actions.c.id == nothing).values(kind="install"))
    done = member.plan("install", updates=["KB5070893"])
    assert member.turn()["orders"][done] == "SUCCEEDED_WITH_WARNINGS"
    with_it = _installed(member)
    back = member.plan("revert", undoes=nothing, emergency=True)
    assert member.turn()["orders"][back] == "SUCCEEDED"
    assert _installed(member) == with_it == before | {"KB5070893"}
    back = member.plan("revert", undoes=done, emergency=True)
    assert member.turn()["orders"][back] in ("SUCCEEDED", "SUCCEEDED_WITH_WARNINGS")
    assert _installed(member) == before
    again = member.fleet.call("GET", f"/api/v1/machines/{member.id}/forecast?update=KB5070893")
    assert (again.status, again.json()["code"]) == (422, "not-offered")
    member.plan("lift", updates=["KB5070893"])
    member.turn()
    member.plan("install", updates=["KB5070893"])
    unknown = member.plan("revert", undoes=nothing)
    ledger = member.windows.state / "fleet" / "ledger.json"
    ledger.write_text(json.dumps({"reached": [], "brought": {}}))
    assert member.turn()["orders"][unknown] == "NOT_APPLICABLE"


def _installed(member: Member) -> set[str]:
    return {kb for each in member.windows.data["updates"] if each["installed"] for kb in each["kbs"]}


def test_it_does_nothing_for_a_server_that_is_halted_gone_or_another(member: Member) -> None:
    member.fleet.post("/api/v1/halt", {"reason": "wait"}, status=200)
    order = member.plan("install", updates=["KB5070893"])
    assert member.turn()["ended"] == 0
    assert member.action(order)["state"] in ("SCHEDULED", "PRECHECK")
    registration = member.windows.state / "fleet" / "server.json"
    before = json.loads(registration.read_text())
    registration.write_text(json.dumps({**before, "server_key": "ab" * 32}))
    ran = member.windows.run("agent", "--once")
    assert (ran.returncode, b"not signed by the server's key" in ran.stderr) == (1, True)
    registration.write_text(json.dumps({**before, "url": "http://127.0.0.1:9"}))
    ran = member.windows.run("agent", "--once")
    assert (ran.returncode, b"does not answer" in ran.stderr) == (1, True)
    assert not member.windows.stored("KB5070893")["installed"]


def test_in_automatic_mode_it_installs_what_is_due_by_itself_once_in_a_window(member: Member) -> None:
    keeps = {"maintenance": ALWAYS | {"include": ["KB5070893"], "classifications": []}, "mode": "automatic"}
    member.policy(**(keeps | {"maintenance": keeps["maintenance"] | NEVER}))  # type: ignore[operator]
    member.turn()
    assert not member.windows.stored("KB5070893")["installed"]  # no window
    member.policy(**keeps, events=True)
    member.turn()
    assert not member.windows.stored("KB5070893")["installed"]  # no word
    member.policy(**keeps)
    member.fleet.post("/api/v1/halt", {"reason": "wait"}, status=200)
    member.turn()
    assert not member.windows.stored("KB5070893")["installed"]  # halted
    member.fleet.post("/api/v1/release", {}, status=200)
    assert member.turn() == {"ended": 0, "orders": {}}
    assert [member.windows.stored(kb)["installed"] for kb in ("KB5070893", "KB5070881")] == [True, False]
    report = member.fleet.get(f"/api/v1/machines/{member.id}")["report"]
    assert report["last_run"].startswith("SUCCEEDED_WITH_WARNINGS")
    assert "a reboot is due" in report["last_run"]  # the policy orders none
    own = member.windows.state / "fleet" / "own.json"
    before = own.read_bytes()
    member.turn()
    assert own.read_bytes() == before  # once


def test_with_its_server_gone_it_goes_on_with_the_last_policy(member: Member) -> None:
    member.policy(maintenance=ALWAYS | {"include": ["KB5070893"], "classifications": []}, mode="automatic")
    registration = member.windows.state / "fleet" / "server.json"
    given = json.loads(registration.read_text())
    assert member.windows.run("agent", "--once", "--json").returncode == 0
    own = member.windows.state / "fleet" / "own.json"
    own.unlink()  # as at the begin of another window
    member.windows.change(updates=[each for each in member.windows.data["updates"] if each["installed"]] + [STAYS])
    registration.write_text(json.dumps({**given, "url": "http://127.0.0.1:9"}))
    ran = member.windows.run("agent", "--once")
    assert (ran.returncode, b"does not answer" in ran.stderr) == (1, True)
    assert member.windows.stored("KB5070893")["installed"]


def test_with_restart_slots_it_reboots_with_one_and_gives_it_back_after_the_boot(member: Member) -> None:
    content = {"windows": ALWAYS["window"], "mode": "automatic", "exclude": ["KB5070881"]}
    configuration = {**content, "reboot": "if-required", "slots": 1}
    put = member.fleet.call("PUT", "/api/v1/maintenance/configurations/default", configuration, role="approver")
    assert put.status == 200, put.body
    busy = simple(member.fleet, "busy")
    assert busy.check_in(slot=True).slot_until is not None
    member.turn()
    assert member.windows.stored("KB5070893")["installed"]
    assert _reboots(member) == []
    member.turn()
    report = member.fleet.get(f"/api/v1/machines/{member.id}")["report"]
    assert "KB5070893), and not now: no restart slot" in report["last_run"]
    assert _reboots(member) == []
    busy.check_in(slot=False)
    for _ in range(2):
        member.turn()
        assert _reboots(member) == ["reboot ordered, in 60 s, with a restart slot"]  # Wine takes the order, and stays
        assert _owners(member) == {member.id}
    member.windows.reboot()
    member.turn()
    assert _owners(member) == set()
    report = member.fleet.get(f"/api/v1/machines/{member.id}")["report"]
    assert "a reboot is ordered" not in report["last_run"]
    member.turn()
    assert (_owners(member), len(_reboots(member))) == (set(), 1)


def _owners(member: Member) -> set[str]:
    return {each["machine"] for each in member.fleet.get("/api/v1/maintenance/slots")["items"]}


def _reboots(member: Member) -> list[str]:
    """Return what the records of the machine say of reboots that were ordered."""
    records = [json.loads(file.read_text()) for file in member.windows.state.glob("*.json")]
    return [event["what"] for each in records for event in each["events"] if "reboot ordered" in event["what"]]
