"""Machines over the API: lists, pages, tags and scopes; actions planned once, with their forecast seen; uploads."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from hotmend.server.machines.tables import events
from hotmend.wire.report import Finding, Fixed, Managed, Quarantine
from tests.server.machine import Simple, host, registration_key, report, simple
from tests.server.portal.conftest import Person
from tests.server.running import Running
from tests.server.test_audit import _signed_in

FACTS = Path(__file__).parents[1] / "data" / "facts"


def _fleet(server: Running) -> dict[str, Simple]:
    """Five machines: two in Berlin, one canary, one off the line, one that has never reported."""
    made = {}
    for name, tier, tags, fields in (
        ("web-1", "stable", {"site": "berlin", "role": "web"}, {}),
        ("web-2", "canary", {"site": "bonn", "role": "web"}, {"line": "off", "alerts": ()}),
        ("db-1", "stable", {"site": "berlin"}, {"restarts": (), "waiting": ("postgresql-15=15.9",)}),
        ("db-2", "stable", {}, {"reboot": ("kernel",), "restarts": (), "findings": ()}),
        ("new", "stable", {}, None),
    ):
        machine = simple(server, name, registration_key(server, tier=tier, tags=tags))
        if fields is not None:
            machine.check_in(report=report(**fields))
        made[name] = machine
    return made


def _names(server: Running, asked: str) -> list[str]:
    return [each["name"] for each in server.get(f"/api/v1/machines?{asked}")["items"]]


def test_machines_are_found_by_what_they_are_and_say(either_server: Running) -> None:
    server = either_server
    fleet = _fleet(server)
    fleet["db-2"].leave()
    every = ["db-1", "new", "web-1", "web-2"]
    for asked, expected in {
        "": every,
        "state=left": ["db-2"],
        "tier=canary": ["web-2"],
        "tag=site": ["db-1", "web-1", "web-2"],
        "tag=site=berlin": ["db-1", "web-1"],
        "tag=site=berlin&tag=role=web": ["web-1"],
        "search=WEB": ["web-1", "web-2"],
        "search=%25": [],
        "line=off": ["web-2"],
        "waiting=true": ["db-1"],
        "waiting=false": ["new", "web-1", "web-2"],
        "restarts_due=true": ["web-1", "web-2"],
        "reboot_due=false": every,
        "cve=CVE-2026-0002": ["db-1", "web-1", "web-2"],
        "cve=CVE-2026-0001": [],
        "platform=windows": [],
        "enrollment=ENABLED&tier=stable": ["db-1", "web-1"],
    }.items():
        assert _names(server, asked) == expected, asked


def test_pages_follow_each_other_while_the_list_changes(either_server: Running) -> None:
    server = either_server
    key = registration_key(server)
    for number in range(7):
        Simple(server, f"m{number % 3}", host(f"host {number}")).enrol(key)
    seen: list[str] = []
    page = server.get("/api/v1/machines?limit=3")
    assert page["total"] == 7
    while True:
        seen += [each["id"] for each in page["items"]]
        if not page["next"]:
            break
        Simple(server, "a-before", host(page["next"])).enrol(key)  # comes before the cursor: it moves nothing
        page = server.get(f"/api/v1/machines?limit=3&cursor={page['next']}")
    assert len(seen) == len(set(seen)) == 7
    for cursor in ("x", "AAAA", "%00"):
        assert server.call("GET", f"/api/v1/machines?cursor={cursor}").json()["code"] == "cursor"


def test_a_machine_says_since_when_and_whether_it_changed(either_server: Running) -> None:
    machine = simple(either_server, "a")
    machine.check_in(report=report())
    path = f"/api/v1/machines/{machine.id}"
    reply = either_server.call("GET", path)
    shown = reply.json()
    assert shown["report"]["findings"][1]["fixed"] == "on-disk"
    assert shown["findings"][0]["since"]
    assert shown["machine"]["restarts_due"] == 1
    tag = reply.headers["ETag"]
    assert either_server.call("GET", path, headers={"If-None-Match": tag}).status == 304
    machine.check_in()
    assert either_server.call("GET", path, headers={"If-None-Match": tag}).status == 200
    kinds = [each["kind"] for each in either_server.get(f"{path}/events")["items"]]
    assert kinds == ["level", "enrolled"]


def test_what_else_manages_a_machine_is_on_its_page(server: Running) -> None:
    machine = simple(server, "a")
    machine.check_in(report=report(managers=(Managed("unattended-upgrades", "it installs by itself"),)))
    shown = server.get(f"/api/v1/machines/{machine.id}")["report"]
    assert shown["managers"] == [{"name": "unattended-upgrades", "detail": "it installs by itself"}]
    page = server.call("GET", f"/machines/{machine.id}", role=None, headers=_signed_in(server)).body.decode()
    assert "Also managed by" in page
    assert "unattended-upgrades" in page


def test_tags_are_changed_by_who_has_seen_them(server: Running) -> None:
    machine = simple(server, "a")
    path = f"/api/v1/machines/{machine.id}"
    tag = server.call("GET", path).headers["ETag"]
    put = {"tags": {"site": "berlin"}}
    assert server.call("PUT", f"{path}/tags", put, role="viewer").status == 403
    assert server.call("PUT", f"{path}/tags", put, headers={"If-Match": tag}).status == 200
    reply = server.call("PUT", f"{path}/tags", {"tags": {}}, headers={"If-Match": tag})
    assert (reply.status, reply.json()["code"]) == (412, "changed")
    assert server.get(path)["machine"]["tags"] == {"site": "berlin"}
    for bad in ({"Ä": "x"}, {"a": "x" * 201}, {f"t{n}": "" for n in range(51)}):
        assert server.call("PUT", f"{path}/tags", {"tags": bad}).status == 422


def test_a_scope_is_a_query_that_stays(server: Running) -> None:
    fleet = _fleet(server)
    server.post("/api/v1/scopes", {"name": "berlin", "query": {"tags": {"site": "berlin"}}})
    assert server.get("/api/v1/scopes")["items"][0]["machines"] == 2
    put = {"tags": {"site": "berlin"}}
    server.call("PUT", f"/api/v1/machines/{fleet['new'].id}/tags", put)
    assert _names(server, "scope=berlin") == ["db-1", "new", "web-1"]
    assert _names(server, "scope=berlin&search=web") == ["web-1"]
    assert server.call("POST", "/api/v1/scopes", {"name": "berlin", "query": {}}).status == 409
    assert server.call("GET", "/api/v1/machines?scope=none").status == 404
    assert server.call("DELETE", "/api/v1/scopes/berlin").status == 204
    assert server.get("/api/v1/scopes")["items"] == []


# --- actions ----------------------------------------------------------------------------------------------


def test_an_installation_shows_that_its_forecast_was_seen(either_server: Running) -> None:
    server = either_server
    machine = simple(server, "a")
    path = f"/api/v1/machines/{machine.id}"
    assert server.call("GET", f"{path}/forecast").json()["code"] == "no-report"
    waits = ("nginx=2", "redis=3")
    machine.check_in(report=report(waiting=waits, quarantined=(Quarantine("redis=3", "it crashed"),)))
    shown = server.get(f"{path}/forecast")
    assert (shown["updates"], shown["restarts"]) == (list(waits), ["redis.service"])
    assert "not availability-first" in shown["told"][0]
    assert any("quarantine" in each for each in shown["told"])
    wanted = {"kind": "install", "reason": "now"}
    assert server.call("POST", f"{path}/actions", wanted).status == 428
    assert server.call("POST", f"{path}/actions", wanted | {"forecast": "0" * 32}).status == 412
    other = server.get(f"{path}/forecast?update=nginx%3D2")
    assert server.call("POST", f"{path}/actions", wanted | {"forecast": other["token"]}).status == 412
    made = server.post(f"{path}/actions", wanted | {"forecast": shown["token"]}, status=202)
    assert [order.id for order in machine.check_in().orders] == [made["id"]]
    machine.check_in(report=report(waiting=("nginx=2",)))
    assert server.call("POST", f"{path}/actions", wanted | {"forecast": shown["token"]}).status == 412
    assert server.call("GET", f"{path}/forecast?update=other%3D1").json()["code"] == "not-offered"


def test_a_forecast_says_what_each_update_would_do(either_server: Running) -> None:
    server = either_server
    machine = simple(server, "a")
    path = f"/api/v1/machines/{machine.id}/forecast"
    machine.check_in(report=report(waiting=("nginx=2", "linux-image-6.1.0-31-amd64=6.1.128-1", "release-7")))
    shown = server.get(path)
    assert [each["reboot"] for each in shown["effects"]] == [False, True, None]
    assert shown["needs_reboot"] is True
    assert server.get(f"{path}?update=nginx%3D2")["needs_reboot"] is False
    assert server.get(f"{path}?update=nginx%3D2&update=release-7")["needs_reboot"] is None
    facts = json.loads((FACTS / "cases" / "october-2-right.json").read_bytes())
    stays = {"id": "KB5070893", "title": "x", "classification": "Security Updates", "needs_reboot": False}
    facts["offered"] = [stays, {**stays, "id": "KB5070881", "needs_reboot": True}]
    windows = simple(server, "b")
    facts["machine"] = "b"
    waits = ("KB5070893", "KB5070881")
    windows.check_in(report=report(waiting=waits, facts=json.dumps(facts).encode()))
    path = f"/api/v1/machines/{windows.id}/forecast"
    shown = server.get(path)
    lines = {each["update"]: (each["line"], each["reboot"]) for each in shown["effects"]}
    assert lines["KB5070881"] == ("leaves-line", True)
    assert all(each["why"] for each in shown["effects"])
    facts["offered"][0]["needs_reboot"] = True  # another answer: who has seen the one before has not seen it
    windows.check_in(report=report(waiting=waits, facts=json.dumps(facts).encode()))
    assert server.get(path)["token"] != shown["token"]


def test_a_page_without_reboots_asks_for_none(server: Running) -> None:
    machine = simple(server, "a")
    facts = json.loads((FACTS / "cases" / "october-2-right.json").read_bytes())
    facts["offered"] = [{"id": "KB5070893", "classification": "Security Updates", "needs_reboot": False}]
    machine.check_in(report=report(waiting=("KB5070893",), facts=json.dumps(facts).encode()))
    person = Person(server)
    person.sign_in("operator")
    never = '<input type="hidden" name="reboot" value="never">'
    for box, asked in (("", True), ("&restart=yes", False)):
        page = person.get(f"/machines/{machine.id}/install?previewed=yes{box}").body.decode()
        assert 'name="forecast"' in page
        assert (never in page) is asked


def test_what_is_sent_twice_is_planned_once(either_server: Running) -> None:
    server = either_server
    machine = simple(server, "a")
    path = f"/api/v1/machines/{machine.id}/actions"
    headers = {"Idempotency-Key": "one"}
    first = server.call("POST", path, {"kind": "assess"}, headers=headers)
    again = server.call("POST", path, {"kind": "assess"}, headers=headers)
    assert (first.status, again.status, first.body) == (202, 202, again.body)
    assert len(server.get(path)["items"]) == 1
    assert server.call("POST", path, {"kind": "revert"}, headers=headers).json()["code"] == "idempotency-key"
    assert server.call("POST", path, {"kind": "revert"}, role="operator", headers=headers).status == 202
    server.clock.ahead = timedelta(days=1, seconds=1)
    assert server.call("POST", path, {"kind": "assess"}, headers=headers).status == 202


def test_an_action_is_canceled_until_the_machine_has_been_told(server: Running) -> None:
    machine = simple(server, "a")
    path = f"/api/v1/machines/{machine.id}/actions"
    first = server.post(path, {"kind": "assess"}, status=202)
    assert server.post(f"/api/v1/actions/{first['id']}/cancel", status=200)["state"] == "CANCELED"
    second = server.post(path, {"kind": "assess"}, status=202)
    machine.check_in()
    assert server.call("POST", f"/api/v1/actions/{second['id']}/cancel").json()["code"] == "too-late"
    assert [each["state"] for each in server.get(path)["items"]] == ["SCHEDULED", "CANCELED"]
    assert [each["state"] for each in server.get(f"/api/v1/actions/{first['id']}")["steps"]] == [
        "SCHEDULED",
        "CANCELED",
    ]


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "destroy"},
        {"kind": "assess", "emergency": True},
        {"kind": "quarantine"},
        {"kind": "revert", "updates": [""]},
        {"kind": "revert", "minutes": -1},
        {"kind": "revert", "updates": ["x"] * 201},
    ],
)
def test_actions_that_make_no_sense_are_refused(server: Running, wanted: dict[str, Any]) -> None:
    machine = simple(server, "a")
    assert server.call("POST", f"/api/v1/machines/{machine.id}/actions", wanted).status == 422


def test_who_may_plan_approve_and_let_go(server: Running) -> None:
    machine = simple(server, "a")
    path = f"/api/v1/machines/{machine.id}"
    assert server.call("POST", f"{path}/actions", {"kind": "assess"}, role="viewer").status == 403
    assert server.call("DELETE", path, role="operator").status == 403
    assert server.call("POST", f"{path}/approve").json()["code"] == "not-waiting"
    tag = server.call("GET", path).headers["ETag"]
    server.call("PUT", f"{path}/tags", {"tags": {"a": "b"}})
    assert server.call("DELETE", path, headers={"If-Match": tag}).status == 412
    assert server.call("DELETE", path, role="approver").status == 204
    assert server.call("POST", f"{path}/actions", {"kind": "assess"}).json()["code"] == "not-active"
    assert server.call("DELETE", path).status == 409
    assert server.call("GET", "/api/v1/machines/none").status == 404


# --- machines without an agent ----------------------------------------------------------------------------


def test_windows_machines_come_by_their_facts(either_server: Running) -> None:
    server = either_server
    on = (FACTS / "cases" / "october-2-right.json").read_bytes()
    made = server.call("PUT", "/api/v1/facts/srv-1", on)
    assert made.status == 200, made.body
    machine = made.json()["machine"]
    assert (machine["platform"], machine["line"], machine["state"]) == ("windows", "on", "active")
    assert made.json()["report"]["prerequisites"]
    off = (FACTS / "cases" / "october-3-left.json").read_bytes()
    again = server.call("PUT", "/api/v1/facts/srv-1", off).json()["machine"]
    assert (again["id"], again["line"]) == (machine["id"], "off")
    assert _names(server, "platform=windows&line=off") == ["srv-1"]
    reply = server.call("POST", f"/api/v1/machines/{machine['id']}/actions", {"kind": "assess"})
    assert reply.json()["code"] == "no-agent"
    assert server.call("PUT", "/api/v1/facts/srv-2", b"{}").status == 400
    assert server.call("PUT", "/api/v1/facts/srv-2", on, role="viewer").status == 403
    simple(server, "own")
    assert server.call("PUT", "/api/v1/facts/own", on).json()["code"] == "has-agent"


@pytest.mark.parametrize("case", sorted(path.name for path in (FACTS / "cases").glob("*.json")))
def test_any_facts_are_a_report(case: str) -> None:
    from datetime import UTC, datetime

    import msgspec

    from hotmend.server.machines.judging import program
    from hotmend.servicing.evaluate import evaluate
    from hotmend.servicing.facts_json import facts_decode
    from hotmend.wire.judged import judged
    from hotmend.wire.report import Report

    facts = facts_decode((FACTS / "cases" / case).read_bytes())
    made = judged(facts, evaluate(facts, program(), datetime(2026, 11, 29, tzinfo=UTC)))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Report) == made


# --- the description --------------------------------------------------------------------------------------


def test_the_api_describes_itself(server: Running) -> None:
    described = server.get("/api/v1/openapi.json", role=None)
    assert described["openapi"].startswith("3.1")
    for shape in described["components"]["schemas"].values():
        Draft202012Validator.check_schema(shape)
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
    assert "/api/v1/machines/{identity}/actions" in described["paths"]


def test_a_finding_names_where_the_fix_is(server: Running) -> None:
    machine = simple(server, "a")
    everywhere = tuple(Finding("CVE-9", fixed, 1, "x", "x.service", "/x", "x=1") for fixed in Fixed)
    machine.check_in(report=report(findings=everywhere))
    found = server.get(f"/api/v1/machines/{machine.id}")["findings"]
    assert [each["fixed"] for each in found] == [fixed.value for fixed in Fixed]
    with server.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(events)).scalar_one() == 2
