"""Rollouts on both databases: rings, gates, brake, people, late machines, taking back."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotmend.server.identity.access import Principal
from hotmend.server.identity.service import add_token
from hotmend.server.machines import store
from hotmend.server.machines.tables import actions, contacts, policies
from hotmend.server.machines.tables import machines as rows_of_machines
from hotmend.server.rollouts import progress, steering
from hotmend.server.rollouts.tables import members
from hotmend.server.rollouts.waiting import held_long
from hotmend.servicing.actions import State
from hotmend.servicing.gates import Thresholds, well
from hotmend.wire.api import RoleName, TokenWanted
from hotmend.wire.messages import Kind, Reached
from hotmend.wire.report import report_hash
from tests.server.fleet import ALWAYS, Fleet, begun, started, steered, wanted
from tests.server.machine import registration_key, report, simple
from tests.server.running import Running

FACTS = Path(__file__).parents[1] / "data" / "facts" / "cases" / "october-2-right.json"


@pytest.fixture
def fleet(either_server: Running) -> Fleet:
    return Fleet(either_server)


@pytest.fixture
def one(server: Running) -> Fleet:
    """The same on SQLite alone."""
    return Fleet(server)


def _rollout(fleet: Fleet, identity: str) -> dict[str, object]:
    found: dict[str, object] = fleet.server.get(f"/api/v1/rollouts/{identity}")
    return found


def _what(fleet: Fleet, identity: str) -> list[str]:
    return [each["what"] for each in fleet.server.get(f"/api/v1/rollouts/{identity}/events")["items"]]


def test_ring_after_ring_to_the_end(fleet: Fleet) -> None:
    fleet.add(2, canary="1")
    fleet.add(8)
    identity = begun(fleet.server)
    assert fleet.step(identity) == "RUNNING"
    fleet.step(identity, 2)
    assert fleet.states(identity) == ["RUNNING", "SCHEDULED"]
    assert fleet.finish() == 2
    fleet.step(identity)
    assert fleet.states(identity) == ["SOAKING", "SCHEDULED"]
    fleet.later(minutes=9)
    fleet.step(identity, 3)
    assert fleet.states(identity) == ["SOAKING", "SCHEDULED"]
    fleet.later(minutes=1)
    fleet.step(identity, 3)
    assert fleet.states(identity) == ["FINISHED", "RUNNING"]
    assert fleet.finish() == 5  # the budget
    fleet.step(identity)
    assert fleet.finish() == 3
    fleet.step(identity)
    fleet.later(minutes=10)
    assert fleet.step(identity, 2) == "FINISHED"
    assert fleet.step(identity) == "FINISHED"
    found = _rollout(fleet, identity)
    assert [group["actions"] for group in found["groups"]] == [{"SUCCEEDED": 2}, {"SUCCEEDED": 8}]  # type: ignore[attr-defined]
    assert _what(fleet, identity)[-1] == "completed"
    assert fleet.server.get("/api/v1/audit/verify")["whole"]


def test_the_first_failing_report_stops_everything_in_the_same_transaction(fleet: Fleet) -> None:
    fleet.add(8, canary="1")
    fleet.add(20)
    identity = begun(fleet.server)
    fleet.step(identity, 3)
    with fleet.database.read() as connection:
        planned = list(connection.scalars(sa.select(actions.c.id).order_by(actions.c.id)))
    assert len(planned) == 5
    with fleet.database.write() as connection:  # two machines were told, three have not come yet
        told = actions.c.id.in_(planned[:2])
        connection.execute(sa.update(actions).where(told).values(handed_at=fleet.now()))
    fleet.report(planned[0], State.FAILED)
    with fleet.database.read() as connection:
        left = {row.id: row.state for row in connection.execute(sa.select(actions.c.id, actions.c.state))}
    assert [left[each] for each in planned] == ["FAILED", "SCHEDULED", "CANCELED", "CANCELED", "CANCELED"]
    assert fleet.events(planned[2]) == ["SCHEDULED", "CANCELED"]
    assert _rollout(fleet, identity)["brake"]
    assert fleet.step(identity) == "PAUSED"
    assert fleet.states(identity) == ["ERROR", "SCHEDULED"]
    reply = fleet.server.call("POST", f"/api/v1/rollouts/{identity}/resume", {"reason": "I dare"}, role="operator")
    assert (reply.status, reply.json()["code"]) == (409, "ring-failed")
    for _ in range(3):
        fleet.step(identity)
        assert set(fleet.due().values()) <= {planned[1]}
    fleet.report(planned[1], State.SUCCEEDED)
    # Taken back: both that were told have a revert, whatever holds.
    fleet.server.post("/api/v1/halt", {"reason": "fire"}, role="operator", status=200)
    fleet.server.post(f"/api/v1/rollouts/{identity}/roll-back", {"reason": "bad"}, role="operator", status=200)
    assert fleet.step(identity) == "ROLLING_BACK"
    with fleet.database.read() as connection:
        query = sa.select(actions).where(actions.c.kind == "revert")
        rows = list(connection.execute(query).mappings())
    assert len(rows) == 2
    assert all(row["emergency"] and row["anytime"] for row in rows)
    assert fleet.step(identity) == "ROLLING_BACK"
    assert fleet.finish() == 2
    assert fleet.step(identity) == "ROLLED_BACK"
    assert _rollout(fleet, identity)["reverts"] == {"SUCCEEDED": 2}


def test_failures_that_are_allowed_hold_until_the_wave_has_ended(one: Fleet) -> None:
    one.add(1, canary="1")
    one.add(9)
    thresholds = {"soak_minutes": 0, "silence_minutes": 60, "errors_max": 1, "success_percent": 80}
    identity = begun(one.server, thresholds=thresholds, budget=3)
    one.step(identity, 3)
    one.finish()
    one.step(identity, 4)
    first, second, third = one.due().values()
    one.report(first, State.FAILED)
    for _ in range(3):
        one.step(identity)
    assert set(one.due().values()) == {second, third}
    one.report(second, State.SUCCEEDED)
    one.report(third, State.SUCCEEDED)
    one.step(identity)
    assert len(one.due()) == 3  # the next wave
    assert "brake released" in _what(one, identity)
    one.report(next(iter(one.due().values())), State.TIMED_OUT)
    assert one.step(identity) == "PAUSED"


def test_what_cannot_be_read_is_a_failure(one: Fleet) -> None:
    a, b = one.add(2, canary="1")
    one.add(2)
    for spoil in ("alerts", "silence"):
        identity = begun(one.server, name=spoil)
        one.step(identity, 3)
        assert one.finish() == 2
        one.step(identity)
        assert one.states(identity)[0] == "SOAKING"
        if spoil == "alerts":
            one.alerts(a, "crash-in-new-code")
        else:
            one.later(hours=2)  # all are there, but one
            with one.database.write() as connection:
                old = one.now() - timedelta(hours=2)
                connection.execute(sa.update(contacts).where(contacts.c.machine_id == b).values(seen_at=old))
        assert one.step(identity) == "PAUSED"
        assert _rollout(one, identity)["why"]["code"] == "errors-over-threshold"  # type: ignore[index]
        one.alerts(a)
        one.seen()
        one.server.post(f"/api/v1/rollouts/{identity}/stop", {}, role="operator", status=200)
        assert one.step(identity) == "STOPPED"


def test_the_query_of_wellness_is_the_rule(one: Fleet) -> None:
    limit = Thresholds(silence_minutes=60)
    (machine,) = one.add(1, canary="1")
    one.add(1)
    one.alerts(machine, "agent-silent")
    identity = begun(one.server)
    one.step(identity, 3)
    (action,) = one.due().values()
    before, new = ("agent-silent",), ("agent-silent", "probe-failed")
    for state, alerts, silent, looked in itertools.product(State, (before, new), (10, 90), (None, False, True)):
        one.report(action, state)
        one.alerts(machine, *alerts)
        _asked(one, machine, looked)
        now, seen = one.now() + timedelta(minutes=silent), one.now()
        one.seen()
        with one.database.read() as connection:
            found = progress.well(connection, identity, 0, now - timedelta(minutes=60))
        asked = looked if silent == 90 or looked else None  # it has an hour
        expected = well(state, alerts == before, seen, now, limit, asked)
        assert found.well == expected, (state, alerts, silent, looked)
        assert found.looking == (expected and not looked), (state, alerts, silent, looked)


def _asked(fleet: Fleet, machine: str, looked: bool | None) -> None:
    """Put what a machine was asked for at the end of a soak into the tables: nothing, or something done or not."""
    now = fleet.now()
    with fleet.database.write() as connection:
        look = None
        if looked is not None:
            state = State.SUCCEEDED if looked else State.SCHEDULED
            values = {"machine_id": machine, "kind": "assess", "updates": [], "created_by": "t", "state": state.value}
            look = store.insert_action(connection, values | dict.fromkeys(("created_at", "due_at", "changed_at"), now))
        which = members.c.machine_id == machine
        connection.execute(sa.update(members).where(which).values(look_id=look))
        connection.execute(sa.update(contacts).where(contacts.c.machine_id == machine).values(looked_at=now))


def _soaked(fleet: Fleet) -> str:
    """Begin a rollout, and let the soak of its canary pass."""
    fleet.looks = False
    identity = begun(fleet.server)
    fleet.step(identity, 3)
    assert fleet.finish() == 1
    fleet.step(identity)
    fleet.later(minutes=10)
    fleet.step(identity, 2)
    assert fleet.states(identity) == ["SOAKING", "SCHEDULED"]
    assert _what(fleet, identity)[-1] == "looks"
    return identity


def test_a_ring_passes_by_a_look_that_came_after_its_soak(fleet: Fleet) -> None:
    fleet.add(1, canary="1")
    fleet.add(1)
    identity = _soaked(fleet)
    assert fleet.look(fleet.now() - timedelta(minutes=1)) == 1  # it says that it did, and its report is an old one
    fleet.step(identity, 2)
    assert fleet.states(identity) == ["SOAKING", "SCHEDULED"]
    with fleet.database.write() as connection:
        connection.execute(sa.update(contacts).values(looked_at=fleet.now()))
    fleet.step(identity, 2)
    assert fleet.states(identity) == ["FINISHED", "RUNNING"]
    assert _what(fleet, identity).count("looks") == 1


def test_of_an_agent_that_does_not_say_when_it_looked_the_answer_counts(one: Fleet) -> None:
    one.add(1, canary="1")
    one.add(1)
    identity = _soaked(one)
    one.look()
    with one.database.write() as connection:
        connection.execute(sa.update(contacts).values(looked_at=None))
    one.step(identity)
    assert one.states(identity)[0] == "FINISHED"


def test_a_machine_that_does_not_look_has_failed(one: Fleet) -> None:
    one.add(1, canary="1")
    one.add(1)
    identity = _soaked(one)
    one.later(minutes=55)
    assert one.step(identity) == "RUNNING"
    one.later(minutes=6)
    assert one.step(identity) == "PAUSED"  # it checks in all the time
    assert _rollout(one, identity)["why"]["code"] == "errors-over-threshold"  # type: ignore[index]


def test_an_alert_that_comes_for_one_that_goes_is_seen(fleet: Fleet) -> None:
    (canary,) = fleet.add(1, canary="1")
    fleet.add(1)
    fleet.alerts(canary, "agent-silent", "on-hold")
    identity = _soaked(fleet)
    fleet.look()
    fleet.alerts(canary, "on-hold", "probe-failed")
    assert fleet.step(identity) == "PAUSED"
    assert _rollout(fleet, identity)["why"]["code"] == "errors-over-threshold"  # type: ignore[index]


def test_machines_look_while_everything_is_halted(either_server: Running) -> None:
    server = either_server
    canary = simple(server, "one", registration_key(server, tags={"canary": "1"}))
    for machine in (canary, simple(server, "two")):
        machine.check_in(report=report(alerts=()))
    identity = begun(server, thresholds={"soak_minutes": 0})

    def steps(times: int) -> None:
        for _ in range(times):
            steering.step(server.app.state.context, identity)

    steps(3)
    (order,) = canary.check_in().orders
    ended = Reached(order.id, State.SUCCEEDED, server.clock())
    canary.check_in(reached=(ended,))
    server.post("/api/v1/halt", {"reason": "fire"}, role="operator", status=200)
    steps(2)
    answer = canary.check_in()
    (look,) = answer.orders
    assert (answer.halted, look.kind, look.emergency, look.updates) == ("fire", Kind.ASSESS, True, ())
    looked = {"report_hash": report_hash(report(alerts=())), "looked_at": server.clock()}
    canary.check_in(reached=(Reached(look.id, State.SUCCEEDED, server.clock()),), **looked)
    steps(1)
    groups = server.get(f"/api/v1/rollouts/{identity}")["groups"]
    assert [group["state"] for group in groups] == ["FINISHED", "SCHEDULED"]


def test_pairs_and_sets_wait_for_each_other(one: Fleet) -> None:
    one.add(1, canary="1")
    pair = one.add(2, pair="db")
    one.add(10, set="web")
    identity = begun(one.server, budget=20, thresholds={"soak_minutes": 0, "silence_minutes": 600})
    one.step(identity, 3)
    one.finish()
    one.step(identity, 3)
    seen = []
    for _ in range(6):
        due = one.due()
        seen.append(len(due))
        assert len(set(pair) & due.keys()) <= 1
        assert len(due.keys() - set(pair)) <= 2  # 20 % of ten
        for action in due.values():
            one.report(action, State.SUCCEEDED)
        one.step(identity)
    assert sum(seen) == 12
    held = {each["held"] for each in one.server.get(f"/api/v1/rollouts/{identity}/machines")["items"]}
    assert held == {""}


def test_a_window_is_that_of_the_machine(one: Fleet) -> None:
    one.add(1, canary="1", zone="UTC")
    (unknown,) = one.add(1, zone="")
    one.add(1, zone="Pacific/Auckland")
    identity = begun(one.server, lane="normal", minutes=30)
    one.step(identity, 2)
    now = one.now()
    # The default: 22 to 6 o'clock of each machine.
    at = now.replace(hour=12, minute=0) + timedelta(days=1)
    one.later(seconds=(at - now).total_seconds())
    one.step(identity)
    assert one.due() == {}
    assert one.server.get(f"/api/v1/rollouts/{identity}/machines?group=0")["items"][0]["held"] == "window-closed"
    one.later(hours=11)
    one.step(identity)
    assert len(one.due()) == 1
    shown = one.server.post("/api/v1/rollouts/preview", wanted(lane="normal", minutes=30), role="viewer", status=200)
    assert shown["rings"][1]["held_now"] == {"time-zone-unknown": 1, "window-closed": 1}
    with one.database.write() as connection:
        signed = {"serial": 1, "hash": "", "body": b"", "signature": b"", "issued_at": now, "expires_at": now}
        connection.execute(sa.insert(policies).values(name="default", content={**ALWAYS, "zone": "UTC"}, **signed))
    shown = one.server.post("/api/v1/rollouts/preview", wanted(lane="normal"), role="viewer", status=200)
    assert shown["rings"][1]["held_now"] == {}
    assert unknown in shown["rings"][1]["first"]


_STRICT = {
    "maintenance": {"window": [{**ALWAYS["maintenance"]["window"][0], "start": "2100-01-01T00:00:00"}]},
    "zone": "UTC",
}


def _policy(fleet: Fleet, name: str, content: dict[str, Any], machines: list[str]) -> None:
    now = fleet.now()
    signed = {"serial": 1, "hash": "", "body": b"", "signature": b"", "issued_at": now, "expires_at": now}
    with fleet.database.write() as connection:
        connection.execute(sa.insert(policies).values(name=name, content=content, **signed))
        mine = rows_of_machines.c.id.in_(machines)
        connection.execute(sa.update(rows_of_machines).where(mine).values(policy=name))


def _first(fleet: Fleet, identity: str, ids: list[str]) -> None:
    """Put machines in front of their ring."""
    with fleet.database.write() as connection:
        for place, each in enumerate(ids):
            which = (members.c.rollout_id == identity) & (members.c.machine_id == each)
            connection.execute(sa.update(members).where(which).values(place=place - len(ids)))


def test_machines_that_are_held_do_not_stand_before_those_that_are_not(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many are in front: with a closed window, without a zone, of a set that is used, of a pair."""
    monkeypatch.setattr(steering, "_PAGE", 4)
    fleet.add(1, canary="1")
    closed = fleet.add(12)
    _policy(fleet, "never", _STRICT, closed)
    unknown = fleet.add(12, zone="")
    web = fleet.add(20, set="web")
    pair = fleet.add(2, pair="db")
    free = fleet.add(10)
    _policy(fleet, "open", {**ALWAYS, "zone": "UTC"}, [*web, *pair, *free, fleet.ids[0]])
    identity = begun(fleet.server, lane="normal", budget=20, thresholds={"soak_minutes": 0, "silence_minutes": 600})
    _first(fleet, identity, [*closed, *unknown, *web, *pair])
    fleet.step(identity, 3)
    assert fleet.finish() == 1
    fleet.step(identity, 4)
    due = fleet.due().keys()
    assert set(free) <= due
    assert (len(due & set(web)), len(due & set(pair))) == (4, 1)
    held = {each["machine"]: each["held"] for each in fleet.server.get(_machines(identity, 1))["items"]}
    assert {held[each] for each in closed} == {"window-closed"}
    assert {held[each] for each in unknown} == {"time-zone-unknown"}
    assert Counter(held[each] for each in web) == {"": 4, "share-used": 16}


