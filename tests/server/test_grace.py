"""After an outage, and with a restored backup, silence ends no rollout; what machines report stops it as always."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from hotmend.server.backup import backup, restore
from hotmend.server.database import open_database
from hotmend.server.machines.tables import action_events, actions
from hotmend.server.rollouts import steering
from hotmend.servicing.actions import State
from hotmend.wire.messages import Answer, Reached
from tests.server.fleet import Fleet, begun, steered
from tests.server.machine import Simple, registration_key, report, simple
from tests.server.running import Running, running

GRACE = timedelta(minutes=7)
"""Of a server whose machines check in every minute."""


@pytest.fixture
def fleet(either_server: Running) -> Fleet:
    return Fleet(either_server)


def _away(fleet: Fleet, **ahead: float) -> None:
    """Let time pass in which nobody steers, and no machine can say anything."""
    fleet.server.clock.ahead += timedelta(**ahead)


def _half_done(fleet: Fleet) -> tuple[str, list[str]]:
    """Return a rollout of which one machine is done and another one under way, and the two in this order."""
    fleet.add(2, canary="1")
    fleet.add(2)
    identity = begun(fleet.server)
    fleet.step(identity, 3)
    (done, action), (acts, other) = fleet.due().items()
    fleet.report(action, State.SUCCEEDED)
    fleet.report(other, State.APPLYING)
    fleet.step(identity)
    return identity, [done, acts]


def _action(fleet: Fleet, machine: str) -> str:
    with fleet.database.read() as connection:
        query = sa.select(actions.c.id).where(actions.c.machine_id == machine, actions.c.kind == "install")
        return str(connection.scalar(query))


def _events(fleet: Fleet, identity: str) -> list[str]:
    return [each["what"] for each in fleet.server.get(f"/api/v1/rollouts/{identity}/events")["items"]]


def test_a_rollout_goes_on_after_an_outage(fleet: Fleet) -> None:
    identity, (done, acts) = _half_done(fleet)
    _away(fleet, hours=5)
    assert fleet.step(identity, 3) == "RUNNING"
    assert _events(fleet, identity).count("grace") == 1
    fleet.report(_action(fleet, acts), State.SUCCEEDED)  # while the server was away it went on
    fleet.seen()
    assert fleet.step(identity, 2) == "RUNNING"
    assert fleet.states(identity) == ["RUNNING", "SCHEDULED"]
    fleet.later(seconds=GRACE.total_seconds())
    fleet.step(identity)
    assert fleet.states(identity) == ["SOAKING", "SCHEDULED"]
    assert fleet.events(_action(fleet, done)) == ["SCHEDULED"]


def test_who_is_silent_after_the_grace_has_failed(fleet: Fleet) -> None:
    identity, (done, acts) = _half_done(fleet)
    _away(fleet, hours=5)
    fleet.step(identity)
    fleet.seen([done])
    steered(fleet.server)
    _away(fleet, seconds=GRACE.total_seconds() - 60)
    steered(fleet.server)
    assert fleet.step(identity) == "RUNNING"
    _away(fleet, seconds=61)
    assert fleet.step(identity) == "PAUSED"
    assert fleet.states(identity) == ["ERROR", "SCHEDULED"]
    assert fleet.events(_action(fleet, acts)) == ["SCHEDULED", "TIMED_OUT"]
    assert fleet.events(_action(fleet, done)) == ["SCHEDULED"]


def test_a_failure_that_is_reported_in_the_grace_counts_at_once_and_nothing_begins(fleet: Fleet) -> None:
    fleet.add(4, canary="1")
    fleet.add(1)
    identity = begun(fleet.server, budget=2)
    fleet.step(identity, 3)
    told = fleet.due()
    assert len(told) == 2
    first, second = told.values()
    fleet.report(first, State.APPLYING)
    fleet.report(second, State.APPLYING)
    _away(fleet, hours=5)
    fleet.step(identity)
    fleet.seen()
    fleet.report(first, State.SUCCEEDED)
    fleet.step(identity, 3)
    assert set(fleet.due().values()) == {second}, "nothing begins"
    fleet.report(second, State.FAILED)
    assert _events(fleet, identity)[-1] == "brake"
    assert fleet.step(identity) == "PAUSED"
    assert fleet.states(identity) == ["ERROR", "SCHEDULED"]


def test_an_alert_in_the_grace_stops_it_too(fleet: Fleet) -> None:
    identity, (done, _) = _half_done(fleet)
    _away(fleet, hours=5)
    fleet.step(identity)
    fleet.alerts(done, "probe-failed")
    assert fleet.step(identity) == "PAUSED"
    assert fleet.states(identity) == ["ERROR", "SCHEDULED"]


def test_an_outage_at_the_end_of_a_soak_is_followed_by_another_look(fleet: Fleet) -> None:
    fleet.looks = False
    fleet.add(2, canary="1")
    fleet.add(1)
    identity = begun(fleet.server)
    fleet.step(identity, 3)
    fleet.finish()
    fleet.step(identity)
    fleet.later(minutes=11)
    fleet.step(identity)
    assert _events(fleet, identity)[-1] == "looks"
    _away(fleet, hours=5)
    fleet.seen()
    fleet.step(identity, 2)
    assert fleet.look() == 0, "they are not asked in the grace"
    fleet.later(seconds=GRACE.total_seconds())
    assert fleet.step(identity) == "RUNNING"
    assert fleet.look() == 2
    fleet.step(identity)
    assert fleet.states(identity) == ["FINISHED", "SCHEDULED"]


def test_who_is_asked_before_a_ring_has_the_grace_to_answer(fleet: Fleet) -> None:
    fleet.add(1, canary="1")
    fleet.add(1)
    identity = begun(fleet.server, pre_event_minutes=30)
    fleet.step(identity, 3)
    _away(fleet, hours=5)
    assert fleet.step(identity, 2) == "RUNNING"
    path = f"/api/v1/rollouts/{identity}/groups/0/events/pre"
    fleet.server.post(path, {"allow": True}, role="operator", status=204)
    fleet.later(seconds=GRACE.total_seconds())
    fleet.step(identity, 2)
    assert fleet.states(identity) == ["RUNNING", "SCHEDULED"]


def test_a_pause_of_steering_that_is_short_changes_nothing(fleet: Fleet) -> None:
    identity, _ = _half_done(fleet)
    _away(fleet, seconds=150)
    fleet.step(identity)
    assert "grace" not in _events(fleet, identity)


def _told(server: Running) -> tuple[Simple, Simple, str]:
    """Return a canary, another machine, and a rollout that has begun on the canary."""
    canary = simple(server, "one", registration_key(server, tags={"canary": "1"}))
    other = simple(server, "two")
    for machine in (canary, other):
        machine.check_in(report=report(alerts=()))
    identity = begun(server)
    _steps(server, identity)
    return canary, other, identity


def _steps(server: Running, identity: str) -> None:
    for _ in range(3):
        steering.step(server.app.state.context, identity)


def _ids(answer: Answer) -> list[str]:
    return [each.id for each in answer.orders]


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("end", [State.SUCCEEDED, State.FAILED])
def test_an_end_that_a_restored_server_lost_is_asked_for_and_nothing_begins_meanwhile(
    server: Running, new_database: Callable[[], str], tmp_path: Path, end: State, is_told: bool
) -> None:
    canary, _, identity = _told(server)
    order = None
    if is_told:
        (order,) = canary.check_in().orders
    backup(server.database, tmp_path / "backup")
    if order is None:
        (order,) = canary.check_in().orders
    canary.check_in(reached=(Reached(order.id, end, server.clock()),))
    other = open_database(new_database())
    restore(other, tmp_path / "backup")
    other.close()
    with running(other.url) as restored:
        restored.tokens = server.tokens
        restored.clock.ahead = timedelta(hours=5)
        moved = Simple(restored, "one", canary.host, canary.key, canary.counter, canary.id)
        for stepped in (False, True):
            if stepped:
                _steps(restored, identity)
            answer = moved.check_in()
            assert _ids(answer) == [order.id]  # by this an agent says its end again
            assert answer.halted.startswith("the server was away")
        assert restored.get(f"/api/v1/rollouts/{identity}")["state"] == "RUNNING"
        moved.check_in(reached=(Reached(order.id, end, restored.clock()),))
        assert restored.get(f"/api/v1/actions/{order.id}")["state"] == end.value
        _steps(restored, identity)
        rollout = restored.get(f"/api/v1/rollouts/{identity}")
        assert (rollout["state"], rollout["groups"][0]["state"]) == (
            ("RUNNING", "RUNNING") if end is State.SUCCEEDED else ("PAUSED", "ERROR")
        )


def test_a_machine_that_has_not_begun_does_after_the_grace(either_server: Running) -> None:
    server = either_server
    canary, _, identity = _told(server)
    server.clock.ahead += timedelta(hours=5)
    answer = canary.check_in()
    assert answer.halted
    _steps(server, identity)
    action = server.get(f"/api/v1/actions/{_ids(answer)[0]}")
    assert (action["state"], action["handed_at"]) == ("SCHEDULED", None)
    server.clock.ahead += GRACE
    steered(server)
    _steps(server, identity)
    last = canary.check_in()
    assert (last.halted, _ids(last)) == ("", _ids(answer))
    assert server.get(f"/api/v1/rollouts/{identity}")["state"] == "RUNNING"


def test_an_order_that_is_late_is_taken_back_and_no_failure(either_server: Running) -> None:
    server = either_server
    canary, _, identity = _told(server)
    server.clock.ahead += timedelta(minutes=31)
    steered(server)
    assert canary.check_in().orders == ()  # before the next step
    _steps(server, identity)
    rollout = server.get(f"/api/v1/rollouts/{identity}")
    assert (rollout["state"], rollout["groups"][0]["state"]) == ("RUNNING", "RUNNING")
    with server.database.read() as connection:
        states = sorted(connection.scalars(sa.select(actions.c.state)))
        assert State.TIMED_OUT.value not in set(connection.scalars(sa.select(action_events.c.state)))
    assert states == ["CANCELED", "SCHEDULED"]
    assert len(canary.check_in().orders) == 1


def test_a_failure_that_is_said_again_brakes_once(either_server: Running) -> None:
    server = either_server
    canaries = [simple(server, f"c{n}", registration_key(server, tags={"canary": "1"})) for n in range(3)]
    for machine in (*canaries, simple(server, "other")):
        machine.check_in(report=report(alerts=()))
    thresholds = {"soak_minutes": 0, "silence_minutes": 60, "errors_max": 1, "success_percent": 50}
    identity = begun(server, thresholds=thresholds, budget=1)
    _steps(server, identity)
    ((first, order),) = ((each, answer.orders[0]) for each in canaries if (answer := each.check_in()).orders)
    failed = (Reached(order.id, State.FAILED, server.clock()),)
    first.check_in(reached=failed)
    _steps(server, identity)

    def brakes() -> list[str]:
        found = server.get(f"/api/v1/rollouts/{identity}/events")["items"]
        return [each["what"] for each in found if each["what"].startswith("brake")]

    assert brakes() == ["brake", "brake released"]
    first.check_in(reached=failed)  # its answer was lost
    assert brakes() == ["brake", "brake released"]
    assert sum(len(each.check_in().orders) for each in canaries) == 1
