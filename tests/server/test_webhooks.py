"""Webhooks: told at least once, in order, signed; tried again; nothing that was rolled back is told."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import sqlalchemy as sa

from hotmend.server.webhooks.sending import signature, tell
from hotmend.server.webhooks.store import DELIVERIES
from hotmend.server.webhooks.tables import notices
from tests.server.fleet import Fleet, begun
from tests.server.listener import Listener
from tests.server.running import Running


def test_what_happens_is_told_signed_and_again_until_it_is_taken(either_server: Running, listener: Listener) -> None:
    server, context = either_server, either_server.app.state.context
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
