"""Windows that stay closed without a word: asked about before they open, by zone, and kept closed by the agent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hotmend.agent.configuration import Configuration
from hotmend.agent.machine import Machine
from hotmend.agent.paths import Places
from hotmend.agent.record.history import History
from hotmend.agent.uplink.carrying import check_in, enrol
from hotmend.agent.uplink.directing import with_directions
from hotmend.agent.uplink.news import letter_name
from hotmend.server.machines import store
from hotmend.server.maintenance.closing import WAIT_MAX, close
from hotmend.server.maintenance.events import allowed
from hotmend.server.rollouts.candidates import policy_contents
from hotmend.server.rollouts.windows import Windows
from hotmend.server.webhooks.sending import tell
from hotmend.wire.messages import Reached
from tests.server.listener import Listener
from tests.server.machine import Simple, host, registration_key, report, simple
from tests.server.running import Running

EVENTS = "/api/v1/maintenance/windows"
HOUR = timedelta(hours=1)


def _configure(server: Running, *, ahead: timedelta, event_minutes: int = 60, **fields: Any) -> int:
    """Configure windows of two hours a day, the next of which begins so much later, in UTC."""
    start = (server.clock() + ahead).replace(second=0, microsecond=0, tzinfo=None)
    window = {"name": "daily", "rule": "FREQ=DAILY", "start": start - timedelta(days=7), "minutes": 120}
    body = {"windows": [window], "zone": "UTC", "mode": "automatic", "event_minutes": event_minutes, **fields}
    path = "/api/v1/maintenance/configurations/default"
    return server.call("PUT", path, body, role="approver").status


def _answer(server: Running, event: str, allow: bool, *, role: str = "operator") -> int:
    path = f"{EVENTS}/{event}/answer"
    return server.call("POST", path, {"allow": allow, "reason": "the backup is made"}, role=role).status


def _may_begin(machine: Simple) -> bool:
    return machine.check_in().window_until is not None


def test_a_window_is_asked_about_once_and_opens_with_its_word(either_server: Running) -> None:
    server = either_server
    assert _configure(server, ahead=3 * HOUR) == 200
    machines = [simple(server, name) for name in ("a", "b")]
    assert [_may_begin(each) for each in machines] == [False, False]
    assert server.get(EVENTS)["items"] == []  # it is not near yet
    server.clock.ahead += 2.5 * HOUR
    assert [_may_begin(each) for each in machines] == [False, False]
    (event,) = server.get(EVENTS, role="viewer")["items"]
    assert (event["configuration"], event["state"]) == ("default", "asked")
    assert _answer(server, event["id"], allow=True, role="viewer") == 403
    assert _answer(server, event["id"], allow=True) == 200
    assert _may_begin(machines[0]) is False  # it is not open yet
    server.clock.ahead += HOUR
    until = machines[0].check_in().window_until
    assert until is not None
    assert until.isoformat() == event["ends_at"].replace("Z", "+00:00")
    assert _answer(server, event["id"], allow=False) == 200  # somebody thinks better of it
    assert [_may_begin(each) for each in machines] == [False, False]
    (event,) = server.get(EVENTS)["items"]
    assert (event["state"], event["by"], event["reason"]) == ("denied", "operator", "the backup is made")
    actions = [row["action"] for row in server.get("/api/v1/audit?limit=5")["items"]]
    assert actions.count("maintenance.window") == 2
    server.clock.ahead += 2 * HOUR
    assert _answer(server, event["id"], allow=True) == 409  # it is over
    assert _answer(server, "0" * 32, allow=True) == 404


def test_windows_are_asked_about_in_each_zone(server: Running) -> None:
    assert _configure(server, ahead=HOUR / 2, zone="", event_minutes=7 * 24 * 60) == 200
    for name, zone in (("berlin", "Europe/Berlin"), ("tokyo", "Asia/Tokyo"), ("nowhere", "")):
        machine = simple(server, name)
        machine.check_in(report=report(zone=zone))
        machine.check_in()
    starts = {event["starts_at"] for event in server.get(EVENTS)["items"]}
    assert len(starts) == len(server.get(EVENTS)["items"]) >= 14
    assert _configure(server, ahead=HOUR, event_minutes=-1) == 422
    assert _configure(server, ahead=HOUR, event_minutes=8 * 24 * 60) == 422


def test_webhooks_are_told_before_and_after_a_window_once(either_server: Running, listener: Listener) -> None:
    server, context = either_server, either_server.app.state.context
    server.post("/api/v1/webhooks", {"url": listener.url, "about": ["windows"]})
    assert _configure(server, ahead=HOUR / 2) == 200
    machines = [simple(server, name) for name in ("a", "b")]
    for each in machines:
        each.check_in(report=report(zone="Europe/Berlin"))
    assert tell(context)
    assert not tell(context)  # once, however many ask
    (opening,) = _events(listener)
    assert (opening["what"], opening["window"]["configuration"]) == ("window.opening", "default")
    answer = opening["answer"]
    reply = server.call(answer["method"], answer["path"], answer["yes"], role="operator")  # as it says
    assert reply.status == 200
    server.clock.ahead += HOUR
    ids = [_plan_install(server, each.id) for each in machines]
    later = _plan_install(server, machines[0].id)
    at = server.clock()
    machines[0].check_in(reached=(Reached(ids[0], "APPLYING", at), Reached(ids[0], "SUCCEEDED", at)))
    machines[0].check_in(report=report(level="2026-11"), reached=(Reached(later, "WAITING_WINDOW", at),))
    machines[1].check_in(reached=(Reached(ids[1], "APPLYING", at),))
    server.clock.ahead += 2 * HOUR
    assert close(context) == 0  # one has begun and not ended
    at = server.clock()
    machines[1].check_in(reached=(Reached(ids[1], "FAILED", at, "the disk is full"),))
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(lambda _: close(context), range(2))) == 1  # two servers
    assert tell(context)
    assert not tell(context)
    closed = _events(listener)[0]
    assert closed["what"] == "window.closed"
    assert closed["word"] == {"state": "allowed", "by": "operator", "reason": ""}
    outcome = closed["outcome"]
    assert (outcome["machines"], outcome["changed"]) == (2, 1)
    assert outcome["states"] == {"SUCCEEDED": 1, "FAILED": 1}
    (failure,) = outcome["failures"]
    assert (failure["name"], failure["detail"]) == ("b", "the disk is full")
    event = server.get(EVENTS)["items"][-1]
    assert (event["id"], event["outcome"]) == (opening["window"]["id"], outcome)
    assert server.call("POST", answer["path"], answer["no"], role="operator").status == 409
    (shown,) = [each["id"] for each in server.get(EVENTS)["items"] if each["closed_at"]]
    assert shown == event["id"]


def test_an_action_that_says_nothing_holds_a_window_up_for_so_long_alone(server: Running) -> None:
    assert _configure(server, ahead=-HOUR, zone="") == 200
    machine, other = simple(server, "a"), simple(server, "b")
    for each, zone in ((machine, "UTC"), (other, "Asia/Tokyo")):
        each.check_in(report=report(zone=zone))
        each.check_in()
    (event,) = [each for each in server.get(EVENTS)["items"] if each["starts_at"] < server.clock().isoformat()]
    identity = _plan_install(server, machine.id)
    machine.check_in(reached=(Reached(identity, "APPLYING", server.clock()),))
    server.clock.ahead += WAIT_MAX
    assert close(server.app.state.context) == 0
    server.clock.ahead += 2 * HOUR
    assert close(server.app.state.context) == 1
    outcome = next(each["outcome"] for each in server.get(EVENTS)["items"] if each["id"] == event["id"])
    assert (outcome["machines"], outcome["unended"], outcome["states"]) == (1, 1, {"APPLYING": 1})


def _events(listener: Listener) -> list[dict[str, Any]]:
    """Return the events of the last request."""
    return list(msgspec.json.decode(listener.taken[-1][1])["events"])


def test_a_rollout_takes_a_window_without_its_word_for_closed(server: Running) -> None:
    assert _configure(server, ahead=-HOUR) == 200
    machine = simple(server, "a")
    assert _may_begin(machine) is False
    (event,) = server.get(EVENTS)["items"]

    def decision() -> tuple[bool, str]:
        with server.database.read() as connection:
            now = server.clock()
            windows = Windows(policy_contents(connection), now, timedelta(minutes=5), allowed(connection, now))
        found = windows.ask("default", "UTC")
        return found.allowed, found.cause.code

    assert decision() == (False, "window-without-word")
    assert _answer(server, event["id"], allow=True) == 200
    assert decision() == (True, "window-open")


@pytest.fixture
def agent(server: Running, tmp_path: Path) -> Machine:
    """An agent that is enrolled, in a window that is open and waits for its word."""
    assert _configure(server, ahead=-HOUR) == 200
    places = Places(tmp_path / "root")
    places.state.mkdir(parents=True)
    places.server.parent.mkdir(parents=True)
    machine = Machine(places, Configuration(), History(places.history), server.clock, tmp_path / "audit.jsonl")
    enrol(places, server.url, registration_key(server), host("a"), name="a", server_key="", ca="")
    return machine


def test_an_agent_begins_nothing_in_a_window_without_its_word(server: Running, agent: Machine) -> None:
    def told() -> tuple[str, int]:
        check_in(agent.places, lambda: server.clock().timestamp())
        machine, wanted = with_directions(agent)
        assert wanted is not None
        return machine.configuration.mode, len(wanted.orders)

    identity = server.get("/api/v1/machines")["items"][0]["id"]
    server.post(f"/api/v1/machines/{identity}/actions", {"kind": "assess"}, status=202)
    assert told() == ("notify", 1)
    _plan_install(server, identity)
    assert told() == ("notify", 1)  # to assess changes nothing
    before = letter_name(agent.places)
    (event,) = server.get(EVENTS)["items"]
    assert _answer(server, event["id"], allow=True) == 200
    assert told() == ("automatic", 2)
    assert letter_name(agent.places) != before  # the acting part does not sleep through the window
    server.clock.ahead += HOUR / 2
    assert with_directions(agent)[0].configuration.mode == "automatic"  # with no server as well
    server.clock.ahead += HOUR
    assert with_directions(agent)[0].configuration.mode == "notify"  # until the window ends


def _plan_install(server: Running, identity: str) -> str:
    """Plan an installation, as a rollout does; return its id."""
    now = server.clock()
    values = {
        "machine_id": identity,
        "kind": "install",
        "updates": [],
        "anytime": False,
        "emergency": False,
        "disk": True,
        "reason": "",
        "created_by": "test",
        "created_at": now,
        "due_at": now,
        "until": None,
        "changed_at": now,
    }
    with server.database.write() as connection:
        return str(store.insert_action(connection, values))
