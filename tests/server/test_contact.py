"""Enrolment and check-in over HTTP: who is taken in, who is heard, what is told, what two hosts with one key get."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from hotmend.agent.census.alerts import AlertCode
from hotmend.server.machines import fleet, store
from hotmend.server.machines.contact import Received, take
from hotmend.server.machines.tables import action_events, actions, brake, contacts, findings, machines, policies
from hotmend.servicing.actions import State
from hotmend.wire.keys import PublicKey, SigningKey
from hotmend.wire.messages import (
    CHECK_IN_PATH,
    ENROL_PATH,
    ORDERS_MAX,
    Answer,
    CheckIn,
    Host,
    Reached,
    decode_answer,
    encode,
)
from hotmend.wire.policy import open_policy
from hotmend.wire.report import DUE, OF_SERVER, Finding, Fixed, Notice, report_hash
from hotmend.wire.signing import parse, request_headers
from tests.server.machine import Simple, hashed, host, registration_key, report, simple
from tests.server.running import Running


@pytest.fixture
def server(either_server: Running) -> Iterator[Running]:
    return either_server  # type: ignore[return-value]


def _plan(machine: Simple, **fields: Any) -> str:
    now = machine.server.clock()
    values = {
        "machine_id": machine.id,
        "kind": "install",
        "updates": ["nginx=2"],
        "created_by": "test",
        "created_at": now,
        "due_at": now,
        "changed_at": now,
    }
    with machine.server.database.write() as connection:
        return store.insert_action(connection, values | fields)


def _state(machine: Simple, action: str) -> tuple[str, list[str]]:
    with machine.server.database.read() as connection:
        state = connection.execute(sa.select(actions.c.state).where(actions.c.id == action)).scalar_one()
        query = sa.select(action_events.c.state).where(action_events.c.action_id == action)
        return state, list(connection.execute(query.order_by(action_events.c.number)).scalars())


def _halt(server: Running, reason: str) -> None:
    with server.database.write() as connection:
        connection.execute(sa.delete(brake))
        values = {"id": 1, "halted": bool(reason), "reason": reason, "by": "test", "at": datetime.now(UTC)}
        connection.execute(sa.insert(brake).values(values))


# --- taken in ---------------------------------------------------------------------------------------------


def test_a_registration_key_is_good_for_so_many_and_so_long(server: Running) -> None:
    twice = registration_key(server, uses=2, hours=1)
    simple(server, "a", twice)
    simple(server, "b", twice)
    third = Simple(server, "c", host("c"))
    reply = third.send(ENROL_PATH, third.asking(twice), who=third.key.public)
    assert (reply.status, reply.json()["code"]) == (403, "registration-key")
    short = registration_key(server, hours=1)
    server.clock.ahead = timedelta(hours=1)
    assert third.send(ENROL_PATH, third.asking(short), who=third.key.public).status == 403
    server.clock.ahead = timedelta()
    listed = server.get("/api/v1/registration-keys")["items"]
    assert [each["uses"] for each in listed] == [0, 2]
    revoked = server.post("/api/v1/registration-keys", {"name": "r"})
    assert server.call("DELETE", f"/api/v1/registration-keys/{revoked['id']}").status == 204
    assert third.send(ENROL_PATH, third.asking(revoked["secret"]), who=third.key.public).status == 403


def test_many_that_come_at_once_are_no_more_than_the_key_is_for(server: Running) -> None:
    key = registration_key(server, uses=5)
    asking = [Simple(server, f"m{number}", host(f"m{number}")) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda each: each.send(ENROL_PATH, each.asking(key), who=each.key.public), asking))
    assert sorted(reply.status for reply in replies) == [200] * 5 + [403] * 7


def test_a_machine_comes_with_the_keys_tier_and_tags(server: Running) -> None:
    machine = simple(server, "a", registration_key(server, tier="canary", tags={"site": "berlin"}))
    with server.database.read() as connection:
        row = store.machine(connection, machine.id)
        tags = store.tags_of(connection, [machine.id])
    assert row is not None
    assert (row["tier"], row["state"], tags[machine.id]) == ("canary", "active", {"site": "berlin"})


def test_who_enrols_must_have_the_key_it_registers(server: Running) -> None:
    server.clock.hold()  # a second later, what is 301 seconds ahead is 300
    key = registration_key(server)
    machine = Simple(server, "a", host("a"))
    asking = machine.asking(key)
    other = SigningKey.generate()
    stolen = Simple(server, "a", host("a"), key=other)
    assert stolen.send(ENROL_PATH, asking, who=other.public).json()["code"] == "not-this-key"
    assert stolen.send(ENROL_PATH, asking, who=machine.key.public).json()["code"] == "signature"
    assert machine.send(ENROL_PATH, asking, who=machine.key.public, late=301).json()["code"] == "clock"
    assert machine.send(ENROL_PATH, asking, who=machine.key.public, late=-301).json()["code"] == "clock"


def test_a_machine_that_waits_is_told_nothing(server: Running) -> None:
    machine = Simple(server, "a", host("a"))
    enrolled = machine.enrol(registration_key(server, approval=True))
    assert not enrolled.approved
    assert enrolled.why
    action = _plan(machine)
    answer = machine.check_in()
    assert (answer.approved, answer.orders, answer.policy) == (False, (), None)
    assert server.call("POST", f"/api/v1/machines/{machine.id}/approve", role="operator").status == 403
    server.post(f"/api/v1/machines/{machine.id}/approve", role="approver", status=200)
    answer = machine.check_in()
    assert answer.approved
    assert [order.id for order in answer.orders] == [action]


# --- clones -----------------------------------------------------------------------------------------------


def test_a_copy_of_a_machine_that_enrols_waits_for_somebody(server: Running) -> None:
    machine = simple(server, "a")
    copy = Simple(server, "b", Host(machine.host.machine, hashed("other hardware")))
    enrolled = copy.enrol(registration_key(server))
    assert not enrolled.approved
    assert "clone" in enrolled.why
    assert machine.check_in().approved


def test_a_host_that_enrols_again_is_the_same_machine_with_another_key(server: Running) -> None:
    machine = simple(server, "a")
    machine.check_in()
    again, enrolled = machine.again(registration_key(server))
    assert enrolled.approved
    assert again.id == machine.id
    again.check_in()
    assert machine.send(CHECK_IN_PATH, CheckIn(machine.host)).status == 401
    kinds = [each["kind"] for each in server.get(f"/api/v1/machines/{machine.id}/events")["items"]]
    assert kinds == ["key-changed", "enrolled", "enrolled"]


def test_a_host_whose_first_answer_was_lost_enrols_again(server: Running) -> None:
    lost = simple(server, "a")
    again = Simple(server, "a", lost.host)
    assert again.enrol(registration_key(server)).approved
    assert again.id == lost.id
    assert lost.send(CHECK_IN_PATH, CheckIn(lost.host)).status == 401
    waits = Simple(server, "b", host("b"))
    waits.enrol(registration_key(server, approval=True))
    once_more = Simple(server, "b", host("b"))
    assert not once_more.enrol(registration_key(server)).approved
    assert once_more.id == waits.id


def test_who_says_the_same_of_itself_takes_no_machine_over(server: Running) -> None:
    """A thief with a registration key that asks for nobody, and what a host says of itself."""
    machine = simple(server, "a")
    machine.check_in()
    thief = Simple(server, "a", machine.host)
    enrolled = thief.enrol(registration_key(server))
    assert not enrolled.approved
    assert enrolled.machine != machine.id
    assert "its key has not signed" in enrolled.why
    action = _plan(machine)
    assert thief.check_in().orders == ()
    assert [order.id for order in machine.check_in().orders] == [action]
    assert machine.state() == "active"
    first = server.get(f"/api/v1/machines/{machine.id}/events")["items"][0]
    assert (first["kind"], first["detail"]) == ("clone", "a says that it is this host, and has not its key")


def test_a_signature_that_is_not_of_the_key_before_proves_nothing(server: Running) -> None:
    key, machine, other = registration_key(server), simple(server, "a"), simple(server, "b")
    machine.check_in()
    for changed in (
        {"signature": SigningKey.generate().sign(b"x").hex()},
        {"counter": machine.counter + 9},
        {"machine": other.id},
        {"machine": "f" * 32},
    ):
        new, enrolled = machine.again(key, **changed)
        assert not enrolled.approved, changed
        assert new.id != machine.id
    assert (machine.state(), other.state()) == ("active", "active")
    assert machine.check_in().approved


def test_a_copy_with_the_key_that_enrols_again_is_noticed(server: Running) -> None:
    machine = simple(server, "a")
    machine.check_in()
    copy = Simple(server, "a", machine.host, machine.key, machine.counter, machine.id)
    machine.check_in()
    machine.check_in()
    new, enrolled = copy.again(registration_key(server))
    assert not enrolled.approved
    assert new.id != machine.id
    assert machine.state() == "suspect"


def test_a_host_that_lost_its_keys_waits_and_an_administrator_decides(server: Running) -> None:
    machine = simple(server, "a")
    machine.check_in()
    anew = Simple(server, "a", machine.host)
    assert not anew.enrol(registration_key(server)).approved
    server.post(f"/api/v1/machines/{anew.id}/approve", role="approver", status=200)
    assert server.call("DELETE", f"/api/v1/machines/{machine.id}", role="approver").status == 204
    assert anew.check_in().approved
    again, enrolled = anew.again(registration_key(server))
    assert (again.id, enrolled.approved) == (anew.id, True)


def test_a_key_that_asks_for_approval_lets_no_host_in_without(server: Running) -> None:
    machine = simple(server, "a")
    machine.check_in()
    again, enrolled = machine.again(registration_key(server, approval=True))
    assert (again.id, enrolled.approved) == (machine.id, False)
    assert "asks for approval" in enrolled.why
    assert not again.check_in().approved


def test_an_enrolment_that_is_sent_again_sets_no_counter_back(server: Running) -> None:
    machine = simple(server, "a")
    message, key = machine.asking(registration_key(server)), machine.key.public
    machine.check_in()
    assert machine.send(ENROL_PATH, message, who=key, counter=1).json()["code"] == "key-taken"
    assert machine.send(CHECK_IN_PATH, CheckIn(machine.host), counter=2, late=60).json()["code"] == "replayed"


def test_a_host_of_unknown_hardware_is_taken_for_a_clone(server: Running) -> None:
    machine = Simple(server, "a", Host(hashed("id")))
    assert machine.enrol(registration_key(server)).approved
    again = Simple(server, "a", Host(hashed("id")))
    assert not again.enrol(registration_key(server)).approved


def test_two_hosts_with_one_key_are_noticed_and_told_nothing(server: Running) -> None:
    machine = simple(server, "a")
    machine.check_in()
    copy = Simple(server, "a", machine.host, machine.key, machine.counter, machine.id)
    _plan(machine)
    server.clock.ahead += timedelta(seconds=60)
    machine.check_in()
    server.clock.ahead += timedelta(seconds=30)
    reply = copy.send(CHECK_IN_PATH, CheckIn(copy.host))
    assert (reply.status, reply.json()["code"]) == (409, "suspect")
    answer = machine.check_in()
    assert (answer.approved, answer.orders) == (False, ())
    assert machine.state() == "suspect"


def test_a_key_on_other_hardware_is_noticed(server: Running) -> None:
    machine = simple(server, "a")
    moved = Simple(server, "a", Host(machine.host.machine, hashed("new")), machine.key, machine.counter, machine.id)
    assert moved.send(CHECK_IN_PATH, CheckIn(moved.host)).json()["code"] == "suspect"
    assert machine.state() == "suspect"


def test_a_replay_changes_nothing(server: Running) -> None:
    machine = simple(server, "a")
    machine.check_in()
    old = machine.counter
    machine.check_in()
    reply = machine.send(CHECK_IN_PATH, CheckIn(machine.host), counter=old, late=60)
    assert (reply.status, reply.json()["code"]) == (409, "replayed")
    reply = machine.send(CHECK_IN_PATH, CheckIn(machine.host), counter=machine.counter, late=60)
    assert reply.json()["code"] == "replayed"  # signed at the same moment or before, however long the test takes
    assert machine.state() == "active"


@pytest.mark.parametrize("late", [301, -301])
def test_a_clock_that_is_wrong_is_told(server: Running, late: int) -> None:
    server.clock.hold()
    machine = simple(server, "a")
    assert machine.send(CHECK_IN_PATH, CheckIn(machine.host), late=late).json()["code"] == "clock"


def test_who_has_no_key_is_nobody(server: Running) -> None:
    machine = simple(server, "a")
    other = Simple(server, "a", machine.host, SigningKey.generate(), 5, machine.id)
    assert other.send(CHECK_IN_PATH, CheckIn(machine.host)).status == 401
    body = encode(CheckIn(machine.host))
    assert server.call("POST", CHECK_IN_PATH, body, role=None).json()["code"] == "not-signed"
    assert server.call("GET", CHECK_IN_PATH, role=None).status == 405
    assert machine.send(CHECK_IN_PATH, CheckIn(machine.host), who="f" * 32).status == 401
    assert machine.state() == "active"


def test_what_is_no_message_stops_nobody_else(server: Running) -> None:
    machine = simple(server, "a")
    assert machine.send(CHECK_IN_PATH, b"{").status == 400
    nul = encode(CheckIn(machine.host, "a\0b"))
    assert machine.send(CHECK_IN_PATH, nul).status == 400
    assert machine.send(CHECK_IN_PATH, b"x" * ((2 << 20) + 1)).status == 413
    machine.check_in()


def test_many_at_once_are_all_answered(server: Running) -> None:
    key = registration_key(server)
    several = [simple(server, f"m{number}", key) for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        for _ in range(3):
            answers = list(pool.map(lambda each: each.check_in(), several))
            assert [answer.machine for answer in answers] == [each.id for each in several]
    with server.database.read() as connection:
        assert all(row["seen_at"] is not None for row in connection.execute(store.listing()).mappings())


# --- what it says -----------------------------------------------------------------------------------------


def test_a_report_is_sent_when_it_has_changed(server: Running) -> None:
    machine = simple(server, "a")
    first = report()
    assert machine.check_in(report_hash=report_hash(first)).want_report
    assert not machine.check_in(report_hash=report_hash(first), report=first).want_report
    assert not machine.check_in(report_hash=report_hash(first)).want_report
    second = report(level="2026-11", restarts=())
    assert machine.check_in(report_hash=report_hash(second)).want_report
    machine.check_in(report_hash=report_hash(second), report=second)
    with server.database.read() as connection:
        row = store.machine(connection, machine.id)
        body = store.report_body(connection, machine.id)
    assert row is not None
    assert (row["level"], row["line"], row["restarts_due"], row["reboot_due"]) == ("2026-11", "on", 0, False)
    assert body == msgspec.json.encode(second)


def test_a_finding_keeps_since_when_it_is_there(server: Running) -> None:
    machine = simple(server, "a")
    old = Finding("CVE-1", Fixed.ON_DISK, 5, "redis", "redis.service", "/usr/bin/redis", "redis=2")
    machine.check_in(report=report(findings=(old,)))
    server.clock.ahead = timedelta(hours=1)
    new = msgspec.structs.replace(old, cve="CVE-2")
    machine.check_in(report=report(findings=(new, old)))
    with server.database.read() as connection:
        rows = {row["cve"]: row for row in store.findings_of(connection, machine.id)}
    assert rows["CVE-2"]["since"] - rows["CVE-1"]["since"] >= timedelta(minutes=59)
    machine.check_in(report=report(findings=()))
    with server.database.read() as connection:
        assert connection.execute(sa.select(findings)).all() == []


# --- what it is told --------------------------------------------------------------------------------------


def test_an_action_goes_its_way_and_never_back(server: Running) -> None:
    machine = simple(server, "a")
    action = _plan(machine, anytime=True, reason="now")
    (order,) = machine.check_in().orders
    assert (order.id, order.kind, order.updates, order.anytime) == (action, "install", ("nginx=2",), True)
    now = server.clock()
    some = (Reached(action, State.PRECHECK, now), Reached(action, State.APPLYING, now, "nginx"))
    answer = machine.check_in(reached=some)
    assert answer.confirmed == (action,)
    machine.check_in(reached=(Reached(action, State.PRECHECK, now),))
    end = (Reached(action, State.SUCCEEDED, now), Reached(action, State.FAILED, now))
    assert machine.check_in(reached=end).orders == ()
    told = ["SCHEDULED", "PRECHECK", "APPLYING", "SUCCEEDED"]
    assert _state(machine, action) == ("SUCCEEDED", told)
    machine.check_in(reached=end)
    assert _state(machine, action) == ("SUCCEEDED", told)


def test_no_machine_speaks_of_anothers_actions(server: Running) -> None:
    machine, other = simple(server, "a"), simple(server, "b")
    action = _plan(machine)
    assert other.check_in(reached=(Reached(action, State.SUCCEEDED, server.clock()),)).confirmed == (action,)
    assert _state(machine, action) == ("SCHEDULED", ["SCHEDULED"])
    assert other.check_in().orders == ()


def _received(machine: Simple, **fields: Any) -> Received:
    """Return a check-in as the server has it when many come together."""
    machine.counter += 1
    message = CheckIn(machine.host, "1", **fields)
    body, created = encode(message), int(machine.server.clock().timestamp())
    headers = request_headers(
        machine.key, machine.id, "POST", CHECK_IN_PATH, body, created=created, counter=machine.counter
    )
    signed = parse(headers["Signature-Input"], headers["Signature"])
    assert signed is not None
    return Received(signed, message, body)


def test_no_machine_speaks_for_another_that_comes_at_the_same_moment(server: Running) -> None:
    machine, other = simple(server, "a"), simple(server, "b")
    action = _plan(machine)
    machine.check_in()
    failed = Reached(action, State.FAILED, server.clock(), "disk full")
    claimed = Reached(action, State.PRECHECK, server.clock())
    batch = [_received(machine, reached=(failed,)), _received(other, reached=(claimed,))]
    assert all(isinstance(each, Answer) for each in take(server.app.state.context, batch))
    assert _state(machine, action) == ("FAILED", ["SCHEDULED", "FAILED"])


def test_a_letter_has_so_many_orders_and_the_others_are_not_told(server: Running) -> None:
    machine = simple(server, "a")
    planned = {_plan(machine, updates=[f"nginx={number}"]) for number in range(ORDERS_MAX + 2)}
    told = {order.id for order in machine.check_in().orders}
    assert len(told) == ORDERS_MAX
    first, second = planned - told
    assert server.call("POST", f"/api/v1/actions/{first}/cancel").status == 200
    done = next(iter(told))
    ended = (Reached(done, State.SUCCEEDED, server.clock()),)
    assert {order.id for order in machine.check_in(reached=ended).orders} == told - {done} | {second}


def test_what_is_not_due_or_too_late_is_not_told(server: Running) -> None:
    machine = simple(server, "a")
    now = server.clock()
    _plan(machine, due_at=now + timedelta(hours=1))
    late = _plan(machine, until=now - timedelta(seconds=1))
    assert machine.check_in().orders == ()
    assert _state(machine, late)[0] == "TIMED_OUT"
    server.clock.ahead = timedelta(hours=1, seconds=1)
    assert len(machine.check_in().orders) == 1


def test_halt_holds_at_the_next_check_in_and_lets_emergencies_through(server: Running) -> None:
    machine = simple(server, "a")
    _plan(machine)
    emergency = _plan(machine, kind="revert", emergency=True)
    assert machine.check_in().orders[0].id == emergency
    _halt(server, "a bad release")
    answer = machine.check_in()
    assert (answer.halted, [order.id for order in answer.orders]) == ("a bad release", [emergency])
    _halt(server, "")
    answer = machine.check_in()
    assert (answer.halted, len(answer.orders)) == ("", 2)


def test_a_policy_is_sent_once_and_signed_anew_before_it_ends(server: Running) -> None:
    machine = simple(server, "a")
    answer = machine.check_in()
    assert answer.policy is not None
    policy = open_policy(answer.policy, PublicKey(server.app.state.context.key.public))
    assert policy.expires_at - policy.issued_at == timedelta(days=14)
    assert machine.check_in(policy=answer.policy_hash).policy is None
    server.clock.ahead = timedelta(days=4)
    later = machine.check_in(policy=answer.policy_hash)
    assert later.policy is not None
    renewed = open_policy(later.policy, PublicKey(server.app.state.context.key.public))
    assert renewed.serial == policy.serial + 1
    assert renewed.expires_at > policy.expires_at
    with server.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(policies)).scalar_one() == 1


# --- gone -------------------------------------------------------------------------------------------------


def test_who_leaves_is_forgotten_as_a_speaker(server: Running) -> None:
    machine = simple(server, "a")
    action = _plan(machine)
    assert machine.leave().status == 200
    assert _state(machine, action)[0] == "CANCELED"
    assert machine.send(CHECK_IN_PATH, CheckIn(machine.host)).status == 401
    assert machine.leave().status == 401
    again = Simple(server, "a", machine.host)
    assert again.enrol(registration_key(server)).approved
    assert again.id != machine.id
    with server.database.read() as connection:
        assert connection.execute(sa.select(machines.c.state).where(machines.c.id == machine.id)).scalar_one() == "left"


# --- another version --------------------------------------------------------------------------------------


def test_an_agent_of_a_later_version_is_understood(server: Running) -> None:
    """It has fields, states and places of a fix that are not known here: nothing of them counts, the rest does."""
    machine = simple(server)
    action = str(server.post(f"/api/v1/machines/{machine.id}/actions", {"kind": "assess"}, status=202)["id"])
    machine.check_in()
    now = server.clock().isoformat()
    said = msgspec.json.decode(encode(CheckIn(machine.host, "99", report_hash(report()), report())))
    said["mood"] = "good"
    said["report"]["later"] = {"a": 1}
    said["report"]["findings"][0] |= {"fixed": "in-firmware", "since": now}
    states = ("PRECHECK", "LEVITATING", "APPLYING")
    said["reached"] = [{"action": action, "state": state, "at": now, "by": "magic"} for state in states]
    answer = decode_answer(machine.send(CHECK_IN_PATH, msgspec.json.encode(said)).body)
    assert answer.confirmed == (action,)
    shown = server.get(f"/api/v1/machines/{machine.id}")
    assert shown["report"]["findings"][0]["fixed"] == "nowhere"
    assert shown["machine"]["agent"] == "99"
    steps = server.get(f"/api/v1/actions/{action}")["steps"]
    assert [step["state"] for step in steps] == ["SCHEDULED", "PRECHECK", "APPLYING"]


def test_an_agent_of_an_earlier_version_is_understood(server: Running) -> None:
    """It says nothing of what came later."""
    machine = simple(server)
    said = msgspec.json.encode({"host": {"machine": machine.host.machine}})
    answer = decode_answer(machine.send(CHECK_IN_PATH, said).body)
    assert (answer.approved, answer.want_report) == (True, False)


def test_what_is_due_is_no_sign_that_a_machine_is_ill(server: Running) -> None:
    assert set(AlertCode) > DUE | OF_SERVER
    machine = simple(server)
    machine.check_in(report=report(alerts=tuple(Notice(code, "due") for code in sorted(DUE))))
    assert server.get(f"/api/v1/machines/{machine.id}")["machine"]["alerts"] == 0
    machine.check_in(report=report(alerts=(Notice("update-waiting", "due"), Notice("crash-in-new-code", "ill"))))
    assert server.get(f"/api/v1/machines/{machine.id}")["machine"]["alerts"] == 1


# --- looks ------------------------------------------------------------------------------------------------


def _looked(machine: Simple) -> tuple[datetime | None, datetime | None]:
    with machine.server.database.read() as connection:
        query = sa.select(contacts.c.looked_at, contacts.c.look_by).where(contacts.c.machine_id == machine.id)
        row = connection.execute(query).one()
        return row.looked_at, row.look_by


def _shown(machine: Simple) -> datetime:
    return datetime.fromisoformat(machine.server.get(f"/api/v1/machines/{machine.id}")["machine"]["looked_at"])


def test_a_look_counts_where_its_report_is_here(server: Running) -> None:
    machine = simple(server)
    now = server.clock()
    half_past = now - timedelta(minutes=30)
    looked = {"looked_at": half_past, "look_minutes": 60}
    machine.check_in(report_hash=report_hash(report()), **looked)
    assert _looked(machine) == (None, None)  # the report was asked for
    machine.check_in(report_hash=report_hash(report()), report=report(), **looked)
    at, by = _looked(machine)
    assert at is not None
    assert abs(at - half_past) < timedelta(seconds=30)
    assert by == at + timedelta(minutes=180)
    assert _shown(machine) == at
    server.clock.ahead = timedelta(minutes=20)  # the same look, told again
    machine.check_in(report_hash=report_hash(report()), **looked)
    assert abs(_shown(machine) - at) < timedelta(seconds=30)
    machine.check_in(report_hash=hashed("another report"), looked_at=server.clock(), look_minutes=60)
    assert abs(_shown(machine) - at) < timedelta(seconds=30)
    machine.check_in(report_hash=report_hash(report()))  # an earlier version was put there
    assert _looked(machine) == (None, None)


def test_a_look_is_as_old_as_the_machine_says_whatever_its_clock(server: Running) -> None:
    machine = simple(server)
    machine.check_in(report=report())
    behind = server.clock() - timedelta(seconds=200)
    message = CheckIn(machine.host, report_hash=report_hash(report()), looked_at=behind - timedelta(seconds=60))
    assert machine.send(CHECK_IN_PATH, message, late=200).status == 200
    at, by = _looked(machine)
    assert at is not None
    assert timedelta(seconds=50) < server.clock() - at < timedelta(seconds=100)
    assert by is None
    ahead = server.clock() + timedelta(minutes=1)  # its clock went back since
    machine.check_in(report_hash=report_hash(report()), looked_at=ahead)
    assert _looked(machine)[0] == at
    machine.check_in(report_hash=report_hash(report()), looked_at=datetime(1, 1, 1, tzinfo=UTC), look_minutes=1)
    assert _looked(machine)[0] < at  # type: ignore[operator]


def test_a_machine_that_checks_in_and_is_not_looked_at_is_told_of(server: Running) -> None:
    machine = simple(server)
    old = simple(server, "old")

    def blind() -> int:
        with server.database.read() as connection:
            return fleet.counts(connection, server.clock() - timedelta(minutes=5), server.clock()).blind

    looked = {"looked_at": server.clock(), "look_minutes": 60}
    machine.check_in(report=report(), **looked)
    old.check_in(report=report())
    server.clock.ahead = timedelta(minutes=179)
    machine.check_in(report_hash=report_hash(report()), **looked)
    assert blind() == 0
    server.clock.ahead = timedelta(minutes=181)
    simple(server, "new").check_in()
    machine.check_in(report_hash=report_hash(report()), **looked)
    old.check_in(report_hash=report_hash(report()))
    assert blind() == 1
    assert b"hotmend_fleet_machines_blind 1.0" in server.call("GET", "/api/v1/metrics").body
    server.clock.ahead = timedelta(minutes=400)
    assert blind() == 0  # silent is another thing