def _machines(identity: str, group: int) -> str:
    return f"/api/v1/rollouts/{identity}/machines?group={group}&limit=1000"


def test_a_ring_does_not_wait_for_a_machine_whose_zone_nobody_knows(fleet: Fleet) -> None:
    fleet.add(1, canary="1")
    fleet.add(1)
    _policy(fleet, "open", ALWAYS, fleet.ids)
    (lost,) = fleet.add(1, zone="", canary="1")
    thresholds = {"soak_minutes": 0, "silence_minutes": 600}
    identity = begun(fleet.server, lane="normal", thresholds=thresholds)
    fleet.step(identity, 3)
    assert fleet.finish() == 1
    fleet.step(identity, 3)
    assert fleet.states(identity) == ["FINISHED", "RUNNING"]
    assert [each["machine"] for each in fleet.server.get(_machines(identity, 0))["items"] if each["held"]] == [lost]
    assert "joined" not in _what(fleet, identity)
    fleet.zone(lost, "Nowhere/City")  # no zone either
    fleet.step(identity)
    assert "joined" not in _what(fleet, identity)
    _policy(fleet, "open-too", ALWAYS, [lost])
    fleet.zone(lost, "UTC")  # now its agent has said where it is: it comes late
    fleet.step(identity, 2)
    assert _what(fleet, identity).count("joined") == 1
    assert lost in fleet.due()
    fleet.finish()
    fleet.step(identity)
    assert fleet.step(identity, 2) == "FINISHED"


