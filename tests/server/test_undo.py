"""Taking a rollout back: of each machine what its action brought, again where it fails, and with an end that tells."""

from __future__ import annotations

import re
from datetime import timedelta

import msgspec
import pytest
import sqlalchemy as sa

from hotmend.agent.record.history import (
    Action,
    AnyEvent,
    DiskEnded,
    Ordered,
    OrderEnded,
    Quarantined,
    Reverted,
    RunBegan,
    RunEnded,
)
from hotmend.agent.uplink.undoing import Brought, brought
from hotmend.server.machines.tables import actions, machines
from hotmend.servicing.actions import State
from hotmend.servicing.rollouts import Event, advance
from hotmend.servicing.rollouts import State as RolloutState
from hotmend.wire.messages import Kind, Order, Reached, encode
from tests.server.fleet import Fleet, begun
from tests.server.machine import registration_key, report, simple
from tests.server.portal.conftest import Person
from tests.server.running import Running

A, B = "a" * 32, "b" * 32


@pytest.fixture
def one(server: Running) -> Fleet:
    return Fleet(server)


# --- what an order brought --------------------------------------------------------------------------------


def _run(name: str, *ends: Action, trigger: str = "order", order: str = A) -> list[AnyEvent]:
    """Return the lines of a run; by an order with that, as the agent writes them."""
    updates = tuple(each.update for each in ends)
    lines: list[AnyEvent] = [RunBegan(run=name, trigger=trigger, source="apt", updates=updates, until=None)]
    for each in ends:
        lines.append(Action(run=name, update=each.update, state=State.VERIFYING))
        lines.append(msgspec.structs.replace(each, run=name))
    lines.append(RunEnded(run=name, outcome=State.SUCCEEDED))
    if trigger != "order":
        return lines
    return [Ordered(order=order, kind="install"), *lines, OrderEnded(order=order, state=State.SUCCEEDED)]


def _good(update: str, *ids: str) -> Action:
    return Action(update=update, state=State.SUCCEEDED, hotpatches=ids or (f"id-{update}",))


def _names(found: Brought | None) -> tuple[list[str], list[str]]:
    assert found is not None
    return [each.update for each in found.updates], list(found.hotpatches)


def test_what_was_there_before_an_order_was_not_brought_by_it() -> None:
    before = _run("r0", _good("nginx=1"), order=B) + _run("s0", _good("redis=1"), trigger="schedule")
    again = _run("r1", _good("nginx=1"), _good("openssl=2", "id-openssl=2", "id-redis=1"))
    events = before + again + _run("s1", _good("curl=3"), trigger="schedule")
    assert _names(brought(events, A)) == (["openssl=2"], ["id-openssl=2"])
    assert _names(brought(events, B)) == (["nginx=1"], ["id-nginx=1"])
    assert brought(events, "c" * 32) is None


def test_what_was_taken_back_before_is_brought_when_it_comes_again() -> None:
    before = _run("r0", _good("nginx=1"), _good("redis=1"), order=B)
    for gone in (
        [Reverted(hotpatches=("id-nginx=1",), processes=())],
        [Quarantined(update="nginx=1", reason="bad"), Quarantined(update="nginx=1", reason="", lifted=True)],
        [Quarantined(update="id-nginx=1", reason="bad")],
    ):
        events = [*before, *gone, *_run("r1", _good("nginx=1"), _good("redis=1"))]
        assert _names(brought(events, A)) == (["nginx=1"], ["id-nginx=1"])


def test_an_order_that_was_cut_off_has_all_its_runs_and_no_run_of_others() -> None:
    cut: list[AnyEvent] = [
        Ordered(order=A, kind="install"),
        RunBegan(run="r1", trigger="order", source="apt", updates=("nginx=1",), until=None),
        Action(run="r1", update="nginx=1", state=State.APPLYING, hotpatches=("id-nginx=1",)),
    ]
    ended: list[AnyEvent] = [
        Action(run="r1", update="nginx=1", state=State.CANCELED, detail="cut off"),
        *_run("s1", _good("redis=1"), trigger="schedule"),
        *_run("r2", _good("curl=3")),
    ]
    assert _names(brought(cut, A)) == (["nginx=1"], ["id-nginx=1"])
    assert _names(brought(cut + ended, A)) == (["nginx=1", "curl=3"], ["id-nginx=1", "id-curl=3"])


