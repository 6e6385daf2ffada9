"""Maintenance: what machines are told by configurations, freezes and assignments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from datetime import date, datetime
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.server.maintenance.rules import MODES, REBOOTS, widened
from hotmend.server.maintenance.service import assign_all
from hotmend.wire.keys import PublicKey
from hotmend.wire.maintenance import ConfigurationWanted, FreezeWanted, WindowWanted
from hotmend.wire.policy import Policy, open_policy
from tests.server.machine import Simple, registration_key, report, simple
from tests.server.running import Running, running

NIGHT = {"name": "night", "rule": "FREQ=DAILY", "start": "2026-01-01T01:00:00", "minutes": 120}
PATH = "/api/v1/maintenance"


def _put(server: Running, path: str, body: Any, status: int = 200) -> Any:
    reply = server.call("PUT", f"{PATH}/{path}", body, role="approver")
    assert reply.status == status, reply.body
    return reply.json() if reply.body else None


def _policy(server: Running, machine: Simple) -> Policy:
    """What a machine is told at its next check-in, opened with the server's key as it does."""
    answer = machine.check_in(report=report(zone="Europe/Berlin"))
    assert answer.policy is not None
    return open_policy(answer.policy, PublicKey(server.app.state.context.key.public))


def _assign(server: Running, **fields: Any) -> str:
    return str(server.post(f"{PATH}/assignments", fields, role="approver")["id"])


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
    assert server.call("DELETE", f"{PATH}/freezes/turn", role="approver").status == 204
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
    assert server.call("DELETE", f"{PATH}/assignments/{mine}", role="approver").status == 204
    assert policy() == "a"
    machine.check_in(report=report(line="off"))
    with server.database.write() as connection:
        assert assign_all(connection) == 1
        assert assign_all(connection) == 0
    assert policy() == "default"
    reply = server.call("DELETE", f"{PATH}/configurations/a", role="approver")
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
        assert server.call("PUT", f"{PATH}/configurations/night", body, role="approver").status == 422, body
    assert server.get(f"{PATH}/configurations/night")["version"] == 1
    assert server.get(f"{PATH}/configurations/night")["wanted"]["windows"][0]["name"] == "night"
    assert server.call("PUT", f"{PATH}/configurations/night", {}, role="viewer").status == 403
    stale = {"If-Match": '"7"'}
    assert server.call("PUT", f"{PATH}/configurations/night", {}, role="approver", headers=stale).status == 412
    wrong = {"first": "2026-02-01", "last": "2026-01-01"}
    assert server.call("PUT", f"{PATH}/freezes/f", wrong, role="approver").status == 422
    # A slip in the year of a yearly one would freeze every day, those before its first one among them, for ever.
    slip = {"first": "2026-12-20", "last": "2028-01-02"}
    assert server.call("PUT", f"{PATH}/freezes/f", slip | {"yearly": True}, role="approver").status == 422
    assert server.call("PUT", f"{PATH}/freezes/f", slip, role="approver").status == 204


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
    assert server.call("POST", f"{PATH}/assignments", body, role="approver").status == status


# --- who lets machines do more ----------------------------------------------------------------------------

FREEZE = {"first": "2026-12-20", "last": "2027-01-02"}
LITTLE = {"mode": "download", "windows": [NIGHT], "slots": 2, "event_minutes": 60, "freezes": {"turn": FREEZE}}
_WINDOWS = [WindowWanted("a", "FREQ=DAILY", datetime(2026, 1, 1, hour), 60) for hour in (1, 2)]
_FREEZES = [FreezeWanted(date(2026, 12, first), date(2026, 12, 24)) for first in (20, 22)]
_wanted = st.builds(
    ConfigurationWanted,
    mode=st.sampled_from(MODES),
    windows=st.lists(st.sampled_from(_WINDOWS), max_size=2, unique_by=lambda each: each.start),
    freezes=st.dictionaries(st.sampled_from("ab"), st.sampled_from(_FREEZES)),
    zone=st.sampled_from(["", "UTC"]),
    classifications=st.lists(st.sampled_from(["Security", "Updates"]), max_size=2, unique=True),
    include=st.lists(st.sampled_from("ab"), max_size=2, unique=True),
    exclude=st.lists(st.sampled_from("ab"), max_size=2, unique=True),
    restart=st.booleans(),
    reboot=st.sampled_from(REBOOTS),
    slots=st.integers(0, 3),
    event_minutes=st.sampled_from([0, 30]),
)


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("mode", "automatic"),
        ("restart", True),
        ("reboot", "if-required"),
        ("windows", []),
        ("windows", [NIGHT, NIGHT | {"name": "noon", "start": "2026-01-01T12:00:00"}]),
        ("windows", [NIGHT | {"minutes": 121}]),
        ("zone", "Asia/Tokyo"),
        ("freezes", {}),
        ("freezes", {"turn": FREEZE | {"last": "2027-01-01"}}),
        ("event_minutes", 0),
        ("slots", 0),
        ("slots", 3),
        ("classifications", ["Critical", "Updates"]),
        ("include", ["*"]),
    ],
)
def test_an_operator_lets_no_machine_do_more(server: Running, field: str, more: Any) -> None:
    """One person alone, without a canary or a plan: that is what approvers are for."""
    _put(server, "configurations/default", LITTLE)
    reply = server.call("PUT", f"{PATH}/configurations/default", LITTLE | {field: more}, role="operator")
    assert (reply.status, reply.json()["code"]) == (403, "widens")
    assert server.get(f"{PATH}/configurations/default")["version"] == 1
    _put(server, "configurations/default", LITTLE | {field: more})


