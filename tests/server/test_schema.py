"""The API against its own description: whatever is sent, no answer is one that the description does not have."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.server.conftest import _created
from tests.server.fleet import wanted
from tests.server.machine import report, simple
from tests.server.running import Running, running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EACH = 5
"""Requests for each of the API's operations."""


@pytest.fixture(scope="module")
def described(cluster: str) -> Iterator[Running]:
    """A server on PostgreSQL, which takes less than SQLite does."""
    with running(_created(cluster, "template1"), requests_per_minute=1_000_000) as server:
        server.set_up()
        yield server


@pytest.fixture(scope="module")
def api_schema(described: Running) -> Any:
    found = schemathesis.openapi.from_url(f"{described.url}/api/v1/openapi.json")
    there = things(described)

    def real(context: Any, names: dict[str, Any] | None) -> dict[str, Any] | None:
        """Name things that are there three times out of four: what is not is a 404 each time."""
        place = next((each for each in there if context.operation.path.startswith(each)), None)
        if not names or place is None or zlib.crc32(repr(names).encode()) % 4 == 0:
            return names
        return names | dict.fromkeys(names.keys() & {"identity", "name", "machine"}, there[place])

    found.hook("map_path_parameters")(real)
    return found


def things(server: Running) -> dict[str, str]:
    """Make one thing of each kind; return the name of each by the path below which it is."""
    machine = simple(server)
    machine.check_in(report=report(waiting=("nginx=2",)))
    action = server.post(f"/api/v1/machines/{machine.id}/actions", {"kind": "assess"}, status=202)
    server.post("/api/v1/scopes", {"name": "all", "query": {}})
    maintenance = "/api/v1/maintenance"
    assert server.call("PUT", f"{maintenance}/configurations/db", {"slots": 1}).status == 200
    freeze = {"first": "2026-12-20", "last": "2027-01-02"}
    assert server.call("PUT", f"{maintenance}/freezes/turn", freeze).status == 204
    assigned = server.post(f"{maintenance}/assignments", {"configuration": "db", "priority": 1, "machine": machine.id})
    user = server.post("/api/v1/users", {"name": "somebody", "role": "viewer"})
    token = server.post("/api/v1/tokens", {"name": "one"})
    key = server.post("/api/v1/registration-keys", {"name": "one"})
    hook = server.post("/api/v1/webhooks", {"url": "http://127.0.0.1:9/"})
    rollout = server.post("/api/v1/rollouts", wanted(rings=[{"name": "canary"}]))
    return {
        f"{maintenance}/configurations/": "db",
        f"{maintenance}/freezes/": "turn",
        f"{maintenance}/assignments/": assigned["id"],
        f"{maintenance}/": machine.id,
        "/api/v1/machines/": machine.id,
        "/api/v1/actions/": action["id"],
        "/api/v1/scopes/": "all",
        "/api/v1/users/": user["id"],
        "/api/v1/tokens/": token["id"],
        "/api/v1/registration-keys/": key["id"],
        "/api/v1/rollouts/": rollout["id"],
        "/api/v1/webhooks/": hook["id"],
    }


def test_what_is_answered_is_what_is_described(described: Running, api_schema: Any) -> None:
    wrong: list[str] = []
    labels = [_asked(described, found.ok(), wrong) for found in api_schema.get_all_operations()]
    assert len(labels) > 60
    assert not wrong, "\n\n".join(wrong)


def _asked(server: Running, operation: Any, wrong: list[str]) -> str:
    """Ask for one of the API's operations; return its name."""
    authorized = {"Authorization": f"Bearer {server.tokens['admin']}"}

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EACH,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        try:
            case.call_and_validate(headers=authorized, checks=CHECKS)
        except FailureGroup as failures:
            wrong.append(f"{operation.label}: {case.as_curl_command()}: {'; '.join(map(str, failures.exceptions))}")

    ask()
    return str(operation.label)


def test_limits_versions_and_keys_answer_as_they_are_described(sqlite_url: str) -> None:
    with running(sqlite_url, requests_per_minute=30) as server:
        server.set_up()
        described = server.get("/api/v1/openapi.json", role=None)["paths"]
        path = "/api/v1/maintenance/configurations/db"
        made = server.call("PUT", path, {"slots": 1}, role="operator")
        assert made.headers["ETag"] == '"1"'
        assert server.call("PUT", path, {"slots": 2}, headers={"If-Match": '"1"'}).headers["ETag"] == '"2"'
        assert server.call("PUT", path, {"slots": 3}, headers={"If-Match": '"1"'}).status == 412
        machine = simple(server)
        there = f"/api/v1/machines/{machine.id}"
        tag = server.call("GET", there).headers["ETag"]
        seen = server.call("GET", there, headers={"If-None-Match": tag})
        assert (seen.status, seen.body, seen.headers["ETag"]) == (304, b"", tag)
        assert "304" in described["/api/v1/machines/{identity}"]["get"]["responses"]
        key = {"Idempotency-Key": "once"}
        ids = {server.call("POST", f"{there}/actions", {"kind": "assess"}, headers=key).json()["id"] for _ in range(2)}
        assert len(ids) == 1
        other = server.call("POST", f"{there}/actions", {"kind": "lift", "updates": ["a"]}, headers=key)
        assert (other.status, other.json()["code"]) == (422, "idempotency-key")
        refused = server.call("GET", "/api/v1/halt", role="viewer")
        assert refused.status == 200
        for _ in range(300):  # what is asked slowly is let through, at 30 a minute
            if refused.status != 200:
                break
            refused = server.call("GET", "/api/v1/halt", role="viewer")
        assert (refused.status, refused.json()["code"]) == (429, "too-often")
        assert int(refused.headers["Retry-After"]) >= 1
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert {"4XX", "503"} <= described["/api/v1/halt"]["get"]["responses"].keys()


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v1/machines?search=%00", None),
        (
            "PUT",
            "/api/v1/maintenance/configurations/db",
            {"freezes": {"\0": {"first": "2026-01-01", "last": "2026-01-02"}}},
        ),
        ("GET", "/api/v1/rollouts/none/machines?group=99999999999", None),
        ("POST", "/api/v1/rollouts/none/groups/99999999999/events/pre", {"allow": True}),
    ],
)
def test_what_the_database_does_not_take_is_the_callers_mistake(
    described: Running, method: str, path: str, body: object
) -> None:
    reply = described.call(method, path, body)
    assert (reply.status, reply.json()["code"]) == (422, "not-valid")
