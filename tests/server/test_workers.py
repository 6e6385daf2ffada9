"""What a server does beside answering goes on after any error, and `/healthz` says what is not done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from sqlalchemy.engine import Connection

from hotmend.server.rollouts import store
from hotmend.server.rollouts.workflow import Director
from hotmend.server.worker import Worker
from tests.server.fleet import Fleet, begun
from tests.server.running import Running

_SECONDS = 60.0


def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class _Sometimes(Worker):
    """Fails until it is told not to."""

    def __init__(self) -> None:
        super().__init__("sometimes", 0.05)
        self.well = threading.Event()
        self.rounds = 0

    def _round(self) -> None:
        self.rounds += 1
        if not self.well.is_set():
            raise ZeroDivisionError


def test_a_task_goes_on_after_any_error_and_health_says_so_meanwhile(server: Running) -> None:
    worker = _Sometimes()
    server.app.state.workers.append(worker)

    def health() -> tuple[int, object]:
        reply = server.call("GET", "/healthz", role=None)
        return reply.status, reply.json().get("not_done")

    assert health() == (503, {"sometimes": "it does not run"})
    worker.start()
    _until(lambda: worker.rounds > 1)
    assert health() == (503, {"sometimes": "ZeroDivisionError"})
    worker.well.set()
    _until(lambda: not worker.trouble)
    assert health() == (200, None)
    worker.stop()
    assert health()[0] == 503


def test_rollouts_are_steered_after_any_error(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(server)
    fleet.add(1, canary="1")
    fleet.add(1)
    identity = begun(server)
    asked = 0
    unended = store.unended

    def once_wrong(connection: Connection) -> list[str]:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise ZeroDivisionError
        return unended(connection)

    monkeypatch.setattr(store, "unended", once_wrong)
    director = Director(server.app.state.context)
    director.start()
    try:
        _until(lambda: server.get(f"/api/v1/rollouts/{identity}")["state"] == "RUNNING")
        assert asked > 1
        _until(lambda: not director.trouble)
    finally:
        director.stop()
