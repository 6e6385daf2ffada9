"""Who asks too often: refusals by address before they cost anything, check-ins by machine, and nobody for another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from hotmend.cli.server import server_command
from hotmend.model.errors import UsageError
from hotmend.server.limits import Known, Limiter, address_of
from hotmend.server.machines import batch
from hotmend.server.machines.batch import Batcher
from hotmend.server.machines.contact import Received, Result
from hotmend.server.problem import Problem
from hotmend.wire.keys import SigningKey
from hotmend.wire.messages import CHECK_IN_PATH, ENROL_PATH, CheckIn
from hotmend.wire.signing import Signed
from tests.server.machine import Simple, host, registration_key, simple
from tests.server.running import PASSWORD, Running, running

FEW = 20


@pytest.fixture
def server(sqlite_url: str) -> Iterator[Running]:
    with running(sqlite_url, refusals_per_minute=FEW) as found:
        found.set_up()
        yield found


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold the time that buckets fill with: on a slow machine a request comes back where a test counts on a refusal."""
    monkeypatch.setattr("hotmend.server.limits.time", SimpleNamespace(monotonic=lambda: 0.0))


@contextmanager
def _statements(server: Running) -> Iterator[list[str]]:
    """What is asked of the database meanwhile."""
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        asked.append(statement)

    sa.event.listen(server.database.engine, "before_cursor_execute", note)
    yield asked
    sa.event.remove(server.database.engine, "before_cursor_execute", note)


def _guess(server: Running, number: int) -> int:
    return server.call("GET", "/api/v1/me", role=None, headers={"Authorization": f"Bearer hm_{number}"}).status


def _refused(server: Running) -> None:
    """Guess until the address is not looked at any more."""
    for number in range(10 * FEW):
        if _guess(server, number) == 429:
            return
    pytest.fail("guessed for ever")


def test_guessed_tokens_are_not_looked_up_for_ever(server: Running) -> None:
    _refused(server)
    with _statements(server) as asked:
        replies = [_guess(server, 1000 + number) for number in range(5)]
    assert replies == [429] * 5
    assert asked == []


def test_who_was_let_in_lately_is_not_shut_out_by_who_shares_the_address(server: Running) -> None:
    assert server.call("GET", "/api/v1/me", role="viewer").status == 200
    _refused(server)
    assert server.call("GET", "/api/v1/me", role="viewer").status == 200
    own = next(each for each in server.get("/api/v1/tokens")["items"] if each["name"] == "viewer")
    assert server.call("DELETE", f"/api/v1/tokens/{own['id']}").status == 204
    assert server.call("GET", "/api/v1/me", role="viewer").status == 401
    assert server.call("GET", "/api/v1/me", role="viewer").status == 429


def test_what_a_role_may_not_counts_too(sqlite_url: str) -> None:
    with running(sqlite_url, requests_per_minute=FEW) as server:
        server.set_up()
        replies = [server.call("GET", "/api/v1/users", role="viewer").status for _ in range(2 * FEW)]
        assert (replies[0], replies[-1]) == (403, 429)
        with _statements(server) as asked:
            assert server.call("GET", "/api/v1/users", role="viewer").status == 429
        assert asked == []


def test_forged_check_ins_are_not_looked_up_for_ever_and_honest_ones_are_taken(server: Running) -> None:
    """All come from one address, as behind a load balancer that nobody has named."""
    machine, quiet = simple(server, "a"), simple(server, "b")
    machine.check_in()
    thief = Simple(server, "a", machine.host, SigningKey.generate(), 5, machine.id)
    stranger = Simple(server, "x", host("x"), SigningKey.generate(), 5, "f" * 32)
    replies = [thief.send(CHECK_IN_PATH, CheckIn(thief.host)).status for _ in range(2 * FEW)]
    assert (replies[0], replies[-1]) == (401, 429)
    with _statements(server) as asked:
        for forged in (thief, stranger):
            assert forged.send(CHECK_IN_PATH, CheckIn(forged.host)).status == 429
        assert stranger.send(ENROL_PATH, b"{", who=stranger.key.public).status == 429
    assert asked == []
    for _ in range(3):
        assert machine.check_in().approved
    assert quiet.send(CHECK_IN_PATH, CheckIn(quiet.host)).status == 429  # not known to this process yet: it comes later


def test_refused_enrolments_count(server: Running) -> None:
    machine = Simple(server, "a", host("a"))
    replies = [
        machine.send(ENROL_PATH, machine.asking("hmk_guessed_0"), who=machine.key.public).status for _ in range(2 * FEW)
    ]
    assert (replies[0], replies[-1]) == (403, 429)


