"""What a server does beside answering goes on after any error, `/healthz` says what is not done, and it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.rollouts import store
from hotmend.server.rollouts.tables import rollouts
from hotmend.server.rollouts.workflow import Director
from hotmend.server.worker import UNFINISHED, Leaving, Worker, end_together
from tests.repository.kit import CHANNEL, World
from tests.server.fleet import Fleet, begun, wanted
from tests.server.listener import Dripper
from tests.server.running import Running

_SECONDS = 300.0


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


def test_rollouts_that_rest_keep_no_other_from_being_steered(server: Running) -> None:
    fleet = Fleet(server)
    fleet.add(1, canary="1")
    fleet.add(1)
    paused = [server.post("/api/v1/rollouts", wanted(name=f"rests {number}"))["id"] for number in range(60)]
    with server.database.write() as connection:
        rest = sa.update(rollouts).where(rollouts.c.id.in_(paused))
        connection.execute(rest.values(state="PAUSED"))
    director = Director(server.app.state.context)
    director.start()
    try:
        _until(lambda: _steered(server) > 50)
        identity = begun(server)  # the last of them all
        _until(lambda: server.get(f"/api/v1/rollouts/{identity}")["state"] == "RUNNING")
    finally:
        director.stop()


def _steered(server: Running) -> int:
    with server.database.read() as connection:
        taken = sa.select(sa.func.count()).where(rollouts.c.steered_at.is_not(None))
        return int(connection.scalar(taken) or 0)


class _Stands(Worker):
    """Stands in its round until every worker of the process was told to end."""

    def __init__(self, together: threading.Barrier) -> None:
        super().__init__("stands", 0.05)
        self.together = together

    def _round(self) -> None:
        while True:
            try:
                self._go_on()
            except Leaving:
                self.together.wait()
                raise


def test_all_tasks_are_told_to_end_before_one_is_waited_for() -> None:
    both = threading.Barrier(2, timeout=_SECONDS)
    workers = [_Stands(both), _Stands(both)]
    for each in workers:
        each.start()
    end_together(workers)
    assert not any(each.runs for each in workers)
    assert not both.broken


_SHORTLY = """
import sys
from hotmend.server import worker
worker.LEAVE_SECONDS = 1.0
from hotmend.cli.main import main
sys.exit(main())
"""


def test_a_server_ends_though_a_task_is_held(sqlite_url: str, dripper: Dripper, tmp_path: Path) -> None:
    """The channel that it follows drips: the task that looks at it does not come back."""
    root, log = tmp_path / "root.json", tmp_path / "log"
    root.write_bytes(World(tmp_path / "world").make_keys().found().first_root)
    place = ["--database", sqlite_url, "--state", str(tmp_path / "state"), "--listen", "127.0.0.1:0"]
    channel = ["--channel", CHANNEL, "--channel-source", dripper.url, "--channel-root", str(root)]
    with log.open("wb") as stream:
        command = [sys.executable, "-c", _SHORTLY, "server", *place, *channel]
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        assert dripper.asked.acquire(timeout=_SECONDS), log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(_SECONDS) == UNFINISHED, log.read_text()
        assert "without waiting for: channel" in log.read_text()
    finally:
        process.kill()
        process.wait()