def test_a_canary_that_nobody_can_begin_holds_and_is_told(one: Fleet) -> None:
    """Nobody of it has shown anything. Who looks at the overview, or at the metric, sees why."""
    one.add(2, zone="", canary="1")
    one.add(1)
    identity = begun(one.server, lane="normal")
    one.step(identity, 3)
    assert one.states(identity) == ["RUNNING", "SCHEDULED"]
    assert _held_long(one) == []
    one.later(minutes=61)
    one.step(identity)
    assert one.states(identity) == ["RUNNING", "SCHEDULED"]
    assert _held_long(one) == [("october", "time-zone-unknown", 2)]


def test_a_hold_is_long_after_what_is_usual_for_it(one: Fleet) -> None:
    (closed,) = one.add(1, canary="1")
    _policy(one, "never", _STRICT, [closed])
    one.add(1)
    identity = begun(one.server, lane="normal")
    one.step(identity, 3)
    one.later(days=7, hours=23)
    one.step(identity)
    assert _held_long(one) == []
    one.later(hours=2)
    assert _held_long(one) == [("october", "window-closed", 1)]
    with one.database.write() as connection:
        content = {**ALWAYS, "zone": "UTC"}
        connection.execute(sa.update(policies).where(policies.c.name == "never").values(content=content))
    one.server.post("/api/v1/halt", {}, role="operator", status=200)
    one.step(identity)  # its window has come: it is held no more, though nothing may begin
    assert _held_long(one) == []