def test_one_machine_checks_in_so_often_and_nobody_uses_that_up_for_it(sqlite_url: str) -> None:
    with running(sqlite_url, check_ins_per_minute=FEW, refusals_per_minute=10_000) as server:
        server.set_up()
        key = registration_key(server)
        machine, other = simple(server, "a", key), simple(server, "b", key)
        thief = Simple(server, "a", machine.host, SigningKey.generate(), 5, machine.id)
        assert {thief.send(CHECK_IN_PATH, CheckIn(thief.host)).status for _ in range(2 * FEW)} == {401}
        replies = [machine.send(CHECK_IN_PATH, CheckIn(machine.host)).status for _ in range(2 * FEW)]
        assert (replies[0], replies[-1]) == (200, 429)
        with _statements(server) as asked:
            reply = machine.send(CHECK_IN_PATH, CheckIn(machine.host))
        assert (reply.status, reply.json()["code"], asked) == (429, "too-often", [])
        assert int(reply.headers["Retry-After"]) >= 1
        assert other.check_in().approved


@pytest.mark.parametrize(("trusted", "last"), [((), 429), (("127.0.0.1",), 403), (("127.0.0.0/8",), 403)])
def test_a_header_says_the_address_where_its_proxy_is_named_alone(
    sqlite_url: str, trusted: tuple[str, ...], last: int
) -> None:
    """Who tries passwords writes another address into each request."""
    with running(sqlite_url, trusted_proxies=trusted) as server:
        server.set_up()
        form = b"name=root&password=wrong"
        for number in range(30):
            headers = {
                "X-Forwarded-For": f"{ip_address('192.0.2.0') + number}",
                "Content-Type": "application/x-www-form-urlencoded",
            }
            reply = server.call("POST", "/sign-in", form, role=None, headers=headers)
        assert reply.status == last
    assert PASSWORD


def test_a_proxy_is_an_address(tmp_path: Any) -> None:
    told = CliRunner().invoke(server_command, ["--state", str(tmp_path), "--trusted-proxy", "proxy.example"])
    assert isinstance(told.exception, UsageError)


def test_one_customer_is_one_address() -> None:
    assert address_of(("192.0.2.7", 1)) == "192.0.2.7"
    assert address_of(("2001:db8:0:1::7", 1)) == address_of(("2001:db8:0:1:ffff::", 2)) == "2001:0db8:0000:0001"
    assert address_of(("2001:db8:0:2::7", 1)) != address_of(("2001:db8:0:1::7", 1))
    assert (address_of(None), address_of(("testclient", 1))) == ("?", "testclient")


def test_a_look_takes_nothing() -> None:
    limiter = Limiter(60)
    assert [limiter.would_wait("a", 0.0) for _ in range(100)] == [0.0] * 100
    for _ in range(60):
        limiter.wait_seconds("a", 0.0)
    assert limiter.would_wait("a", 0.0) == limiter.wait_seconds("a", 0.0) == 1.0
    assert limiter.would_wait("a", 0.5) == 0.5
    assert limiter.would_wait("a", 1.0) == 0.0


def test_who_was_not_seen_for_longest_is_forgotten() -> None:
    known: Known[int] = Known(2)
    for name in ("a", "b", "a", "c"):
        known.put(name, 1)
    assert [known.get(name) for name in ("a", "b", "c")] == [1, None, 1]
    known.forget("a")
    assert known.get("a") is None


def test_what_waits_takes_so_much_memory_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "WAITING_BYTES_MAX", 1000)
    go = threading.Event()

    def take(received: Sequence[Received]) -> list[Result]:
        go.wait()
        return [Problem(418, "taken", "taken") for _ in received]

    def received(name: str, size: int) -> Received:
        return Received(Signed(name, 0, 1, "", b""), CheckIn(host(name)), b"x" * size)

    async def run() -> list[Any]:
        batcher = Batcher(take)
        first = asyncio.create_task(batcher.submit(received("first", 900)))
        while batcher._waiting or batcher._task is None:
            await asyncio.sleep(0)
        waiting = [asyncio.create_task(batcher.submit(received(f"m{number}", 400))) for number in range(3)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        go.set()
        told = await asyncio.gather(first, *waiting, return_exceptions=True)
        batcher.close()
        return [len(done), *told]

    assert [each if isinstance(each, int) else each.code for each in asyncio.run(run())] == [
        1,
        "taken",
        "taken",
        "taken",
        "busy",
    ]
