"""Requests that are sent twice and done once, and changes by who has seen what is changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from hotmend.server.identity.tables import idempotency
from hotmend.server.once import LIFE
from tests.server.fleet import Fleet, wanted
from tests.server.running import PASSWORD, Reply, Running

_PATHS: dict[str, tuple[dict[str, Any], str]] = {
    "users": ({"name": "ann", "role": "viewer", "password": PASSWORD}, "users"),
    "tokens": ({"name": "once"}, "tokens"),
    "registration-keys": ({"name": "once"}, "registration-keys"),
    "scopes": ({"name": "once", "query": {}}, "scopes"),
    "maintenance/assignments": ({"configuration": "db", "priority": 1, "tag": "db"}, "maintenance/assignments"),
}


def _send(server: Running, path: str, body: Any, key: str = "k") -> Reply:
    return server.call("POST", f"/api/v1/{path}", body, headers={"Idempotency-Key": key})


def _configured(server: Running) -> Running:
    assert server.call("PUT", "/api/v1/maintenance/configurations/db", {}).status == 200
    return server


@pytest.mark.parametrize("path", _PATHS)
def test_what_is_sent_twice_with_a_key_is_made_once(either_server: Running, path: str) -> None:
    server = _configured(either_server)
    body, listed = _PATHS[path]
    before = len(server.get(f"/api/v1/{listed}")["items"])
    first = _send(server, path, body)
    assert first.status == 201, first.body
    again = _send(server, path, body)
    assert (again.status, again.json()["id"]) == (201, first.json()["id"])
    assert len(server.get(f"/api/v1/{listed}")["items"]) == before + 1
    other = _send(server, path, body | {"name": "other", "tag": "other"})
    assert (other.status, other.json()["code"]) == (422, "idempotency-key")


@pytest.mark.parametrize("path", _PATHS)
def test_what_is_sent_at_the_same_time_with_a_key_is_made_once(either_server: Running, path: str) -> None:
    server = _configured(either_server)
    body, _ = _PATHS[path]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: _send(server, path, body), range(4)))
    assert {reply.status for reply in replies} == {201}
    assert len({reply.json()["id"] for reply in replies}) == 1


@pytest.mark.parametrize("path", ["tokens", "registration-keys"])
def test_a_secret_is_in_the_first_answer_alone_and_nowhere_kept(either_server: Running, path: str) -> None:
    server = either_server
    secret = _send(server, path, {"name": "once"}).json()["secret"]
    assert secret
    again = _send(server, path, {"name": "once"})
    assert again.json()["secret"] == ""
    assert secret.encode() not in again.body
    with server.database.read() as connection:
        assert not [row for row in connection.execute(sa.select(idempotency)) if secret in str(row)]


def test_a_password_is_not_a_part_of_what_is_kept(server: Running) -> None:
    """A quick hash of a request with a password in it would be one of the password."""
    body = {"name": "ann", "role": "viewer", "password": PASSWORD}
    first = _send(server, "users", body)
    again = _send(server, "users", body | {"password": "another password"})
    assert again.json() == first.json()


def test_a_request_that_is_refused_uses_no_key_up(either_server: Running) -> None:
    server = either_server
    assert _send(server, "users", {"name": "root", "role": "viewer"}).json()["code"] == "name-taken"
    assert _send(server, "users", {"name": "ann", "role": "viewer"}).status == 201


def test_keys_are_forgotten_after_a_day(either_server: Running) -> None:
    server = either_server
    for number in range(3):
        _send(server, "tokens", {"name": "once"}, f"k{number}")
    server.clock.ahead = LIFE + timedelta(minutes=1)
    _send(server, "tokens", {"name": "once"}, "later")
    with server.database.read() as connection:
        assert connection.execute(sa.select(idempotency.c.key)).scalars().all() == ["later"]


def test_a_rollout_is_changed_by_who_has_seen_it(either_server: Running) -> None:
    server = either_server
    fleet = Fleet(server)
    fleet.add(2, canary="1")
    fleet.add(2)
    made = server.call("POST", "/api/v1/rollouts", wanted(), role="operator")
    path, tag = made.headers["Location"], made.headers["ETag"]
    assert server.call("GET", path, headers={"If-None-Match": tag}).status == 304
    seen = {"If-Match": tag}
    yes = {"plan": made.json()["plan"]}
    for role in ("approver", "admin"):
        reply = server.call("POST", f"{path}/approve", yes, role=role, headers=seen)
    assert reply.status == 200
    assert reply.json() == {"state": "READY"}
    assert server.call("GET", path, headers={"If-None-Match": tag}).status == 200
    for deed in ("start", "stop", "roll-back", "pause", "resume", "schedule"):
        reply = server.call("POST", f"{path}/{deed}", {"reason": "x", "at": None}, headers=seen)
        assert (reply.status, reply.json()["code"]) == (412, "changed"), deed
    now = server.call("GET", path)
    assert now.json()["state"] == "READY"
    reply = server.call("POST", f"{path}/stop", {"reason": "x"}, headers={"If-Match": now.headers["ETag"]})
    assert reply.json() == {"state": "STOPPING"}
    missing = server.call("POST", "/api/v1/rollouts/none/stop", {"reason": "x"}, headers=seen)
    assert missing.status == 404
