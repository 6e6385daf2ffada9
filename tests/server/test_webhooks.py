"""Webhooks: told at least once, in order, signed; tried again; nothing that was rolled back is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import pytest

from hotmend.server.webhooks.sending import signature, tell
from tests.server.fleet import Fleet, begun
from tests.server.running import Running


class Listener:
    """Takes what is told; `status` is what it answers."""

    def __init__(self) -> None:
        self.status, self.taken = 200, list[tuple[str, bytes]]()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.taken.append((self.headers["Hotmend-Signature"], body))
                self.send_response(listener.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    made = Listener()
    yield made
    made.close()


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
    shown = server.get("/api/v1/webhooks")[0]
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
    assert server.get("/api/v1/webhooks")[0]["waiting"] == 0
    assert server.call("DELETE", f"/api/v1/webhooks/{hook['id']}").status == 204
    fleet.step(identity)
    assert not tell(context)


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