def _held_long(fleet: Fleet) -> list[tuple[str, str, int]]:
    with fleet.database.read() as connection:
        found = held_long(connection, fleet.now(), fleet.now() - timedelta(minutes=3))
    return [(each.name, each.code, each.machines) for each in found]


def test_late_machines_and_machines_that_are_off(one: Fleet) -> None:
    one.add(1, canary="1")
    (off,) = one.add(1, there=False, canary="1")
    one.add(1)
    identity = begun(one.server)
    one.step(identity, 3)
    assert one.finish() == 1
    one.ids.remove(off)
    one.step(identity)
    assert one.states(identity)[0] == "SOAKING"  # it does not wait for the one that is off
    one.seen([off])
    one.add(1, canary="1")  # comes late: its ring counts already
    one.step(identity)
    one.later(minutes=10)
    one.seen([off])
    one.step(identity, 3)
    assert one.states(identity) == ["FINISHED", "RUNNING"]
    rows = one.server.get(f"/api/v1/rollouts/{identity}/machines?group=1")["items"]
    assert sorted(row["late"] for row in rows) == [False, True, True]
    assert one.finish() == 3
    one.step(identity)
    one.later(minutes=10)
    assert one.step(identity, 2) == "FINISHED"


def test_events_before_and_after_a_ring_really_gate(one: Fleet) -> None:
    one.add(1, canary="1")
    one.add(1)
    thresholds = {"soak_minutes": 0, "silence_minutes": 600}
    identity = begun(one.server, pre_event_minutes=10, post_event_minutes=10, thresholds=thresholds)
    path = f"/api/v1/rollouts/{identity}/groups/0/events"
    assert one.server.call("POST", f"{path}/pre", {"allow": True}, role="operator").json()["code"] == "not-asked"
    one.step(identity, 3)
    assert one.due() == {}
    one.later(minutes=10)
    assert one.step(identity) == "PAUSED"  # silence is a no
    one.server.post(f"/api/v1/rollouts/{identity}/resume", {}, role="operator", status=200)
    one.step(identity)
    one.server.post(f"{path}/pre", {"allow": True}, role="operator", status=204)
    one.step(identity, 2)
    assert one.finish() == 1
    one.step(identity, 3)
    assert one.states(identity) == ["SOAKING", "SCHEDULED"]
    one.server.post(f"{path}/post", {"allow": False, "reason": "monitoring"}, role="operator", status=204)
    assert one.step(identity) == "PAUSED"
    why = _rollout(one, identity)["why"]
    assert why["values"] == {"kind": "post", "who": "operator", "reason": "monitoring"}  # type: ignore[index]
    one.server.post(f"/api/v1/rollouts/{identity}/resume", {}, role="operator", status=200)
    one.step(identity)
    one.server.post(f"{path}/post", {"allow": True}, role="operator", status=204)
    one.step(identity)
    assert one.states(identity) == ["FINISHED", "SCHEDULED"]


