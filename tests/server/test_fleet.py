"""The client and its commands, against a real server: what a person types, and what comes of it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from hotmend.fleet.client import Client, ServerRefusal
from hotmend.fleet.machines import Machines
from hotmend.model.errors import RemoteError
from hotmend.server.identity.service import begin_session
from hotmend.wire.api import ActionWanted, KeyWanted, Query, ScopeWanted
from tests.server.machine import Simple, host, report, simple
from tests.server.running import Running
from tests.server.typed import Typed

FACTS = Path(__file__).parents[1] / "data" / "facts" / "cases"


def test_the_client_has_the_types_of_the_api(server: Running) -> None:
    client = Machines(Client(server.url, server.tokens["admin"]))
    assert client.me().role == "admin"
    key = client.add_key(KeyWanted("k", "canary", {"site": "berlin"}))
    assert key.secret in key.script
    assert key.secret in key.windows_script
    machine = simple(server, "a", key.secret)
    for number in range(5):
        Simple(server, f"m{number}", host(f"m{number}")).enrol(key.secret)
    machine.check_in(report=report(waiting=("nginx=2",)))
    assert [each.name for each in client.machines(limit=2)] == ["a", "m0", "m1", "m2", "m3", "m4"]
    assert [each.name for each in client.machines(Query(waiting=True, tags={"site": "berlin"}))] == ["a"]
    shown = client.machine(machine.id)
    assert shown.machine.restarts_due == 1
    client.put_tags(machine.id, {"role": "web"}, shown.machine.version)
    with pytest.raises(ServerRefusal) as error:
        client.put_tags(machine.id, {}, shown.machine.version)
    assert (error.value.code, error.value.by_a_rule) == ("changed", True)
    assert client.add_scope(ScopeWanted("web", Query(tags={"role": "web"}))).machines == 1
    assert [each.name for each in client.machines(scope="web")] == ["a"]
    assert next(client.scopes()).query.tags == {"role": "web"}
    forecast = client.forecast(machine.id)
    action = client.act(machine.id, ActionWanted("install", forecast=forecast.token), key="one")
    assert client.act(machine.id, ActionWanted("install", forecast=forecast.token), key="one") == action
    assert client.action(action.id).steps[0].state == "SCHEDULED"
    assert client.cancel(action.id).state == "CANCELED"
    client.remove(machine.id)
    assert client.machine_events(machine.id)[0].kind == "left"


def test_a_server_that_is_none_is_told(server: Running) -> None:
    with pytest.raises(RemoteError):
        Machines(Client("http://127.0.0.1:1", "x")).me()
    with pytest.raises(ServerRefusal) as error:
        Machines(Client(server.url, "x")).me()
    assert error.value.status == 401


def test_machines_by_command(server: Running, typed: Typed) -> None:
    typed("key-add", "k", "--tier", "canary", "--tag", "site=berlin", "--uses", "2", "--hours", "1")
    key = typed.rows("key-add", "k2", "--approval")[0]["secret"]
    machine = Simple(server, "web-1", host("web-1"))
    machine.enrol(key)
    assert "pending" in typed("machines")
    typed("approve", machine.id)
    machine.check_in(report=report(waiting=("nginx=2",)))
    assert [row["name"] for row in typed.rows("machines", "--waiting", "--line", "on")] == ["web-1"]
    assert typed.rows("machines", "--tag", "site") == []
    assert "CVE-2026-0002" in typed("machine", machine.id)
    typed("tag", machine.id, "site=bonn")
    assert len(typed.rows("machines", "--tag", "site=bonn")) == 1
    assert "not availability-first" in typed("forecast", machine.id).replace("\n", " ")
    assert typed.rows("act", machine.id, "install", "--yes")[0]["state"] == "SCHEDULED"
    (planned,) = typed.rows("actions", machine.id)
    typed("cancel", planned["id"])
    assert "CANCELED" in typed("actions", machine.id)
    typed("act", machine.id, "assess", "--emergency", code=4)
    assert typed.rows("act", machine.id, "revert", "--undoes", planned["id"])[0]["undoes"] == planned["id"]
    typed("act", machine.id, "revert", "--undoes", "0" * 32, code=4)
    typed("act", machine.id, "assess", "--undoes", planned["id"], code=4)
    typed("remove", machine.id)
    typed("remove", machine.id, code=4)
    assert [row["uses"] for row in typed.rows("keys")] == [1, 0]
    typed("key-revoke", typed.rows("keys")[0]["id"])


def test_slots_and_reboots_by_command(server: Running, typed: Typed) -> None:
    assert typed.rows("slots") == []
    body = {"mode": "automatic", "slots": 1}
    assert server.call("PUT", "/api/v1/maintenance/configurations/default", body, role="approver").status == 200
    one, two = simple(server, "one"), simple(server, "two")
    assert one.check_in(slot=True).slot_until is not None
    (taken,) = typed.rows("slots")
    assert (taken["machine"], taken["name"], taken["configuration"]) == (one.id, "one", "default")
    assert one.id in typed("slots")
    assert two.check_in(slot=True).slot_until is None
    typed("slot-free", two.id, code=1)
    typed("slot-free", one.id)
    assert two.check_in(slot=True).slot_until is not None
    typed("act", one.id, "assess", "--reboot", "sometimes", code=2)
    for given in (("--reboot", "if-required"), ("--reboot", "never"), ("--reboot", "always"), ()):
        planned = typed.rows("act", one.id, "assess", *given)[0]["id"]
        orders = {order.id: order.reboot for order in one.check_in().orders}
        assert orders[planned] == (given[1] if given else "")


def test_scopes_by_command(server: Running, typed: Typed) -> None:
    machine = simple(server, "one")
    machine.check_in(report=report(waiting=("nginx=2",)))
    typed("tag", machine.id, "role=web")
    simple(server, "two")
    made = typed.rows("scope-add", "web servers", "--tag", "role=web", "--waiting", "--platform", "linux")[0]
    assert made["machines"] == 1
    assert (made["query"]["waiting"], made["query"]["alerts"], made["query"]["tags"]) == (True, None, {"role": "web"})
    assert [row["name"] for row in typed.rows("machines", "--scope", "web servers")] == ["one"]
    assert "platform linux, waiting True, tag role=web" in typed("scopes")
    typed("scope-add", "web servers", code=4)
    typed("scope-remove", "web servers")
    typed("scope-remove", "web servers", code=1)
    assert typed.rows("scopes") == []


def test_users_by_command(server: Running, typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def signs_in(name: str, password: str) -> bool:
        return begin_session(server.app.state.context, name, password) is not None

    file = tmp_path / "password"
    file.write_text("correct horse battery\nnot this\n")
    made = typed.rows("user-add", "anna", str(file), "--role", "approver")[0]
    assert (made["name"], made["role"], made["disabled"]) == ("anna", "approver", False)
    assert signs_in("anna", "correct horse battery")
    assert typed.rows("user-role", made["id"], "operator")[0]["role"] == "operator"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"another of twelve\n")))
    typed("user-password", made["id"], "-")
    assert [signs_in("anna", text) for text in ("correct horse battery", "another of twelve")] == [False, True]
    assert typed.rows("user-disable", made["id"])[0]["disabled"] is True
    assert not signs_in("anna", "another of twelve")
    assert typed.rows("user-enable", made["id"])[0]["disabled"] is False
    assert signs_in("anna", "another of twelve")
    assert "anna" in typed("users")
    (root,) = [row for row in typed.rows("users") if row["role"] == "admin"]
    typed("user-disable", root["id"], code=4)  # nobody would be left
    typed("user-add", "anna", str(file), code=4)
    for text in (b"", b"\nsecond line", b"\xff\xfe"):
        file.write_bytes(text)
        typed("user-add", "berta", str(file), code=1)
    file.write_text("short")
    typed("user-add", "berta", str(file), code=4)
    typed("user-add", "berta", str(tmp_path / "none"), code=1)
    assert "berta" not in typed("users")
    monkeypatch.setenv("HOTMEND_TOKEN", server.tokens["operator"])
    typed("users", code=1)


def test_tokens_and_facts_by_command(server: Running, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = typed("token-add", "mine", "--role", "viewer").strip()
    (made,) = [row for row in typed.rows("tokens") if row["name"] == "mine"]
    row = typed.rows("upload", "srv-1", str(FACTS / "october-2-right.json"))[0]
    assert (row["platform"], row["line"]) == ("windows", "on")
    monkeypatch.setenv("HOTMEND_TOKEN", secret)
    typed("key-add", "k", code=1)
    assert len(typed.rows("machines")) == 1
    monkeypatch.setenv("HOTMEND_TOKEN", server.tokens["admin"])
    typed("token-revoke", made["id"])
    monkeypatch.setenv("HOTMEND_TOKEN", secret)
    typed("machines", code=1)
    monkeypatch.setenv("HOTMEND_TOKEN", "")
    typed("machines", code=2)
