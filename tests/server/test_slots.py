"""Restart slots from the server to the agent, how much an action may reboot, and rollouts that begin by themselves."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hotmend.agent.census.assessment import Assessment
from hotmend.agent.census.kernel import Boot
from hotmend.agent.configuration import Configuration
from hotmend.agent.finishing import finish
from hotmend.agent.machine import Machine
from hotmend.agent.paths import Places
from hotmend.agent.record.history import AgentBegan, History, OrderEnded
from hotmend.agent.uplink.afterwards import Afterwards
from hotmend.agent.uplink.asking import slot_of, slot_wanted
from hotmend.agent.uplink.carrying import check_in, enrol
from hotmend.agent.uplink.directing import directions, with_directions
from hotmend.agent.uplink.files import Wish, wish_file, write
from hotmend.agent.uplink.slot import Slot
from hotmend.server.rollouts.workflow import take_back_slots
from hotmend.servicing.actions import State
from hotmend.servicing.maintenance import REBOOTS, reboot_within
from hotmend.wire.messages import Kind, Order, Reached
from tests.server.fleet import ALWAYS, Fleet, begun, steered, wanted
from tests.server.machine import Simple, host, registration_key, report, simple
from tests.server.running import Running

CONFIGURATION = "/api/v1/maintenance/configurations/default"


def _configure(server: Running, **fields: Any) -> Any:
    body = {"windows": ALWAYS["maintenance"]["window"], "zone": "UTC", "mode": "automatic", **fields}
    return server.call("PUT", CONFIGURATION, body, role="approver")


def _asks(machine: Simple, slot: bool | None = True) -> tuple[bool, str]:
    answer = machine.check_in(slot=slot)
    return answer.slot_until is not None, answer.slot_why


def test_no_more_machines_restart_than_there_are_slots(either_server: Running) -> None:
    server = either_server
    assert _configure(server, slots=2, slot_minutes=20).status == 200
    machines = [simple(server, name) for name in ("a", "b", "c")]
    assert [_asks(each)[0] for each in machines] == [True, True, False]
    assert "All 2 restart slots are taken" in _asks(machines[2])[1]
    first = machines[0].check_in(slot=True).slot_until
    server.clock.ahead += timedelta(minutes=1)
    assert machines[0].check_in(slot=True).slot_until == first  # who asks again does not keep it for longer
    assert _asks(machines[0], slot=None) == (False, "")  # nothing is said of slots, and nothing changes
    shown = server.get("/api/v1/maintenance/slots")["items"]
    assert {each["machine"] for each in shown} == {machines[0].id, machines[1].id}
    assert _asks(machines[0], slot=False) == (False, "")
    assert _asks(machines[2]) == (True, "")
    server.clock.ahead += timedelta(minutes=20)  # the second one never comes back
    assert _asks(machines[0]) == (True, "")
    events = server.get(f"/api/v1/machines/{machines[1].id}/events")["items"]
    assert events[0]["detail"] == "its restart slot was not given back in time"
    assert server.call("DELETE", f"/api/v1/maintenance/slots/{machines[0].id}", role="operator").status == 204
    assert server.call("DELETE", f"/api/v1/maintenance/slots/{machines[0].id}", role="operator").status == 404


@pytest.mark.parametrize(("ended", "asked"), [(False, True), (True, True), (True, False)])
def test_a_machine_that_does_not_come_back_from_its_restart_has_failed(
    either_server: Running, ended: bool, asked: bool
) -> None:
    server = either_server
    assert _configure(server, slots=1, slot_minutes=20).status == 200
    canary = simple(server, "a", registration_key(server, tags={"canary": "1"}))
    other = simple(server, "b")
    for machine in (canary, other):
        machine.check_in(report=report(alerts=()))
    fleet = Fleet(server)
    rollout = begun(server, lane="zero-day")
    fleet.step(rollout, 3)
    (order,) = canary.check_in().orders
    states = (State.PRECHECK, State.SUCCEEDED) if ended else (State.PRECHECK, State.RESTARTING)
    canary.check_in(reached=tuple(Reached(order.id, state, server.clock()) for state in states))
    assert canary.check_in(slot=True).slot_until
    path = f"/api/v1/rollouts/{rollout}"
    assert server.get(path)["brake"] is None
    server.clock.ahead += timedelta(minutes=20)
    steered(server)
    context = server.app.state.context
    assert take_back_slots(context) == 0  # it may be there again, and has not said so yet
    if asked:
        assert other.check_in(slot=True).slot_until
    else:
        server.clock.ahead += timedelta(seconds=2 * context.settings.check_in_seconds)
        assert take_back_slots(context) == 1
        assert server.get("/api/v1/maintenance/slots")["items"] == []
    assert take_back_slots(context) == 0
    assert server.get(path)["brake"] is not None
    events = server.get(f"/api/v1/machines/{canary.id}/events")["items"]
    assert events[0]["detail"] == "its restart slot was not given back in time"
    assert server.get(f"/api/v1/actions/{order.id}")["state"] == (State.SUCCEEDED if ended else State.TIMED_OUT)
    why = [each["why"].get("code") for each in server.get(f"{path}/events")["items"] if each["what"] == "brake"]
    assert why == ["slot-not-returned"]


def test_slots_of_one_configuration_are_not_those_of_another(server: Running) -> None:
    assert _configure(server, slots=1).status == 200
    other = server.call("PUT", "/api/v1/maintenance/configurations/db", {"slots": 1}, role="approver")
    assert other.status == 200
    one, two = simple(server, "one"), simple(server, "two")
    assigned = {"configuration": "db", "priority": 1, "machine": two.id}
    server.post("/api/v1/maintenance/assignments", assigned, role="approver")
    assert [_asks(one)[0], _asks(two)[0]] == [True, True]
    assert _configure(server, slots=0).status == 200
    assert _asks(one) == (False, "the configuration has no slots any more")
    assert [_configure(server, slots=-1).status, _configure(server, slot_minutes=0).status] == [422, 422]


@pytest.fixture
def agent(server: Running, tmp_path: Path) -> Machine:
    """An agent that is enrolled, of a configuration with one slot, which may reboot where it has to."""
    assert _configure(server, slots=1, slot_minutes=30, reboot="if-required").status == 200
    places = Places(tmp_path / "root")
    places.state.mkdir(parents=True)
    places.server.parent.mkdir(parents=True)
    machine = Machine(places, Configuration(), History(places.history), server.clock, tmp_path / "audit.jsonl")
    enrol(places, server.url, registration_key(server), host("a"), name="a", server_key="", ca="")
    check_in(places, lambda: server.clock().timestamp())
    return machine


def _finish(machine: Machine) -> tuple[bool, str]:
    """End a run after which a reboot is due; return whether it rebooted, and why."""
    rebooted: list[bool] = []
    told = finish(with_directions(machine)[0], installed=True, reboot=lambda: rebooted.append(True), seen=_due(machine))
    return bool(rebooted), told.reboot.reason


def _due(machine: Machine) -> Assessment:
    return Assessment(machine.clock(), (), (), Boot("6.1.0-1", "", (), False, True, ("linux-image",)))


def _wish(machine: Machine) -> bool | None:
    directed, wanted = with_directions(machine)
    assert wanted is not None
    return slot_wanted(directed, wanted, _due(machine))


def test_an_agent_reboots_with_a_slot_and_gives_it_back_when_it_is_there_again(server: Running, agent: Machine) -> None:
    def carry() -> None:
        write(wish_file(agent.places), Wish(_wish(agent)))
        check_in(agent.places, lambda: server.clock().timestamp())

    busy = simple(server, "busy")
    assert _asks(busy) == (True, "")
    rebooted, why = _finish(agent)
    assert (rebooted, "no restart slot" in why) == (False, True)
    carry()
    assert slot_of(agent) is Slot.MISSING
    assert _asks(busy, slot=False)[0] is False
    carry()
    assert slot_of(agent) is Slot.HELD
    assert _finish(agent)[0] is True
    carry()
    assert _asks(busy)[0] is False  # it is down, and still has it
    agent.record(AgentBegan(version="1", mode="automatic", boot="b"))
    assert _wish(agent) is False
    carry()
    assert _asks(busy)[0] is True


def test_a_slot_ends_for_the_agent_before_it_ends_for_the_server(server: Running, agent: Machine) -> None:
    write(wish_file(agent.places), Wish(True))
    check_in(agent.places, lambda: server.clock().timestamp())
    server.clock.ahead += timedelta(minutes=24)
    assert slot_of(agent) is Slot.HELD
    server.clock.ahead += timedelta(minutes=2)
    assert slot_of(agent) is Slot.MISSING
    assert _finish(agent)[0] is False
    server.call("POST", "/api/v1/halt", {"reason": "test"})
    check_in(agent.places, lambda: server.clock().timestamp())
    wanted = directions(agent)
    assert wanted is not None
    assert wanted.slot_until is None


def test_an_action_reboots_no_more_than_the_policy_allows_and_no_more_than_it_asks_for() -> None:
    assert [[reboot_within(policy, asked) for asked in ("", *REBOOTS)] for policy in REBOOTS] == [
        ["never", "never", "never", "never"],
        ["if-required", "never", "if-required", "if-required"],
        ["always", "never", "if-required", "always"],
    ]


def test_what_an_action_asks_for_is_what_its_run_may_reboot(server: Running, agent: Machine) -> None:
    machine = simple(server, "one")
    server.post(f"/api/v1/machines/{machine.id}/actions", {"kind": "assess", "reboot": "never"}, status=202)
    (order,) = machine.check_in().orders
    assert order.reboot == "never"
    directed = with_directions(agent)[0]
    done = OrderEnded(order="0" * 32, state=State.SUCCEEDED)
    install = Order("0" * 32, Kind.INSTALL, reboot="never")
    assert Afterwards(directed).of(install, done).machine.configuration.reboot == "never"
    assert Afterwards(directed).of(order, done).machine.configuration.reboot == "if-required"
    asked = Afterwards(directed).of(Order("1" * 32, Kind.INSTALL, reboot="always"), done)
    assert (asked.machine.configuration.reboot, asked.installed) == ("if-required", True)


def test_a_rollout_begins_at_its_time_whoever_steers_then(either_server: Running) -> None:
    server, fleet = either_server, Fleet(either_server)
    fleet.add(1, canary="1")
    made = server.post("/api/v1/rollouts", wanted(), role="operator")
    path = f"/api/v1/rollouts/{made['id']}"
    at = server.clock() + timedelta(hours=3)
    assert server.call("POST", f"{path}/schedule", {"at": at.isoformat()}).status == 409  # nobody has approved it
    for role in ("approver", "admin"):
        server.post(f"{path}/approve", {"plan": made["plan"]}, role=role, status=200)
    for wrong in (at - timedelta(hours=4), at + timedelta(days=400)):
        assert server.call("POST", f"{path}/schedule", {"at": wrong.isoformat()}).status == 422
    assert server.call("POST", f"{path}/schedule", {"at": "2027-01-01T00:00:00"}).status == 422
    server.post(f"{path}/schedule", {"at": at.isoformat()}, role="operator", status=200)
    assert fleet.step(made["id"]) == "READY"
    fleet.later(hours=2, minutes=59)
    assert fleet.step(made["id"]) == "READY"
    server.post(f"{path}/schedule", {"at": None}, role="operator", status=200)
    fleet.later(minutes=2)
    assert fleet.step(made["id"]) == "READY"
    server.post(f"{path}/schedule", {"at": (server.clock() + timedelta(minutes=1)).isoformat()}, status=200)
    fleet.later(minutes=1)
    assert fleet.step(made["id"], 2) == "RUNNING"
    assert server.get(path)["start_at"] is None
