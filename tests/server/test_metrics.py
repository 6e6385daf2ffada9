"""What a server tells Prometheus, and that its alerts' metrics are among it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hotmend.servicing.actions import State
from tests.server.fleet import Fleet, begun
from tests.server.portal.conftest import Person
from tests.server.running import Running

RULES = Path(__file__).parents[2] / "packaging/prometheus/hotmend-server.rules.yml"


def _told(server: Running) -> dict[tuple[str, ...], float]:
    reply = server.call("GET", "/api/v1/metrics", role="viewer")
    assert reply.status == 200
    families = text_string_to_metric_families(reply.body.decode())
    return {
        (sample.name.removeprefix("hotmend_fleet_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_is_told(either_server: Running) -> None:
    server = either_server
    fleet = Fleet(server)
    fleet.add(2, canary="1")
    fleet.add(2, there=False)
    assert server.call("GET", "/api/v1/metrics", role=None).status == 401
    told = _told(server)
    names = set(re.findall(r"hotmend_fleet_(\w+)", RULES.read_text()))
    assert names - {key[0] for key in told} == set()
    assert (told["machines", "active"], told["machines", "suspect"], told["machines_silent",]) == (4, 0, 2)
    assert (told["halted",], told["steering_age_seconds",], told["rollouts", "RUNNING"]) == (0, 0, 0)
    identity = begun(server, pre_event_minutes=5)
    server.clock.ahead += timedelta(minutes=3)  # nobody steers it
    assert 180 <= _told(server)["steering_age_seconds",] < 240
    fleet.step(identity, 3)
    told = _told(server)
    assert told["steering_age_seconds",] < 30
    assert (told["events_waiting",], told["rollouts", "RUNNING"], told["rollouts_braked",]) == (1, 1, 0)
    path = f"/api/v1/rollouts/{identity}"
    server.post(f"{path}/groups/0/events/pre", {"allow": True}, role="operator", status=204)
    fleet.seen()
    fleet.step(identity, 2)
    assert _told(server)["actions_open", "install", "SCHEDULED"] == 2
    fleet.report(next(iter(fleet.due().values())), State.FAILED)
    server.post("/api/v1/halt", {}, role="operator", status=200)
    told = _told(server)
    assert (told["rollouts_braked",], told["halted",], told["events_waiting",]) == (1, 1, 0)


def test_a_machine_without_an_agent_is_not_silent(server: Running) -> None:
    facts = (Path(__file__).parents[1] / "data/facts/cases/october-2-right.json").read_bytes()
    assert server.call("PUT", "/api/v1/facts/w1", facts, role="operator").status == 200
    server.clock.ahead += timedelta(days=1)
    told = _told(server)
    assert (told["machines", "active"], told["machines_silent",]) == (1, 0)


@pytest.mark.parametrize("verb", ["stop", "roll-back"])
def test_an_event_of_a_rollout_that_does_not_go_on_waits_for_nobody(server: Running, verb: str) -> None:
    fleet = Fleet(server)
    fleet.add(1, canary="1")
    fleet.add(1)
    identity = begun(server, pre_event_minutes=60)
    fleet.step(identity, 3)
    path = f"/api/v1/rollouts/{identity}"
    person = Person(server)
    person.sign_in("operator")
    assert 'id="gates"' in person.get(f"/rollouts/{identity}?answer=yes").body.decode()
    assert _told(server)["events_waiting",] == 1
    server.post(f"{path}/{verb}", {"reason": "x"}, role="operator", status=200)
    assert _told(server)["events_waiting",] == 0
    assert 'id="gates"' not in person.get(f"/rollouts/{identity}?answer=yes").body.decode()
    reply = server.call("POST", f"{path}/groups/0/events/pre", {"allow": True}, role="operator")
    assert (reply.status, reply.json()["code"]) == (409, "not-asked")
