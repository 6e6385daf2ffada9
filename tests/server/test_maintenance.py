"""Maintenance: what machines are told by configurations, freezes and assignments."""

from __future__ import annotations

from typing import Any

import pytest

from hotmend.server.maintenance.service import assign_all
from hotmend.wire.keys import PublicKey
from hotmend.wire.policy import Policy, open_policy
from tests.server.machine import Simple, registration_key, report, simple
from tests.server.running import Running

NIGHT = {"name": "night", "rule": "FREQ=DAILY", "start": "2026-01-01T01:00:00", "minutes": 120}
PATH = "/api/v1/maintenance"


def _put(server: Running, path: str, body: Any, status: int = 200) -> Any:
    reply = server.call("PUT", f"{PATH}/{path}", body, role="operator")
    assert reply.status == status, reply.body
    return reply.json() if reply.body else None


def _policy(server: Running, machine: Simple) -> Policy:
    """What a machine is told at its next check-in, opened with the server's key as it does."""
    answer = machine.check_in(report=report(zone="Europe/Berlin"))
    assert answer.policy is not None
    return open_policy(answer.policy, PublicKey(server.app.state.context.key.public))


def _assign(server: Running, **fields: Any) -> str:
    return str(server.post(f"{PATH}/assignments", fields, role="operator")["id"])


def test_a_machine_is_told_what_is_assigned_with_the_freezes_of_everybody(either_server: Running) -> None:
    server = either_server
    machine = simple(server, "one", registration_key(server, tags={"site": "berlin"}))
    other = simple(server, "two")
    assert _policy(server, machine).mode == "notify"
    made = _put(server, "configurations/night", {"mode": "automatic", "windows": [NIGHT], "restart": True})
    assert (made["version"], made["machines"]) == (1, 0)
    _assign(server, configuration="night", priority=10, tag="site", value="berlin")
    policy = _policy(server, machine)
    assert (policy.mode, policy.restart, [each.name for each in policy.maintenance.window]) == (
        "automatic",
        True,
        ["night"],
    )
    assert _policy(server, other).mode == "notify"
    _put(server, "freezes/turn", {"first": "2026-12-18", "last": "2027-01-06", "yearly": True}, 204)
    after = _policy(server, machine)
    assert [each.name for each in after.maintenance.freeze] == ["turn"]
    assert after.serial > policy.serial
    assert [each.name for each in _policy(server, other).maintenance.freeze] == ["turn"]
    assert server.call("DELETE", f"{PATH}/freezes/turn", role="operator").status == 204
    assert _policy(server, other).maintenance.freeze == ()
    assert server.get("/api/v1/audit/verify")["whole"]


def test_the_highest_priority_counts_and_scopes_are_followed(server: Running) -> None:
    machine = simple(server, "one")
    machine.check_in(report=report())
    for name in ("a", "b", "c"):
        _put(server, f"configurations/{name}", {"mode": "download"})
    server.post("/api/v1/scopes", {"name": "on line", "query": {"line": "on"}}, role="operator")

    def policy() -> str:
        return str(server.get(f"{PATH}/machines/{machine.id}")["configuration"])

    _assign(server, configuration="a", priority=1, scope="on line")
    assert policy() == "a"
    mine = _assign(server, configuration="b", priority=3, machine=machine.id)
    _assign(server, configuration="c", priority=2, tag="site")
    assert policy() == "b"
    assert server.call("DELETE", f"{PATH}/assignments/{mine}", role="operator").status == 204
    assert policy() == "a"
    machine.check_in(report=report(line="off"))
    with server.database.write() as connection:
        assert assign_all(connection) == 1
        assert assign_all(connection) == 0
    assert policy() == "default"
    reply = server.call("DELETE", f"{PATH}/configurations/a", role="operator")
    assert reply.json()["code"] == "assigned"


def test_the_windows_of_a_machine_are_shown_in_its_zone(server: Running) -> None:
    machine = simple(server, "one")
    _put(server, "configurations/default", {"windows": [NIGHT]})
    shown = server.get(f"{PATH}/machines/{machine.id}", role="viewer")
    assert (shown["zone"], shown["open"], shown["windows"]) == ("", False, [])  # it has not said where it is
    machine.check_in(report=report(zone="Europe/Berlin"))
    shown = server.get(f"{PATH}/machines/{machine.id}", role="viewer")
    assert shown["zone"] == "Europe/Berlin"
    assert {each["start"][11:13] for each in shown["windows"]} <= {"23", "00"}  # 1 o'clock there, summer or winter


def test_what_makes_no_sense_is_refused_and_changes_nothing(server: Running) -> None:
    _put(server, "configurations/night", {"windows": [NIGHT]})
    for body in (
        {"windows": [{**NIGHT, "rule": "FREQ=HOURLY"}]},
        {"windows": [{**NIGHT, "rule": "SOMETIMES"}]},
        {"windows": [{**NIGHT, "start": "2026-01-01T01:00:00Z"}]},
        {"windows": [{**NIGHT, "minutes": 0}]},
        {"zone": "Mars/Olympus"},
        {"freezes": {"f": {"first": "2026-02-01", "last": "2026-01-01"}}},
        {"mode": "sometimes"},
    ):
        assert server.call("PUT", f"{PATH}/configurations/night", body, role="operator").status == 422, body
    assert server.get(f"{PATH}/configurations/night")["version"] == 1
    assert server.get(f"{PATH}/configurations/night")["wanted"]["windows"][0]["name"] == "night"
    assert server.call("PUT", f"{PATH}/configurations/night", {}, role="viewer").status == 403
    stale = {"If-Match": '"7"'}
    assert server.call("PUT", f"{PATH}/configurations/night", {}, role="operator", headers=stale).status == 412
    wrong = {"first": "2026-02-01", "last": "2026-01-01"}
    assert server.call("PUT", f"{PATH}/freezes/f", wrong, role="operator").status == 422


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 422),
        ({"tag": "a", "scope": "b"}, 422),
        ({"scope": "nobody"}, 404),
        ({"machine": "0" * 32}, 404),
        ({"tag": "a", "configuration": "none"}, 404),
        ({"tag": "a", "priority": 1}, 409),
    ],
)
def test_assignments_that_are_refused(server: Running, fields: dict[str, Any], status: int) -> None:
    _put(server, "configurations/night", {})
    _assign(server, configuration="night", priority=1, tag="x")
    body = {"configuration": "night", "priority": 2, **fields}
    assert server.call("POST", f"{PATH}/assignments", body, role="operator").status == status
