"""Real server processes that steer a rollout, and die: nothing is lost, nothing is done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from hotmend.server.database import sqlalchemy_url
from hotmend.server.machines.tables import actions
from hotmend.server.rollouts.tables import events, members, rollouts
from hotmend.servicing.actions import State
from tests.server.fleet import Fleet, begun
from tests.server.running import Running, running

_SECONDS = 300.0
_BUDGET = 4


class Processes:
    """Server processes on one database."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.alive: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "hotmend", "server", "--database", self.url, "--listen", "127.0.0.1:0"]
        with (self.folder / f"server-{time.monotonic_ns()}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.alive.append(process)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait(_SECONDS)
        self.alive.remove(process)

    def log(self) -> str:
        return "\n".join(file.read_text() for file in sorted(self.folder.glob("server-*.log")))


@contextmanager
def _processes(url: str, folder: Path) -> Iterator[Processes]:
    made = Processes(url, folder)
    try:
        yield made
    finally:
        for process in made.alive:
            process.terminate()
        for process in made.alive:
            assert process.wait(_SECONDS) is not None


def _until(condition: Callable[[], object], processes: Processes) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end, processes.log()
        time.sleep(0.05)


def _state(server: Running, identity: str) -> str:
    return str(server.get(f"/api/v1/rollouts/{identity}")["state"])


def _check_once(fleet: Fleet, identity: str, machines: int) -> None:
    """Nothing was done twice: one action for each machine, each change of the rollout once."""
    with fleet.database.read() as connection:
        query = sa.select(actions.c.machine_id, actions.c.state)
        rows = connection.execute(query.where(actions.c.kind == "install")).all()
        looks = connection.execute(query.where(actions.c.kind == "assess")).all()
        what = connection.execute(sa.select(events.c.what, events.c.group_number).order_by(events.c.id)).all()
        taken = connection.scalar(sa.select(sa.func.count()).where(members.c.action_id.is_not(None)))
    done = Counter(row.machine_id for row in rows if row.state == State.SUCCEEDED.value)
    assert (len(done), set(done.values()), taken) == (machines, {1}, machines)
    assert Counter(row.machine_id for row in looks) == done
    assert [row for row in rows if row.state not in (State.SUCCEEDED.value, State.CANCELED.value)] == []
    once = Counter((row.what, row.group_number) for row in what if row.what.startswith(("group", "began", "completed")))
    assert set(once.values()) == {1}
    assert what[-1].what == "completed"


def _work(fleet: Fleet, identity: str, processes: Processes, each: Callable[[], object]) -> None:
    """Be the machines, until the rollout has finished; never more of them than the budget are busy."""

    def go_on() -> bool:
        fleet.seen()
        due = fleet.due()
        assert len(due) <= _BUDGET
        for action in due.values():
            fleet.report(action, State.SUCCEEDED)
        fleet.look()
        each()
        return _state(fleet.server, identity) == "FINISHED"

    _until(go_on, processes)


def _fleet(server: Running) -> tuple[Fleet, str]:
    fleet = Fleet(server)
    fleet.add(2, canary="1")
    fleet.add(26)
    thresholds = {"soak_minutes": 0, "silence_minutes": 60}
    return fleet, begun(server, budget=_BUDGET, thresholds=thresholds)


def test_a_killed_server_goes_on_where_it_was(sqlite_url: str, tmp_path: Path) -> None:
    with running(sqlite_url) as server, _processes(sqlite_url, tmp_path) as processes:
        server.set_up()
        fleet, identity = _fleet(server)
        process = processes.start()
        _until(fleet.due, processes)
        processes.kill(process)
        before = fleet.due()
        assert before
        time.sleep(1.0)
        assert fleet.due() == before  # nobody is there to do anything
        processes.start()
        _work(fleet, identity, processes, lambda: None)
        _check_once(fleet, identity, 28)
        # A backup was restored, and the rollout is under way again: its workflow had ended, and it gets another one.
        with fleet.database.write() as connection:
            connection.execute(sa.update(rollouts).values(state="STOPPING"))
        _until(lambda: _state(server, identity) == "STOPPED", processes)


@pytest.fixture
def shared_url(cluster: str) -> str:
    """Give the URL of a new database on PostgreSQL."""
    engine = sa.create_engine(sqlalchemy_url(cluster), isolation_level="AUTOCOMMIT")
    name = f"steered_{time.monotonic_ns()}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return cluster.replace("/postgres?", f"/{name}?")


def test_two_servers_share_the_work_and_one_takes_over(shared_url: str, tmp_path: Path) -> None:
    with running(shared_url) as server, _processes(shared_url, tmp_path) as processes:
        server.set_up()
        fleet, identity = _fleet(server)
        first, _ = processes.start(), processes.start()
        killed = False

        def kill_whoever_steers() -> None:
            nonlocal killed, first
            with fleet.database.read() as connection:
                done = connection.scalar(sa.select(sa.func.count()).where(actions.c.state == State.SUCCEEDED.value))
                if killed or not done or done < 6:
                    return
                name = connection.exec_driver_sql(
                    "SELECT executor_id FROM dbos.workflow_status WHERE status = 'PENDING' AND name = 'rollout'"
                ).scalar()
            assert name
            steers = next(each for each in processes.alive if f"-{each.pid}-" in name)
            processes.kill(steers)
            killed = True

        _work(fleet, identity, processes, kill_whoever_steers)
        assert killed
        assert len(processes.alive) == 1
        _check_once(fleet, identity, 28)