def test_a_machine_that_says_nothing_has_failed(one: Fleet) -> None:
    one.add(1, canary="1")
    one.add(1)
    identity = begun(one.server, answer_minutes=30)
    one.step(identity, 3)
    (action,) = one.due().values()
    one.later(minutes=31)
    assert one.step(identity) == "PAUSED"
    assert one.events(action) == ["SCHEDULED", "TIMED_OUT"]


def test_a_machine_that_leaves_in_the_middle_has_failed_and_one_that_has_not_begun_has_not(fleet: Fleet) -> None:
    """A canary that an update has killed is offboarded, and proves nothing good of the update."""
    fleet.add(3, canary="1")
    fleet.add(2)
    identity = begun(fleet.server, budget=2)
    fleet.step(identity, 3)
    (dead, killed), (_, well_done) = fleet.due().items()
    (not_begun,) = set(fleet.ids[:3]) - {each["machine"] for each in _begun(fleet, identity)}
    assert fleet.server.call("DELETE", f"/api/v1/machines/{not_begun}", role="approver").status == 204
    assert not _rollout(fleet, identity)["brake"]
    assert fleet.server.call("DELETE", f"/api/v1/machines/{dead}", role="approver").status == 204
    action = fleet.server.get(f"/api/v1/actions/{killed}")
    assert (action["state"], action["detail"]) == (
        "TIMED_OUT",
        "the machine has left, and has not said what came of it",
    )
    assert "brake" in _what(fleet, identity)
    fleet.report(well_done, State.SUCCEEDED)
    assert fleet.step(identity) == "PAUSED"
    assert fleet.states(identity) == ["ERROR", "SCHEDULED"]
    # Taken back: nobody waits for the one that is told nothing any more.
    fleet.server.post(f"/api/v1/rollouts/{identity}/roll-back", {"reason": "bad"}, role="operator", status=200)
    assert fleet.step(identity, 2) == "ROLLING_BACK"
    assert fleet.finish() == 1
    assert fleet.step(identity) == "ROLLED_BACK"
    assert _rollout(fleet, identity)["why"] == {}


