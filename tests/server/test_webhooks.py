"""Webhooks: told at least once, in order, signed; tried again; nothing that was rolled back is told."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from hotmend.server.backup import backup, restore
from hotmend.server.database import Database, migrate, open_database
from hotmend.server.webhooks import posting, sending
from hotmend.server.webhooks.sending import AT_ONCE, Messenger, signature, tell
from hotmend.server.webhooks.store import DELIVERIES
from hotmend.server.webhooks.tables import notices
from tests.server.fleet import Fleet, begun
from tests.server.listener import Dripper, Listener
from tests.server.running import Running, running
from tests.server.test_upgrade import copied

_SECONDS = 60.0


def test_what_happens_is_told_signed_and_again_until_it_is_taken(either_server: Running, listener: Listener) -> None:
    server, context = either_server, either_server.app.state.context
    server.clock.hold()
    fleet = Fleet(server)
    fleet.add(1, canary="1")
    fleet.add(1)
    hook = server.post("/api/v1/webhooks", {"url": listener.url})
    assert not tell(context)
    identity = begun(server)
    listener.status = 500
    assert tell(context)
    assert not tell(context)  # it is left alone for a while
    shown = server.get("/api/v1/webhooks")["items"][0]
    assert (shown["failures"], shown["last"], shown["secret"]) == (1, "status 500", "")
    assert shown["waiting"] == 5
    server.clock.ahead += timedelta(seconds=3)
    listener.status = 204
    fleet.step(identity)
    assert tell(context)
    assert not tell(context)
    (_, first), (header, body) = listener.taken
    seconds = int(header.partition(",")[0].removeprefix("t="))
    assert header == signature(hook["secret"], seconds, body)
    told = msgspec.json.decode(body)["events"]
    assert [each["what"] for each in told] == ["planned", "approval", "approval", "approved", "started", "began"]
    before = [each["id"] for each in msgspec.json.decode(first)["events"]]
    assert [each["id"] for each in told[:5]] == before  # what was not taken came again
    assert {each["rollout"]["id"] for each in told} == {identity}
    assert server.get("/api/v1/webhooks")["items"][0]["waiting"] == 0
    assert server.call("DELETE", f"/api/v1/webhooks/{hook['id']}").status == 204
    fleet.step(identity)
    assert not tell(context)


def test_of_what_it_is_told_is_chosen_and_it_can_be_tried(either_server: Running, listener: Listener) -> None:
    server, context = either_server, either_server.app.state.context
    server.clock.hold()
    fleet = Fleet(server)
    fleet.add(1, canary="1")
    fleet.add(1)
    hook = server.post("/api/v1/webhooks", {"url": listener.url, "about": ["windows"]})
    assert hook["about"] == ["windows"]
    begun(server)
    assert not tell(context)
    path = f"/api/v1/webhooks/{hook['id']}"
    assert server.post(f"{path}/test", status=202)["waiting"] == 1
    listener.status = 500
    assert tell(context)
    listener.status = 200
    server.clock.ahead += timedelta(seconds=3)
    assert tell(context)
    assert not tell(context)
    (event,) = msgspec.json.decode(listener.taken[-1][1])["events"]
    assert (event["what"], event["id"]) == ("test", msgspec.json.decode(listener.taken[0][1])["events"][0]["id"])
    shown = [(each["events"], each["taken"], each["outcome"]) for each in server.get(f"{path}/deliveries")]
    assert shown == [(1, True, "taken"), (1, False, "status 500")]
    for _ in range(DELIVERIES):
        server.post(f"{path}/test", status=202)
        assert tell(context)
    assert len(server.get(f"{path}/deliveries")) == DELIVERIES
    server.post(f"{path}/test", status=202)
    assert server.call("DELETE", path).status == 204
    with server.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(notices)) == 0
    assert server.call("POST", "/api/v1/webhooks", {"url": listener.url, "about": []}).status == 422
    assert server.call("GET", f"{path}/deliveries").status == server.call("POST", f"{path}/test", {}).status == 404


def test_only_an_administrator_and_only_urls(server: Running) -> None:
    assert server.call("POST", "/api/v1/webhooks", {"url": "http://x/"}, role="approver").status == 403
    for url in ("file:///etc/passwd", "x", "http://", "https://" + "x" * 2000):
        assert server.call("POST", "/api/v1/webhooks", {"url": url}).status == 422
    assert server.call("DELETE", "/api/v1/webhooks/none").status == 404


def test_a_url_that_nobody_answers_is_tried_later_and_later(server: Running) -> None:
    context = server.app.state.context
    server.clock.hold()
    fleet = Fleet(server)
    fleet.add(1, canary="1")
    fleet.add(1)
    server.post("/api/v1/webhooks", {"url": "http://127.0.0.1:1/"})
    begun(server)
    tried = 0
    for _ in range(20):
        server.clock.ahead += timedelta(seconds=1)
        tried += tell(context)
    assert tried == 4  # after 0, 2, 4 and 8 seconds


def _ids(listener: Listener) -> list[str]:
    return [each["id"] for _, body in listener.taken for each in msgspec.json.decode(body)["events"]]


def test_no_two_events_have_one_id(server: Running, listener: Listener) -> None:
    """SQLite gives out the number of a notice again when all have taken it."""
    hook = server.post("/api/v1/webhooks", {"url": listener.url})
    for _ in range(3):
        server.post(f"/api/v1/webhooks/{hook['id']}/test", status=202)
        assert tell(server.app.state.context)
    assert len(set(_ids(listener))) == 3


def test_after_a_restore_other_events_have_other_ids(
    server: Running, new_database: Callable[[], str], listener: Listener, tmp_path: Path
) -> None:
    server.post("/api/v1/webhooks", {"url": listener.url})
    fleet = Fleet(server)
    fleet.add(1, canary="1")
    fleet.add(1)
    backup(server.database, tmp_path / "backup")
    begun(server)
    assert tell(server.app.state.context)
    other = open_database(new_database())
    restore(other, tmp_path / "backup")
    other.close()
    with running(other.url) as restored:
        restored.tokens = server.tokens
        begun(restored)
        assert tell(restored.app.state.context)
    assert len(listener.taken) == 2
    assert len(set(_ids(listener))) == len(_ids(listener)) == 10


def test_what_waits_when_a_server_is_upgraded_has_ids(
    server: Running, new_database: Callable[[], str], listener: Listener
) -> None:
    hook = server.post("/api/v1/webhooks", {"url": listener.url})
    fleet = Fleet(server)
    fleet.add(1, canary="1")
    fleet.add(1)
    begun(server)
    server.post(f"/api/v1/webhooks/{hook['id']}/test", status=202)
    old = Database(new_database())
    migrate(old, "0022_issues")
    assert copied(server, old)["webhook_outbox"] == 5
    old.close()
    with running(old.url) as upgraded:
        assert tell(upgraded.app.state.context)
    assert len(set(_ids(listener))) == 6
    assert all(len(each) == 32 for each in _ids(listener))


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


HELD = {
    "a byte of its header now and then": ("http", b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x"),
    "100 Continue for ever": ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "nothing": ("http", b"", b""),
    "nothing where TLS is begun": ("https", b"", b""),
}


@pytest.fixture(params=HELD)
def held(request: pytest.FixtureRequest) -> Iterator[tuple[str, Dripper]]:
    scheme, begin, again = HELD[request.param]
    made = Dripper(begin, again)
    yield made.url.replace("http", scheme, 1), made
    made.close()


def test_a_request_ends_in_its_time_whatever_comes_back(held: tuple[str, Dripper]) -> None:
    url, dripper = held
    assert posting.post(url, {}, b"{}", 2.0).startswith("TimeoutError: ")  # long enough to get there, with TLS too
    assert dripper.asked.acquire(timeout=_SECONDS)


def test_a_request_ends_in_its_time_where_no_name_server_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def never(*_: object, **__: object) -> None:
        answered.wait(_SECONDS)

    monkeypatch.setattr(socket, "getaddrinfo", never)
    assert posting.post("http://hook.example/", {}, b"{}", 0.5).startswith("TimeoutError: ")
    answered.set()


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "status 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", ""),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "RemoteProtocolError: "),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1_000_000, "RemoteProtocolError: "),
    ],
)
def test_what_a_receiver_may_answer(begin: bytes, said: str) -> None:
    dripper = Dripper(begin)
    try:
        found = posting.post(dripper.url, {}, b"{}", _SECONDS)
    finally:
        dripper.close()
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_receivers_that_drip_hold_up_nobody_else(
    server: Running, listener: Listener, dripper: Dripper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_SECONDS", 1.0)
    fleet = Fleet(server)
    fleet.add(1, canary="1")
    fleet.add(1)
    bad = [server.post("/api/v1/webhooks", {"url": dripper.url})["id"] for _ in range(AT_ONCE + 1)]
    server.post("/api/v1/webhooks", {"url": listener.url})
    begun(server)
    messenger = Messenger(server.app.state.context)
    messenger.start()
    try:
        _until(lambda: listener.taken)
        _until(lambda: all(server.get(f"/api/v1/webhooks/{each}/deliveries") for each in bad))
    finally:
        messenger.stop()
    shown = {each["id"]: each["last"] for each in server.get("/api/v1/webhooks")["items"]}
    assert {shown[each] for each in bad} == {"TimeoutError: no answer within 1 seconds"}
