"""Lists of the API come in pages, and what is made comes into being once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, Final

import pytest

from hotmend.fleet.client import Client
from hotmend.fleet.machines import Machines
from hotmend.fleet.maintenance import Maintenance
from hotmend.fleet.webhooks import Webhooks
from tests.server.machine import Simple, simple
from tests.server.running import Running

MAINTENANCE: Final = "/api/v1/maintenance"
WHOLE: Final = frozenset(
    {
        "/compliance/days",  # a year of them
        "/compliance/exposures",  # of each vulnerability, not of each machine
        "/compliance/groups/{by}",  # with `limit`
        "/compliance/vulnerabilities",
        "/webhooks/{identity}/deliveries",  # the last 50 are kept
    }
)
"""Lists that are whole: counted by the server, or never long."""
UNKEYED: Final = frozenset(
    {
        "/setup",  # its token is good once
        "/webhooks/{identity}/test",
    }
)
"""What is made by POST, without a key that makes it once."""

Made = Callable[[Running, Simple, int], object]


def _slot(server: Running, machine: Simple, number: int) -> None:
    if number == 0:
        assert server.call("PUT", f"{MAINTENANCE}/configurations/default", {"restart": True, "slots": 9}).status == 200
    simple(server, f"s{number}").check_in(slot=True)


LISTS: Final[dict[str, Made]] = {
    "/api/v1/users": lambda s, _, n: s.post("/api/v1/users", {"name": f"u{n}", "role": "viewer"}),
    "/api/v1/tokens": lambda s, _, n: s.post("/api/v1/tokens", {"name": f"t{n}"}),
    "/api/v1/registration-keys": lambda s, _, n: s.post("/api/v1/registration-keys", {"name": f"k{n}"}),
    "/api/v1/scopes": lambda s, _, n: s.post("/api/v1/scopes", {"name": f"s {n}", "query": {"line": "on"}}),
    "/api/v1/webhooks": lambda s, _, n: s.post("/api/v1/webhooks", {"url": f"http://127.0.0.1:9/{n}"}),
    "/api/v1/machines/ID/actions": lambda s, m, _: s.post(
        f"/api/v1/machines/{m.id}/actions", {"kind": "assess"}, status=202
    ),
    f"{MAINTENANCE}/configurations": lambda s, _, n: s.call("PUT", f"{MAINTENANCE}/configurations/c{n}", {}),
    f"{MAINTENANCE}/freezes": lambda s, _, n: s.call(
        "PUT", f"{MAINTENANCE}/freezes/f{n}", {"first": str(date(2027, 1, 1 + n)), "last": "2027-02-01"}
    ),
    f"{MAINTENANCE}/assignments": lambda s, m, n: (
        s.call("PUT", f"{MAINTENANCE}/configurations/one", {}),
        s.post(f"{MAINTENANCE}/assignments", {"configuration": "one", "priority": n, "machine": m.id}),
    ),
    f"{MAINTENANCE}/slots": _slot,
}


def _pages(server: Running, path: str, limit: int) -> list[list[Any]]:
    found, cursor = [], ""
    while True:
        page = server.get(f"{path}?limit={limit}" + (f"&cursor={cursor}" if cursor else ""))
        found.append(page["items"])
        cursor = page["next"]
        if not cursor:
            return found


@pytest.mark.parametrize("path", LISTS)
def test_pages_have_all_of_a_list_once_and_in_its_order(either_server: Running, path: str) -> None:
    server = either_server
    machine = simple(server, "a")
    there = path.replace("ID", machine.id)
    for number in range(5):
        LISTS[path](server, machine, number)
    whole = server.get(f"{there}?limit=500")
    assert len(whole["items"]) >= 5
    assert whole["next"] == ""
    for limit in (1, 2, 5):
        pages = _pages(server, there, limit)
        assert [row for page in pages for row in page] == whole["items"]
        assert {len(page) for page in pages[:-1]} <= {limit}
    assert server.call("GET", f"{there}?limit=0").status == 422
    assert server.call("GET", f"{there}?limit=501").status == 422


@pytest.mark.parametrize("path", ["/api/v1/tokens", f"{MAINTENANCE}/assignments", "/api/v1/rollouts"])
def test_a_cursor_of_nobody_is_refused(either_server: Running, path: str) -> None:
    for cursor in ("x", "W10", "WzEsMl0", "WyJ4Il0", "W251bGxd", "WyJcdTAwMDAiXQ", "%00", "Ww" * 1001):
        reply = either_server.call("GET", f"{path}?cursor={cursor}")
        assert (reply.status, reply.json()["code"]) == (400, "cursor"), cursor


def test_what_is_added_and_removed_moves_nothing_from_page_to_page(either_server: Running) -> None:
    server = either_server
    names = [f"k{number}" for number in range(6)]
    ids = {name: server.post("/api/v1/scopes", {"name": name, "query": {}})["id"] for name in names}
    first = server.get("/api/v1/scopes?limit=3")
    assert server.call("DELETE", "/api/v1/scopes/k2").status == 204  # the one that the cursor is of
    server.post("/api/v1/scopes", {"name": "a", "query": {}})
    second = server.get(f"/api/v1/scopes?limit=3&cursor={first['next']}")
    assert [each["id"] for each in second["items"]] == [ids[name] for name in names[3:]]


def test_the_client_reads_page_after_page(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    get = Client.get
    monkeypatch.setattr(Client, "get", lambda self, path, kind, **query: _counted(asked, get, self, path, kind, query))
    client = Client(server.url, server.tokens["admin"])
    machine = simple(server, "a")
    for path, make in LISTS.items():
        for number in range(3):
            make(server, machine, number)
        reads = {
            "/api/v1/users": Machines(client).users,
            "/api/v1/tokens": Machines(client).tokens,
            "/api/v1/registration-keys": Machines(client).keys,
            "/api/v1/scopes": Machines(client).scopes,
            "/api/v1/webhooks": Webhooks(client).all,
            "/api/v1/machines/ID/actions": lambda: Machines(client).actions(machine.id),
            f"{MAINTENANCE}/configurations": Maintenance(client).configurations,
            f"{MAINTENANCE}/freezes": Maintenance(client).freezes,
            f"{MAINTENANCE}/assignments": Maintenance(client).assignments,
            f"{MAINTENANCE}/slots": Maintenance(client).slots,
        }
        asked.clear()
        count = len(list(reads[path]()))
        assert count == len(server.get(path.replace("ID", machine.id))["items"]) >= 3
        assert len(asked) == -(-count // 2), path


def _counted(asked: list[str], get: Any, client: Client, path: str, kind: Any, query: dict[str, Any]) -> Any:
    """Ask for two at a time instead of many, and count the pages."""
    asked.append(path)
    return get(client, path, kind, **query | {"limit": 2})


# --- every route ------------------------------------------------------------------------------------------


def test_no_list_that_grows_is_without_pages(server: Running) -> None:
    described = server.get("/api/v1/openapi.json", role=None)["paths"]
    lists = set()
    for path, methods in described.items():
        content = methods.get("get", {}).get("responses", {}).get("200", {}).get("content", {})
        if content.get("application/json", {}).get("schema", {}).get("type") == "array":
            lists.add(path.removeprefix("/api/v1"))
    assert lists == WHOLE


def test_all_that_is_made_can_be_made_once(server: Running) -> None:
    described = server.get("/api/v1/openapi.json", role=None)["paths"]
    unkeyed = set()
    for path, methods in described.items():
        posted = methods.get("post", {})
        names = {each["name"] for each in posted.get("parameters", ())}
        if {"201", "202"} & posted.get("responses", {}).keys() and "Idempotency-Key" not in names:
            unkeyed.add(path.removeprefix("/api/v1"))
    assert unkeyed == UNKEYED