def _begun(fleet: Fleet, identity: str) -> list[dict[str, Any]]:
    found = fleet.server.get(f"/api/v1/rollouts/{identity}/machines")["items"]
    return [each for each in found if each["action"]]


def test_an_action_that_nobody_fetched_is_taken_back_and_made_again(one: Fleet) -> None:
    one.add(1, canary="1")
    one.add(1)
    identity = begun(one.server)
    one.step(identity, 3)
    one.later(minutes=31)
    one.step(identity)
    with one.database.read() as connection:
        states = sorted(connection.scalars(sa.select(actions.c.state)))
    assert states == ["CANCELED", "SCHEDULED"]
    assert one.finish() == 1


def test_the_halt_holds_and_is_released(fleet: Fleet) -> None:
    fleet.add(1, canary="1")
    fleet.add(1)
    identity = begun(fleet.server)
    assert not fleet.server.get("/api/v1/halt", role="viewer")["halted"]
    reply = fleet.server.call("POST", "/api/v1/halt", {"reason": "no"}, role="viewer")
    assert reply.status == 403
    fleet.server.post("/api/v1/halt", {"reason": "wait"}, role="operator", status=200)
    fleet.step(identity, 4)
    assert fleet.due() == {}
    found = fleet.server.get("/api/v1/halt", role="viewer")
    assert (found["halted"], found["reason"], found["by"]) == (True, "wait", "operator")
    fleet.server.post("/api/v1/release", {"reason": "go"}, role="operator", status=200)
    fleet.step(identity, 2)
    assert len(fleet.due()) == 1