def test_what_changed_nothing_was_not_brought_and_the_disk_is_told() -> None:
    blocked = Action(update="redis=1", state=State.BLOCKED, hotpatches=("id-redis=1",))
    events = _run(
        "r1", blocked, Action(update="curl=3", state=State.FAILED), Action(update="vim=1", state=State.SUCCEEDED)
    )
    events[-2:-2] = [DiskEnded(run="r1", updates=("vim=1",)), DiskEnded(run="r1", updates=("x=1",), error="full")]
    found = brought(events, A)
    assert _names(found) == (["vim=1"], [])
    assert found is not None
    assert found.disk == ("vim=1",)


# --- what a machine is told -------------------------------------------------------------------------------


def test_an_older_agent_is_never_told_to_take_everything_back(either_server: Running) -> None:
    server = either_server
    canary = simple(server, "one", registration_key(server, tags={"canary": "1"}))
    simple(server, "two")
    for updates in ([], ["nginx=2"]):
        canary.check_in(report=report(alerts=()))
        identity = begun(server, name=f"of {updates}", updates=updates)
        path = f"/api/v1/rollouts/{identity}"
        _steps(server, identity)
        (order,) = canary.check_in().orders
        canary.check_in(reached=(Reached(order.id, State.FAILED, server.clock()),))
        server.post(f"{path}/roll-back", {}, role="operator", status=200)
        _steps(server, identity)
        (back,) = canary.check_in().orders
        assert (back.undoes, back.emergency, list(back.updates)) == (order.id, True, updates)
        # Its word is one that older agents do not know, and then do nothing; or they take back what is named.
        told = msgspec.json.decode(encode(back))
        assert (told["kind"], told["updates"]) == (("revert", updates) if updates else ("undo", []))
        canary.check_in(reached=(Reached(back.id, State.BLOCKED, server.clock(), "update it"),))
        _steps(server, identity)
        shown = server.get(path)
        assert (shown["state"], shown["why"]["values"]) == ("ROLLED_BACK", {"n": 1})
    assert msgspec.json.decode(encode(Order(A, Kind.UNDO)), type=Order).undoes is None


def _steps(server: Running, identity: str) -> None:
    fleet = Fleet(server)
    fleet.step(identity, 3)


def test_a_person_takes_back_what_an_action_brought(one: Fleet) -> None:
    (machine, other) = one.add(2)
    path = f"/api/v1/machines/{machine}/actions"
    quarantine = one.server.post(path, {"kind": "quarantine", "updates": ["x=1"]}, status=202)["id"]
    for undoes, kind in ((A, "revert"), (quarantine, "revert"), (A, "assess")):
        reply = one.server.call("POST", path, {"kind": kind, "undoes": undoes})
        assert (reply.status, reply.json()["code"]) == (422, "undoes")
    with one.database.write() as connection:
        connection.execute(sa.update(actions).where(actions.c.id == quarantine).values(kind="install"))
    made = one.server.post(path, {"kind": "revert", "undoes": quarantine}, status=202)
    assert (made["undoes"], one.server.get(f"/api/v1/actions/{made['id']}")["undoes"]) == (quarantine, quarantine)
    reply = one.server.call("POST", path.replace(machine, other), {"kind": "revert", "undoes": quarantine})
    assert (reply.status, reply.json()["code"]) == (422, "undoes")


# --- how taking back ends ---------------------------------------------------------------------------------


def _rolling(one: Fleet, count: int, **fields: object) -> tuple[str, dict[str, str]]:
    """Return a rollout whose canaries are done and that is being taken back, and the action of each machine."""
    one.add(count, canary="1")
    one.add(1)
    identity = begun(one.server, **fields)
    one.step(identity, 3)
    done = one.due()
    assert one.finish() == count
    one.server.post(f"/api/v1/rollouts/{identity}/roll-back", {"reason": "bad"}, role="operator", status=200)
    assert one.step(identity, 2) == "ROLLING_BACK"
    return identity, done


def _why(one: Fleet, identity: str) -> object:
    why = one.server.get(f"/api/v1/rollouts/{identity}")["why"]
    return (why["code"], why["values"]["n"]) if why else None