def test_an_operator_lets_machines_do_less(server: Running) -> None:
    _put(server, "configurations/default", LITTLE | {"mode": "automatic", "windows": [NIGHT, NIGHT | {"name": "b"}]})
    less = LITTLE | {"mode": "observe", "slots": 1, "exclude": ["nginx*"], "event_minutes": 90}
    assert server.call("PUT", f"{PATH}/configurations/default", less, role="operator").status == 200
    assert server.call("PUT", f"{PATH}/freezes/launch", FREEZE, role="operator").status == 204
    for method, path, body in (
        ("PUT", "freezes/launch", FREEZE | {"first": "2026-12-21"}),
        ("DELETE", "freezes/launch", None),
        ("DELETE", "configurations/default", None),
    ):
        reply = server.call(method, f"{PATH}/{path}", body, role="operator")
        assert (reply.status, reply.json()["code"]) == (403, "widens"), path


def test_an_operator_assigns_nothing_by_which_machines_may_do_more(server: Running) -> None:
    machine = simple(server, "one")
    _put(server, "configurations/all", {"mode": "automatic", "reboot": "always"})
    _put(server, "configurations/less", {"mode": "observe"})
    body = {"configuration": "all", "priority": 1, "machine": machine.id}
    reply = server.call("POST", f"{PATH}/assignments", body, role="operator")
    assert (reply.status, reply.json()["code"]) == (403, "widens")
    made = server.post(f"{PATH}/assignments", body | {"configuration": "less"}, role="operator")
    reply = server.call("DELETE", f"{PATH}/assignments/{made['id']}", role="operator")  # it might do more without it
    assert (reply.status, reply.json()["code"]) == (403, "widens")
    assert len(server.get(f"{PATH}/assignments")["items"]) == 1
    assert server.call("DELETE", f"{PATH}/assignments/{made['id']}", role="approver").status == 204


def test_a_scope_that_is_assigned_stays(server: Running) -> None:
    machine = simple(server, "one")
    machine.check_in(report=report())
    _put(server, "configurations/less", {"mode": "observe"})
    server.post("/api/v1/scopes", {"name": "on line", "query": {"line": "on"}}, role="operator")
    made = _assign(server, configuration="less", priority=1, scope="on line")
    for role in ("operator", "approver"):
        reply = server.call("DELETE", "/api/v1/scopes/on line", role=role)
        assert (reply.status, reply.json()["code"]) == (409, "assigned")
    assert server.get(f"{PATH}/machines/{machine.id}")["configuration"] == "less"
    assert server.call("DELETE", f"{PATH}/assignments/{made}", role="approver").status == 204
    assert server.call("DELETE", "/api/v1/scopes/on line", role="operator").status == 204
    assert server.call("DELETE", "/api/v1/scopes/on line", role="operator").status == 404


def test_a_scope_is_assigned_or_removed_and_never_both(ready_url: str) -> None:
    with running(ready_url, requests_per_minute=1_000_000) as server:
        server.set_up()
        _put(server, "configurations/less", {"mode": "observe"})
        for number in range(20):
            name, start = f"scope-{number}", Barrier(2)
            server.post("/api/v1/scopes", {"name": name, "query": {}})

            def assign(name: str = name, start: Barrier = start, number: int = number) -> int:
                body = {"configuration": "less", "priority": number, "scope": name}
                start.wait()
                return server.call("POST", f"{PATH}/assignments", body).status

            def remove(name: str = name, start: Barrier = start) -> int:
                start.wait()
                return server.call("DELETE", f"/api/v1/scopes/{name}").status

            with ThreadPoolExecutor(2) as pool:
                given, removed = pool.submit(assign), pool.submit(remove)
            assert (given.result(), removed.result()) in ((201, 409), (404, 204))


@given(_wanted, _wanted, _wanted, st.sampled_from([each.name for each in fields(ConfigurationWanted)]))
def test_less_and_less_again_is_less(
    one: ConfigurationWanted, other: ConfigurationWanted, third: ConfigurationWanted, field: str
) -> None:
    two, three = (replace(one, **{field: getattr(each, field)}) for each in (other, third))
    assert widened(one, one) == ()
    assert set(widened(one, two)) <= {"windows" if field == "zone" else field}
    if not widened(one, two) and not widened(two, three):
        assert widened(one, three) == ()