def test_a_machine_that_was_told_and_has_not_begun_is_held_too(either_server: Running) -> None:
    server = either_server
    canary = simple(server, "one", registration_key(server, tags={"canary": "1"}))
    for machine in (canary, simple(server, "two")):
        machine.check_in(report=report(alerts=()))
    identity = begun(server)
    path = f"/api/v1/rollouts/{identity}"

    def steps() -> None:
        for _ in range(3):
            steering.step(server.app.state.context, identity)

    steps()
    (order,) = canary.check_in().orders
    waits = Reached(order.id, State.WAITING_WINDOW, server.clock())
    assert [each.id for each in canary.check_in(reached=(waits,)).orders] == [order.id]
    server.post(f"{path}/pause", {}, role="operator", status=200)
    assert canary.check_in().orders == ()
    server.clock.ahead += timedelta(seconds=119)
    steered(server)
    assert canary.check_in().orders == ()
    server.post(f"{path}/resume", {}, role="operator", status=200)
    assert [each.id for each in canary.check_in().orders] == [order.id]
    server.post(f"{path}/pause", {}, role="operator", status=200)
    for _ in range(3):  # it has seen twice that it is not to begin, and has not
        assert canary.check_in().orders == ()
        server.clock.ahead += timedelta(seconds=60)
        steered(server)
    assert server.get(f"/api/v1/actions/{order.id}")["state"] == "CANCELED"
    server.post(f"{path}/resume", {}, role="operator", status=200)
    steps()
    (again,) = canary.check_in().orders
    assert again.id != order.id
    order = again
    begins = Reached(order.id, State.PRECHECK, server.clock())
    assert [each.id for each in canary.check_in(reached=(begins,)).orders] == [order.id]
    server.post(f"{path}/pause", {}, role="operator", status=200)
    assert [each.id for each in canary.check_in().orders] == [order.id]  # what has begun is ended
    server.post(f"{path}/roll-back", {}, role="operator", status=200)
    failed = Reached(order.id, State.FAILED, server.clock())
    canary.check_in(reached=(failed,))
    steps()
    (revert,) = canary.check_in().orders
    assert (revert.kind, revert.emergency) == (Kind.REVERT, True)
    canary.check_in(reached=(Reached(revert.id, State.SUCCEEDED, server.clock()),))
    steps()
    assert server.get(path)["state"] == "ROLLED_BACK"