def test_a_revert_that_failed_is_tried_again_and_then_it_is_said(one: Fleet) -> None:
    identity, done = _rolling(one, 2, updates=[])
    first, second = one.due().items()
    with one.database.read() as connection:
        query = sa.select(actions.c.machine_id, actions.c.undoes).where(actions.c.kind == "revert")
        assert {row.machine_id: row.undoes for row in connection.execute(query)} == done
    one.report(first[1], State.SUCCEEDED_WITH_WARNINGS)
    one.report(second[1], State.FAILED)
    for again in (1, 2):
        assert one.step(identity, 2) == "ROLLING_BACK"
        assert one.due() == {}  # not at once
        one.later(minutes=5)
        assert one.step(identity, 2) == "ROLLING_BACK", again
        ((machine, action),) = one.due().items()
        assert machine == second[0]
        one.report(action, State.FAILED)
    assert one.step(identity) == "ROLLED_BACK"
    assert _why(one, identity) == ("not-taken-back", 1)
    assert one.due() == {}
    assert _decisions(one, identity) == ["Rollout october: machines that are not taken back: 1"]
    with one.database.write() as connection:  # a machine that has left needs nobody
        connection.execute(sa.update(machines).where(machines.c.id == second[0]).values(state="left"))
    assert _decisions(one, identity) == []


def test_all_taken_back_is_nothing_to_decide(one: Fleet) -> None:
    identity, _ = _rolling(one, 2)
    assert one.finish() == 2
    assert one.step(identity) == "ROLLED_BACK"
    assert _why(one, identity) is None
    assert _decisions(one, identity) == []


def test_a_machine_that_knows_nothing_of_what_it_said_it_did_is_not_taken_back(one: Fleet) -> None:
    one.add(3, canary="1")
    one.add(1)
    identity = begun(one.server)
    one.step(identity, 3)
    lost, _, waits = one.due().values()
    path = f"/api/v1/rollouts/{identity}"
    one.server.post(f"{path}/pause", {}, role="operator", status=200)
    _event(one, lost, State.PRECHECK)
    _event(one, lost, State.SUCCEEDED)
    _event(one, waits, State.PRECHECK)
    _event(one, waits, State.WAITING_WINDOW)
    one.server.post(f"{path}/roll-back", {}, role="operator", status=200)
    one.step(identity)
    one.due()
    with one.database.read() as connection:
        reverts = list(connection.scalars(sa.select(actions.c.id).where(actions.c.kind == "revert")))
    assert len(reverts) == 3
    for revert in reverts:
        one.report(revert, State.NOT_APPLICABLE)
    assert one.step(identity) == "ROLLING_BACK"  # two may act on what they were told, as far as anybody knows
    one.later(hours=3)
    one.step(identity)
    assert one.step(identity) == "ROLLED_BACK"
    assert _why(one, identity) == ("not-taken-back", 1)


def _event(one: Fleet, action: str, state: State) -> None:
    from hotmend.server.machines.contact import set_state

    with one.database.write() as connection:
        set_state(connection, action, state, "", one.now())


def test_a_machine_that_never_returns_does_not_hold_it_open_for_ever(one: Fleet) -> None:
    identity, _ = _rolling(one, 2)
    first, second = one.due().values()
    one.report(first, State.SUCCEEDED)
    one.server.clock.ahead += timedelta(days=3)
    assert one.step(identity, 2) == "ROLLING_BACK"
    assert f'action="/rollouts/{identity}/stop"' in _page(one, f"/rollouts/{identity}")
    one.server.post(f"/api/v1/rollouts/{identity}/stop", {"reason": "scrapped"}, role="operator", status=200)
    assert one.step(identity, 2) == "STOPPED"
    assert _why(one, identity) == ("not-taken-back", 1)
    assert _decisions(one, identity) == ["Rollout october: machines that are not taken back: 1"]
    assert list(one.due().values()) == [second]  # where it does return, it is taken back
    one.report(second, State.SUCCEEDED)
    assert _decisions(one, identity) == []


def test_what_rolls_back_may_be_stopped() -> None:
    assert advance(RolloutState.ROLLING_BACK, Event.STOPPED) is RolloutState.STOPPING


def _page(one: Fleet, path: str) -> str:
    person = Person(one.server)
    person.sign_in("operator")
    return person.get(path).body.decode()


def _decisions(one: Fleet, identity: str) -> list[str]:
    return re.findall(f'<a href="/rollouts/{identity}">([^<]*)</a>', _page(one, "/"))
