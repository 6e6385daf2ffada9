"""What two servers or threads do at the same moment on PostgreSQL: nothing twice, and nobody waits for ever."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.database import sqlalchemy_url
from hotmend.server.identity import service, store
from hotmend.server.identity.access import Principal
from hotmend.server.identity.tables import users
from hotmend.server.machines.tables import actions
from hotmend.server.problem import Problem
from hotmend.server.rollouts import candidates, steering
from hotmend.servicing.actions import State
from hotmend.servicing.rings import Member
from hotmend.wire.api import UserChange
from hotmend.wire.messages import Reached
from tests.server.fleet import Fleet, begun
from tests.server.machine import registration_key, report, simple
from tests.server.running import Running, running

_SECONDS = 60.0


@pytest.fixture
def server(cluster: str) -> Iterator[Running]:
    """A server on a new database of PostgreSQL."""
    engine = sa.create_engine(sqlalchemy_url(cluster), isolation_level="AUTOCOMMIT")
    name = f"locks_{time.monotonic_ns()}"
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    with running(cluster.replace("/postgres?", f"/{name}?")) as found:
        found.set_up()
        yield found


def _all_at_once(*todo: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(todo)) as pool:
        for each in [pool.submit(one) for one in todo]:
            each.result(_SECONDS)


def test_two_rollouts_never_begin_both_machines_of_a_pair(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(server)
    (one,), (other,) = fleet.add(1, canary="1", pair="db"), fleet.add(1, canary="1", pair="db")
    ids = [begun(server, name=each, selection={"machines": [each, *fleet.add(1)]}) for each in (one, other)]
    ids.append(begun(server, name="again", selection={"machines": [one, *fleet.add(1)]}))
    for each in ids:
        fleet.step(each, 2)
    both = threading.Barrier(len(ids))
    busy = candidates.busy

    def read_and_wait(connection: Connection, *rest: object) -> list[Member]:
        """Read who is being changed, and wait until the others have read it too, or cannot."""
        found = busy(connection, *rest)  # type: ignore[arg-type]
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1.0)
        return found

    monkeypatch.setattr(candidates, "busy", read_and_wait)
    _all_at_once(*(lambda each=each: fleet.step(each) for each in ids))
    with server.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(actions)) == 1


def test_two_administrators_never_lower_each_other(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    context = server.app.state.context
    server.post("/api/v1/users", {"name": "second", "role": "admin"})
    ids = {each["name"]: each["id"] for each in server.get("/api/v1/users")["items"] if each["role"] == "admin"}
    both = threading.Barrier(2)
    other_admins = store.other_admins

    def count_and_wait(connection: Connection, identity: str) -> int:
        """Count the other administrators, and wait until the other one has counted too, or cannot."""
        found = other_admins(connection, identity)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1.0)
        return found

    monkeypatch.setattr(store, "other_admins", count_and_wait)
    refused: list[str] = []

    def lower(who: str, whom: str) -> None:
        try:
            service.change_user(context, Principal(ids[who], who, "admin"), ids[whom], UserChange(role="viewer"))
        except Problem as problem:
            refused.append(problem.code)

    _all_at_once(lambda: lower("root", "second"), lambda: lower("second", "root"))
    assert refused == ["last-admin"]
    with server.database.read() as connection:
        left = sa.select(sa.func.count()).select_from(users).where(users.c.role == "admin")
        assert connection.scalar(left) == 1


def test_what_another_step_began_while_this_one_waited_counts(server: Running) -> None:
    """The step knew the time before it waited for its turn, and the clock of the other server is ahead."""
    fleet = Fleet(server)
    (one,), (other,) = fleet.add(1, canary="1", pair="db"), fleet.add(1, canary="1", pair="db")
    first, second = (begun(server, name=each, selection={"machines": [each, *fleet.add(1)]}) for each in (one, other))
    for each in (first, second):
        fleet.step(each, 2)
    server.clock.ahead += timedelta(seconds=20)
    fleet.step(first)
    server.clock.ahead -= timedelta(seconds=20)
    fleet.step(second)
    with server.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(actions)) == 1


def test_check_ins_that_give_way_to_a_step_are_taken_again(server: Running) -> None:
    """A report locks its action and then its rollout, a step its rollout and then actions: PostgreSQL ends one."""
    canary = simple(server, "one", registration_key(server, tags={"canary": "1"}))
    for machine in (canary, simple(server, "two")):
        machine.check_in(report=report(alerts=()))
    identity = begun(server)
    for _ in range(3):
        steering.step(server.app.state.context, identity)
    (order,) = canary.check_in().orders
    failed = Reached(order.id, State.FAILED, server.clock())
    with server.database.write() as connection, ThreadPoolExecutor(1) as pool:
        connection.exec_driver_sql("SET LOCAL deadlock_timeout = '1h'")  # the check-in is the one that looks, and ends
        assert steering.load(connection, server.app.state.context, identity) is not None
        answer = pool.submit(canary.check_in, reached=(failed,))
        _until_somebody_waits(connection)
        changed = sa.update(actions).where(actions.c.id == order.id).values(detail="seen by the step")
        connection.execute(changed)
        connection.commit()
        assert answer.result(_SECONDS).confirmed == (order.id,)
    found = server.get(f"/api/v1/rollouts/{identity}")
    assert found["brake"] or found["state"] == "PAUSED"


def _until_somebody_waits(connection: Connection) -> None:
    end = time.monotonic() + _SECONDS
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while not connection.scalar(waiting):
        assert time.monotonic() < end
        time.sleep(0.02)