def test_a_rollout_is_planned_once_for_a_key_and_for_the_machines_of_a_scope(one: Fleet) -> None:
    server = one.server
    one.add(1, canary="1", site="berlin")
    one.add(2, site="berlin")
    one.add(3)
    server.post("/api/v1/scopes", {"name": "berlin", "query": {"tags": {"site": "berlin"}}}, role="operator")
    body = wanted(selection={"scope": "berlin"})
    made = [
        server.call("POST", "/api/v1/rollouts", body, role="operator", headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert [each.status for each in made] == [201, 201]
    assert made[0].json() == made[1].json()
    assert len(server.get("/api/v1/rollouts")["items"]) == 1
    assert sum(sum(group["actions"].values()) for group in made[0].json()["groups"]) == 3
    other = server.call("POST", "/api/v1/rollouts", wanted(), role="operator", headers={"Idempotency-Key": "k"})
    assert (other.status, other.json()["code"]) == (422, "idempotency-key")
    gone = server.call("POST", "/api/v1/rollouts", wanted(selection={"scope": "none"}), role="operator")
    assert (gone.status, gone.json()["code"]) == (422, "nobody-selected")
    kept = server.call("DELETE", "/api/v1/scopes/berlin", role="operator")  # one of this name would bring others
    assert (kept.status, kept.json()["code"]) == (409, "selected")
    started(server, made[0].json())
    identity = made[0].json()["id"]
    one.step(identity)
    server.post(f"/api/v1/rollouts/{identity}/stop", {}, role="operator", status=200)
    assert one.step(identity) == "STOPPED"
    assert server.call("DELETE", "/api/v1/scopes/berlin", role="operator").status == 204


def test_people_decide_by_their_roles_and_each_deed_is_recorded(one: Fleet) -> None:
    server = one.server
    one.add(1, canary="1")
    one.add(1)
    assert server.call("POST", "/api/v1/rollouts", wanted(), role="viewer").status == 403
    made = server.post("/api/v1/rollouts", wanted(), role="operator")
    path = f"/api/v1/rollouts/{made['id']}"
    assert made["state"] == "WAITING_FOR_APPROVAL"
    assert server.call("POST", f"{path}/start", {}, role="operator").json()["code"] == "state"
    assert server.call("POST", f"{path}/approve", {"plan": made["plan"]}, role="operator").status == 403
    assert server.call("POST", f"{path}/approve", {"plan": "0"}, role="approver").json()["code"] == "plan-changed"
    for _ in range(2):  # the same person twice is one
        state = server.post(f"{path}/approve", {"plan": made["plan"]}, role="approver", status=200)
        assert state == {"state": "WAITING_FOR_APPROVAL"}
    assert server.post(f"{path}/approve", {"plan": made["plan"]}, status=200) == {"state": "READY"}
    assert one.states(made["id"]) == ["SCHEDULED", "SCHEDULED"]
    server.post(f"{path}/start", role="operator", status=200)
    one.step(made["id"])
    assert server.post(f"{path}/pause", {"reason": "lunch"}, role="operator", status=200) == {"state": "PAUSED"}
    one.step(made["id"], 3)
    assert one.due() == {}
    assert server.post(f"{path}/resume", {}, role="operator", status=200) == {"state": "RUNNING"}
    done = [each["action"] for each in server.get("/api/v1/audit?limit=1000")["items"] if each["subject"] == made["id"]]
    assert done[::-1] == [
        "rollout.create",
        *["rollout.approve"] * 3,
        *(f"rollout.{x}" for x in ("start", "pause", "resume")),
    ]
    listed = server.get("/api/v1/rollouts?limit=1")
    assert [each["id"] for each in listed["items"]] == [made["id"]]
    assert listed["next"] == ""  # nothing follows


def test_a_zero_day_takes_two_others_who_may_approve_still(one: Fleet) -> None:
    server = one.server
    one.add(1, canary="1")
    one.add(1)

    def person(name: str, role: RoleName) -> str:
        made = server.post("/api/v1/users", {"name": name, "role": role})
        context, caller = server.app.state.context, Principal(made["id"], name, role)
        server.tokens[name] = add_token(context, caller, TokenWanted(name, role)).secret
        return str(made["id"])

    gone, lowered = person("gone", "approver"), person("lowered", "approver")
    person("author", "admin")
    made = server.post("/api/v1/rollouts", wanted(), role="author")
    path, yes = f"/api/v1/rollouts/{made['id']}", {"plan": made["plan"]}

    def says_yes(who: str) -> str:
        return str(server.post(f"{path}/approve", yes, role=who, status=200)["state"])

    assert says_yes("gone") == "WAITING_FOR_APPROVAL"
    assert server.call("PATCH", f"/api/v1/users/{gone}", {"disabled": True}).status == 200
    assert says_yes("author") == "WAITING_FOR_APPROVAL"
    assert says_yes("lowered") == "WAITING_FOR_APPROVAL"
    assert server.call("PATCH", f"/api/v1/users/{lowered}", {"role": "operator"}).status == 200
    assert says_yes("approver") == "WAITING_FOR_APPROVAL"
    why = server.get(f"{path}/events")["items"][-1]["why"]
    assert (why["code"], why["values"]) == ("approval-missing", {"count": 1, "needed": 2})
    assert says_yes("admin") == "READY"


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"rings": [{"name": "all"}]}, 422, "canary-everyone"),
        ({"rings": [{"name": "x", "tag": "nobody"}, {"name": "rest"}]}, 422, "canary-empty"),
        ({"rings": [{"name": "x", "tag": "canary"}]}, 422, "ring-of-the-rest"),
        ({"selection": {"tags": {"no": "such"}}}, 422, "nobody-selected"),
        ({"selection": {"machines": ["f" * 32]}}, 422, "nobody-selected"),
        ({"budget": 0}, 422, "not-valid"),
        ({"lane": "emergency"}, 422, "not-valid"),
        ({"thresholds": {"success_percent": 101}}, 422, "not-valid"),
    ],
)
def test_plans_that_are_refused(one: Fleet, fields: dict[str, Any], status: int, code: str) -> None:
    one.add(1, canary="1")
    one.add(1)
    reply = one.server.call("POST", "/api/v1/rollouts", wanted(**fields), role="operator")
    assert (reply.status, reply.json()["code"]) == (status, code)


def test_a_machine_without_an_agent_is_in_no_rollout(one: Fleet) -> None:
    """Facts that were uploaded are heard of just now, and nobody can be told to do anything."""
    body = FACTS.read_bytes()
    assert one.server.call("PUT", "/api/v1/facts/uploaded", body).status == 200
    given = {**wanted(), "rings": [{"name": "canary", "percent": 50}, {"name": "rest"}]}
    assert one.server.post("/api/v1/rollouts/preview", given, status=200)["machines"] == 0
    assert one.server.call("POST", "/api/v1/rollouts", given).json()["code"] == "nobody-selected"
    one.add(3)
    assert one.server.post("/api/v1/rollouts/preview", given, status=200)["machines"] == 3


def test_what_no_server_has_begun_can_be_stopped(one: Fleet) -> None:
    one.add(1, canary="1")
    one.add(1)
    identity = begun(one.server, lane="zero-day")
    assert _rollout(one, identity)["state"] == "STARTING"
    one.server.post(f"/api/v1/rollouts/{identity}/stop", {"reason": "withdrawn"}, role="operator", status=200)
    assert one.step(identity) == "STOPPED"
    assert one.due() == {}
