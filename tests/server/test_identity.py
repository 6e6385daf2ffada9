"""Users, tokens, keys: who may do what, and what is kept of secrets."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from hotmend.server.database import metadata
from hotmend.server.identity import service, store
from hotmend.server.identity.access import COOKIE, CSRF_HEADER, Principal
from hotmend.server.identity.secrets import secret_hash
from hotmend.server.identity.service import begin_setup
from hotmend.server.limits import Limiter
from hotmend.server.problem import Problem
from hotmend.wire.api import TokenWanted
from tests.server.running import PASSWORD, Running, running

_LEAST = {
    ("GET", "/api/v1/me"): "viewer",
    ("GET", "/api/v1/tokens"): "viewer",
    ("GET", "/api/v1/audit"): "operator",
    ("GET", "/api/v1/registration-keys"): "operator",
    ("GET", "/api/v1/users"): "admin",
    ("GET", "/api/v1/audit/verify"): "admin",
}


def test_there_is_no_default_password_and_one_first_administrator(ready_url: str) -> None:
    with running(ready_url) as server:
        assert server.call("GET", "/api/v1/users", role=None).status == 401
        wanted = {"token": "hms_guessed", "name": "eve", "password": PASSWORD}
        assert server.call("POST", "/api/v1/setup", wanted, role=None).json()["code"] == "setup-token"
        old = begin_setup(server.database, server.clock())
        new = begin_setup(server.database, server.clock())
        assert server.call("POST", "/api/v1/setup", wanted | {"token": old}, role=None).status == 403
        server.clock.ahead = timedelta(days=2)
        assert server.call("POST", "/api/v1/setup", wanted | {"token": new}, role=None).status == 403
        server.clock.ahead = timedelta()
        server.set_up()
        assert begin_setup(server.database, server.clock()) is None
        assert server.call("POST", "/api/v1/setup", wanted | {"token": new}, role=None).json()["code"] == "set-up"


def test_each_endpoint_takes_its_least_role(server: Running) -> None:
    order = ("viewer", "operator", "approver", "admin")
    for (method, path), least in _LEAST.items():
        assert server.call(method, path, role=None).status == 401, path
        for role in order:
            expected = 200 if order.index(role) >= order.index(least) else 403
            assert server.call(method, path, role=role).status == expected, (path, role)


def test_nobody_gets_more_than_they_have(server: Running) -> None:
    reply = server.call("POST", "/api/v1/tokens", {"name": "more", "role": "admin"}, role="operator")
    assert (reply.status, reply.json()["code"]) == (403, "role")
    assert server.call("POST", "/api/v1/users", {"name": "new", "role": "admin"}, role="approver").status == 403
    secret = server.post("/api/v1/tokens", {"name": "less", "role": "viewer"}, role="operator")["secret"]
    server.tokens["less"] = secret
    assert server.get("/api/v1/me", role="less")["role"] == "viewer"


def test_a_lowered_disabled_or_revoked_user_is_so_at_once(server: Running) -> None:
    made = server.post("/api/v1/users", {"name": "ann", "role": "operator", "password": PASSWORD})
    session = service.begin_session(server.app.state.context, "ann", PASSWORD)
    assert session is not None
    cookie = {"Cookie": f"{COOKIE}={session.secret}"}
    assert server.call("GET", "/api/v1/registration-keys", role=None, headers=cookie).status == 200
    assert server.call("PATCH", f"/api/v1/users/{made['id']}", {"role": "viewer"}).json()["role"] == "viewer"
    assert server.call("GET", "/api/v1/me", role=None, headers=cookie).status == 401
    users = {each["name"]: each["id"] for each in server.get("/api/v1/users")["items"]}
    own = next(each for each in server.get("/api/v1/tokens")["items"] if each["name"] == "operator")
    assert server.call("DELETE", f"/api/v1/tokens/{own['id']}").status == 204
    reply = server.call("GET", "/api/v1/me", role="operator")
    assert (reply.status, reply.json()["detail"]) == (
        401,
        "this token is unknown, over or revoked, or its user is disabled",
    )
    assert server.call("GET", "/api/v1/me", role=None).json()["detail"] == "a token is needed"
    reply = server.call("PATCH", f"/api/v1/users/{users['root']}", {"disabled": True})
    assert reply.json()["code"] == "last-admin"


def test_a_session_writes_with_its_csrf_token_alone(server: Running) -> None:
    context = server.app.state.context
    assert service.begin_session(context, "root", "wrong password") is None
    assert service.begin_session(context, "nobody", PASSWORD) is None
    session = service.begin_session(context, "root", PASSWORD)
    assert session is not None
    headers = {"Cookie": f"{COOKIE}={session.secret}"}
    wanted = {"name": "k"}
    reply = server.call("POST", "/api/v1/registration-keys", wanted, role=None, headers=headers)
    assert (reply.status, reply.json()["code"]) == (403, "csrf")
    headers[CSRF_HEADER] = session.id
    assert server.call("POST", "/api/v1/registration-keys", wanted, role=None, headers=headers).status == 201
    server.clock.ahead = service.SESSION_LIFE
    assert server.call("GET", "/api/v1/me", role=None, headers=headers).status == 401


def test_expired_tokens_are_none(server: Running) -> None:
    server.tokens["short"] = server.post("/api/v1/tokens", {"name": "short", "days": 1})["secret"]
    assert server.call("GET", "/api/v1/me", role="short").status == 200
    server.clock.ahead = timedelta(days=1)
    assert server.call("GET", "/api/v1/me", role="short").status == 401


def test_a_token_makes_none_that_outlives_it(either_server: Running) -> None:
    server = either_server
    server.tokens["thief"] = server.post("/api/v1/tokens", {"name": "short", "days": 1})["secret"]
    for days in (0, 3660):
        made = server.post("/api/v1/tokens", {"name": "long", "days": days}, role="thief")
        assert made["expires_at"] is not None
        server.tokens[f"long-{days}"] = made["secret"]
    server.clock.ahead = timedelta(days=1)
    for name in ("long-0", "long-3660"):
        assert server.call("GET", "/api/v1/me", role=name).status == 401, name


def test_a_token_that_is_revoked_takes_along_what_it_made(either_server: Running) -> None:
    server = either_server
    stolen = server.post("/api/v1/tokens", {"name": "stolen", "role": "admin"}, role="admin")
    server.tokens["stolen"] = stolen["secret"]
    server.tokens["child"] = server.post("/api/v1/tokens", {"name": "c", "role": "admin"}, role="stolen")["secret"]
    server.tokens["grandchild"] = server.post("/api/v1/tokens", {"name": "g"}, role="child")["secret"]
    session = service.begin_token_session(server.app.state.context, server.tokens["child"])
    assert session is not None
    by_session = {"Cookie": f"{COOKIE}={session.secret}", CSRF_HEADER: session.id}
    reply = server.call("POST", "/api/v1/tokens", {"name": "s", "days": 0}, role=None, headers=by_session)
    server.tokens["of the session"] = reply.json()["secret"]
    made = ("stolen", "child", "grandchild", "of the session")
    assert [server.call("GET", "/api/v1/me", role=name).status for name in made] == [200] * 4
    assert server.call("DELETE", f"/api/v1/tokens/{stolen['id']}").status == 204
    assert [server.call("GET", "/api/v1/me", role=name).status for name in made] == [401] * 4
    assert server.call("GET", "/api/v1/me", role=None, headers=by_session).status == 401
    assert server.call("GET", "/api/v1/me").status == 200


def test_a_token_that_is_revoked_while_it_makes_one_makes_none(either_server: Running) -> None:
    server = either_server
    made = server.post("/api/v1/tokens", {"name": "stolen"})
    context = server.app.state.context
    with server.database.read() as connection:
        row = store.token_user(connection, secret_hash(made["secret"]), server.clock())
    assert row is not None
    caller = Principal(row["id"], row["name"], row["role"], token=row["token"])
    assert server.call("DELETE", f"/api/v1/tokens/{made['id']}").status == 204
    with pytest.raises(Problem, match="revoked meanwhile"):
        service.add_token(context, caller, TokenWanted("late"))


@pytest.mark.parametrize("given", ["Bearer", "Basic hm_x", "Bearer " + "x" * 5000, "Bearer hm_ü"])
def test_other_credentials_are_none(server: Running, given: str) -> None:
    reply = server.call("GET", "/api/v1/me", role=None, headers={"Authorization": given.encode().decode("latin-1")})
    assert reply.status == 401
    assert reply.headers["Content-Type"] == "application/problem+json"


def test_secrets_are_not_in_the_database(either_server: Running) -> None:
    server = either_server
    secret = server.post("/api/v1/registration-keys", {"name": "k", "tags": {"site": "berlin"}})["secret"]
    held = [*server.tokens.values(), secret, PASSWORD]
    with server.database.read() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                assert not [each for each in held if each in str(row)], table.name


def test_errors_are_problems_and_say_nothing_of_the_inside(server: Running) -> None:
    for method, path, body, status in (
        ("GET", "/api/v1/nothing", None, 404),
        ("POST", "/api/v1/users", {"name": "x", "role": "emperor"}, 422),
        ("POST", "/api/v1/users", {"name": "\n", "role": "viewer"}, 422),
        ("POST", "/api/v1/users", {"name": "root", "role": "viewer"}, 409),
        ("POST", "/api/v1/users", b"{", 422),
        ("GET", "/api/v1/audit?cursor=abc", None, 400),
        ("GET", "/api/v1/audit?limit=100000", None, 422),
        ("DELETE", "/api/v1/tokens/none", None, 404),
        ("DELETE", "/api/v1/registration-keys/none", None, 404),
    ):
        reply = server.call(method, path, body)
        assert (reply.status, reply.headers["Content-Type"]) == (status, "application/problem+json"), path
        assert reply.json()["status"] == status
        assert reply.headers["X-Content-Type-Options"] == "nosniff"


def test_a_body_that_is_too_large_is_refused(server: Running) -> None:
    reply = server.call("POST", "/api/v1/users", b"x" * ((16 << 20) + 1))
    assert reply.status == 413


def test_a_caller_that_asks_too_often_is_told_to_wait(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotmend.server.limits.time", SimpleNamespace(monotonic=lambda: 0.0))  # nothing comes back
    with running(sqlite_url, requests_per_minute=20) as server:
        server.set_up()
        replies = [server.call("GET", "/api/v1/me") for _ in range(20)]
        assert replies[-1].status == 429
        assert int(replies[-1].headers["Retry-After"]) >= 1


def test_a_bucket_fills_with_time() -> None:
    limiter = Limiter(60)
    assert [limiter.wait_seconds("a", 0.0) for _ in range(60)] == [0.0] * 60
    assert limiter.wait_seconds("a", 0.0) == 1.0
    assert limiter.wait_seconds("b", 0.0) == 0.0
    assert limiter.wait_seconds("a", 1.0) == 0.0
    assert limiter.wait_seconds("a", 1.5) == 0.5


def test_what_is_done_is_in_the_audit_record(either_server: Running) -> None:
    server = either_server
    server.post("/api/v1/registration-keys", {"name": "k1", "uses": 3, "hours": 1})
    rows = server.get("/api/v1/audit?limit=2")
    assert (rows["items"][0]["action"], rows["items"][0]["actor"]) == ("key.add", "root")
    seen = [row["number"] for row in rows["items"]]
    while rows["next"]:
        rows = server.get(f"/api/v1/audit?limit=2&cursor={rows['next']}")
        seen += [row["number"] for row in rows["items"]]
    assert seen == list(range(len(seen), 0, -1))
    assert server.get("/api/v1/audit/verify")["whole"] is True
