"""The agent's side with a real server: enrolled, told, obeyed once; and when nobody answers, or somebody lies."""

from __future__ import annotations

import dataclasses
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from hotmend.agent.configuration import Configuration
from hotmend.agent.machine import Machine
from hotmend.agent.paths import Places
from hotmend.agent.record.history import Action, AgentBegan, Assessed, History, Ordered, OrderEnded, RunState
from hotmend.agent.record.hold import begin_hold
from hotmend.agent.record.quarantine import read_quarantine
from hotmend.agent.service import Loop
from hotmend.agent.uplink import rhythm
from hotmend.agent.uplink.carrying import check_in, enrol, failed, leave, pause
from hotmend.agent.uplink.directing import reached, with_directions
from hotmend.agent.uplink.doing import perform
from hotmend.agent.uplink.files import Carried, Directed, Letter, Outbox, read, write
from hotmend.agent.uplink.host import this_host
from hotmend.agent.uplink.news import letter_name, note_name, states_name
from hotmend.agent.uplink.turn import Teller, directed_turn, still_wanted
from hotmend.model.errors import HotmendError, InputError, RemoteError, UsageError
from hotmend.server.database import load_tables
from hotmend.server.machines import policies
from hotmend.server.machines.tables import action_events, actions, brake, contacts
from hotmend.servicing.actions import State
from hotmend.wire.keys import SigningKey
from hotmend.wire.messages import Kind, decode_answer
from tests.server.machine import host, registration_key, report
from tests.server.running import Running, running


@dataclasses.dataclass
class Fleet:
    """One machine with files of its own, and its server."""

    server: Running
    machine: Machine
    id: str

    @property
    def places(self) -> Places:
        return self.machine.places

    def plan(self, kind: str, **fields: object) -> str:
        wanted = {"kind": kind, **fields}
        return str(self.server.post(f"/api/v1/machines/{self.id}/actions", wanted, status=202)["id"])

    def turn(self) -> None:
        """Carry, do what is due, and carry what is to be told."""
        check_in(self.places, self.now)
        machine, wanted = with_directions(self.machine)
        assert wanted is not None
        for order in wanted.orders:
            perform(machine, order)
        events = machine.history.read().events
        write(self.places.outbox, Outbox(report(), reached(events), wanted.policy_hash))
        check_in(self.places, self.now)

    def now(self) -> float:
        return self.server.clock().timestamp()

    def policy(self, **content: object) -> None:
        context = self.server.app.state.context
        with self.server.database.write() as connection:
            policies.put(connection, "default", dict(content), context.key, context.settings, self.server.clock())

    def mode(self) -> str:
        return with_directions(self.machine)[0].configuration.mode


def _machine(root: Path, server: Running) -> Machine:
    places = Places(root)
    places.state.mkdir(parents=True)
    places.server.parent.mkdir(parents=True)
    return Machine(places, Configuration(), History(places.history), server.clock, root / "audit.jsonl")


@pytest.fixture
def fleet(server: Running, tmp_path: Path) -> Fleet:
    machine = _machine(tmp_path / "root", server)
    made = enrol(machine.places, server.url, registration_key(server), host("a"), name="a", server_key="", ca="")
    return Fleet(server, machine, made.machine)


# --- whose machine ----------------------------------------------------------------------------------------


def test_a_machine_pins_the_servers_key(server: Running, tmp_path: Path) -> None:
    machine = _machine(tmp_path / "root", server)
    key = registration_key(server)
    with pytest.raises(InputError, match="server's key"):
        enrol(machine.places, server.url, key, host("a"), name="a", server_key=SigningKey.generate().public, ca="")
    assert not machine.places.server.exists()
    pinned = server.app.state.context.key.public
    enrol(machine.places, server.url, key, host("a"), name="a", server_key=pinned, ca="")
    assert oct(machine.places.uplink_key.stat().st_mode & 0o777) == "0o600"
    assert check_in(machine.places).approved


def test_a_pin_that_is_no_key_is_refused_before_the_server_hears_of_it(server: Running, tmp_path: Path) -> None:
    """It would have taken the machine in, used the registration key up, and shut out the key that it had until then."""
    machine = _machine(tmp_path / "root", server)
    key, pinned = registration_key(server, uses=1), server.app.state.context.key.public
    for wrong in ("00", "x" * 64, f"{pinned} "[:-2]):
        with pytest.raises(InputError, match="64 hexadecimal digits"):
            enrol(machine.places, server.url, key, host("a"), name="a", server_key=wrong, ca="")
    assert server.get("/api/v1/machines")["items"] == []
    enrol(machine.places, server.url, key, host("a"), name="a", server_key=f" {pinned.upper()}\n", ca="")
    assert check_in(machine.places).approved


def test_a_machine_that_enrols_again_is_known_by_its_old_key(server: Running, tmp_path: Path) -> None:
    machine = _machine(tmp_path / "root", server)
    key = registration_key(server)
    first = enrol(machine.places, server.url, key, host("a"), name="a", server_key="", ca="")
    check_in(machine.places)
    again = enrol(machine.places, server.url, key, host("a"), name="a", server_key="", ca="")
    assert (again.machine, again.approved) == (first.machine, True)
    assert check_in(machine.places).approved
    machine.places.uplink_key.write_text("lost")
    anew = enrol(machine.places, server.url, key, host("a"), name="a", server_key="", ca="")
    assert (anew.machine == first.machine, anew.approved) == (False, False)


@pytest.mark.parametrize("url", ["http://fleet.example", "ftp://localhost", "fleet.example", "https://"])
def test_a_registration_key_is_sent_over_tls_alone(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError):
        enrol(Places(tmp_path), url, "hmk_0123456789", host("a"), name="a", server_key="", ca="")


def test_another_server_is_not_believed(fleet: Fleet, sqlite_url: str, tmp_path: Path) -> None:
    check_in(fleet.places)
    with running(f"sqlite:///{tmp_path / 'other.db'}") as other:
        with fleet.server.database.read() as mine, other.database.write() as theirs:
            for table in load_tables().sorted_tables:
                if table.name in ("registration_keys", "machines", "contacts"):
                    for row in mine.execute(sa.select(table)).mappings():
                        theirs.execute(sa.insert(table).values(dict(row)))
        own = msgspec.json.decode(fleet.places.server.read_bytes())
        fleet.places.server.write_bytes(msgspec.json.encode(own | {"url": other.url}))
        with pytest.raises(InputError, match="not signed by the server's key"):
            check_in(fleet.places)


def test_who_leaves_is_nobodys(fleet: Fleet) -> None:
    check_in(fleet.places)
    assert leave(fleet.places)
    assert with_directions(fleet.machine)[1] is None
    with pytest.raises(UsageError):
        check_in(fleet.places)
    assert fleet.server.get("/api/v1/machines?state=left")["total"] == 1


def test_this_host_is_told_from_its_copies(tmp_path: Path) -> None:
    own = this_host()
    assert own == this_host()
    assert own.boot
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("\n")
    with pytest.raises(HotmendError, match="machine-id"):
        this_host(tmp_path)
    (tmp_path / "etc/machine-id").write_text("a" * 32)
    assert this_host(tmp_path).hardware == ""
    assert "a" * 32 not in this_host(tmp_path).machine


# --- what is told and done --------------------------------------------------------------------------------


def test_an_action_is_done_once_and_told_until_it_is_known(fleet: Fleet) -> None:
    action = fleet.plan("quarantine", updates=["nginx=2"], reason="it crashed elsewhere")
    fleet.turn()
    shown = fleet.server.get(f"/api/v1/actions/{action}")
    assert [step["state"] for step in shown["steps"]] == ["SCHEDULED", "PRECHECK", "SUCCEEDED"]
    assert [entry.update for entry in read_quarantine(fleet.places.quarantine)] == ["nginx=2"]
    fleet.turn()
    events = [event for event in fleet.machine.history.read().events if isinstance(event, Ordered)]
    assert len(events) == 1
    lift = fleet.plan("lift", updates=["nginx=2"])
    again = fleet.plan("quarantine", updates=["redis=1"])
    fleet.turn()
    assert [fleet.server.get(f"/api/v1/actions/{each}")["state"] for each in (lift, again)] == ["SUCCEEDED"] * 2
    assert [entry.update for entry in read_quarantine(fleet.places.quarantine)] == ["redis=1"]


def test_an_order_whose_end_was_not_written_is_taken_up_again(fleet: Fleet) -> None:
    action = fleet.plan("quarantine", updates=["nginx=2"])
    check_in(fleet.places)
    fleet.machine.record(Ordered(order=action, kind="quarantine", updates=("nginx=2",)))  # and then it was killed
    fleet.turn()
    assert fleet.server.get(f"/api/v1/actions/{action}")["state"] == "SUCCEEDED"


def test_an_end_that_the_server_has_lost_is_told_again(fleet: Fleet) -> None:
    action = fleet.plan("quarantine", updates=["nginx=2"])
    fleet.turn()
    with fleet.server.database.write() as connection:  # as after a restore
        connection.execute(sa.delete(action_events).where(action_events.c.action_id == action))
        connection.execute(sa.update(actions).values(state="SCHEDULED"))
    fleet.turn()
    fleet.turn()
    assert fleet.server.get(f"/api/v1/actions/{action}")["state"] == "SUCCEEDED"
    assert len([e for e in fleet.machine.history.read().events if isinstance(e, Ordered)]) == 1


def test_what_came_too_late_is_not_begun(fleet: Fleet) -> None:
    fleet.plan("quarantine", updates=["nginx=2"], minutes=1)
    check_in(fleet.places)
    fleet.server.clock.ahead = timedelta(minutes=2)
    machine, wanted = with_directions(fleet.machine)
    assert wanted is not None
    ended = perform(machine, wanted.orders[0])
    assert ended is not None
    assert ended.state is State.TIMED_OUT
    assert read_quarantine(fleet.places.quarantine) == ()


def test_an_installation_waits_for_its_window_and_for_a_hold(fleet: Fleet) -> None:
    far = {"name": "far", "rule": "FREQ=YEARLY;COUNT=1", "start": "2031-01-01T00:00:00", "minutes": 60}
    fleet.policy(mode="automatic", zone="UTC", maintenance={"window": [far]})
    write(_outbox(fleet), Outbox(report(waiting=("nginx=2",))))
    check_in(fleet.places)
    token = fleet.server.get(f"/api/v1/machines/{fleet.id}/forecast")["token"]
    action = fleet.plan("install", forecast=token)
    fleet.turn()
    assert fleet.server.get(f"/api/v1/actions/{action}")["state"] == "WAITING_WINDOW"
    begin_hold(fleet.places.hold, None, "Christmas sale")
    fleet.turn()
    shown = fleet.server.get(f"/api/v1/actions/{action}")
    assert (shown["state"], "Christmas" in shown["detail"]) == ("BLOCKED", True)
    begun = [event for event in fleet.machine.history.read().events if isinstance(event, Ordered)]
    assert {event.order for event in begun} == {action}


def test_what_was_never_applied_is_not_taken_back(fleet: Fleet) -> None:
    action = fleet.plan("revert", updates=["nginx=2"], emergency=True)
    fleet.turn()
    assert fleet.server.get(f"/api/v1/actions/{action}")["state"] == "NOT_APPLICABLE"


def test_an_old_letter_is_not_obeyed(fleet: Fleet) -> None:
    fleet.plan("quarantine", updates=["nginx=2"])
    check_in(fleet.places)
    fleet.server.clock.ahead = timedelta(days=1, seconds=1)
    wanted = with_directions(fleet.machine)[1]
    assert wanted is not None
    assert wanted.orders == ()


def test_a_letter_that_was_changed_or_sent_again_is_not_opened(fleet: Fleet) -> None:
    check_in(fleet.places)
    old = fleet.places.letter.read_bytes()
    fleet.plan("quarantine", updates=["nginx=2"])
    check_in(fleet.places)
    good = msgspec.json.decode(fleet.places.letter.read_bytes(), type=Letter)
    forged = msgspec.structs.replace(good, body=good.body.replace(b"nginx=2", b"other=1"))
    write(fleet.places.letter, forged)
    wanted = with_directions(fleet.machine)[1]
    assert wanted is not None
    assert wanted.orders == ()
    write(fleet.places.letter, good)
    wanted = with_directions(fleet.machine)[1]
    assert wanted is not None
    assert len(wanted.orders) == 1
    fleet.places.letter.write_bytes(old)
    wanted = with_directions(fleet.machine)[1]
    assert wanted is not None
    assert wanted.orders == ()
    fleet.places.letter.unlink()
    fleet.places.letter.symlink_to("/etc/shadow")
    wanted = with_directions(fleet.machine)[1]
    assert wanted is not None
    assert wanted.orders == ()


def test_the_report_is_sent_once(fleet: Fleet) -> None:
    write(_outbox(fleet), Outbox(report()))
    check_in(fleet.places)
    assert fleet.server.get(f"/api/v1/machines/{fleet.id}")["report"]["kernel"]
    with fleet.server.database.read() as connection:
        first = connection.execute(sa.select(contacts.c.counter)).scalar_one()
    check_in(fleet.places)
    with fleet.server.database.read() as connection:
        assert connection.execute(sa.select(contacts.c.counter)).scalar_one() == first + 1


def _outbox(fleet: Fleet) -> Path:
    fleet.places.outbox.parent.mkdir(parents=True, exist_ok=True)
    return fleet.places.outbox


def test_a_counter_is_used_up_before_it_is_sent(fleet: Fleet) -> None:
    before = read(fleet.places.carried, Carried)
    own = msgspec.json.decode(fleet.places.server.read_bytes())
    fleet.places.server.write_bytes(msgspec.json.encode(own | {"url": "http://127.0.0.1:1"}))
    with pytest.raises(RemoteError):
        check_in(fleet.places)
    after = read(fleet.places.carried, Carried)
    assert before is not None
    assert after is not None
    assert after.counter == before.counter + 1
    fleet.places.server.write_bytes(msgspec.json.encode(own))
    assert check_in(fleet.places).approved


def test_what_was_taken_back_meanwhile_is_not_begun(fleet: Fleet) -> None:
    action = fleet.plan("quarantine", updates=["nginx=2"])
    check_in(fleet.places)
    machine, wanted = with_directions(fleet.machine)
    assert wanted is not None
    assert still_wanted(machine, wanted.orders[0])
    with fleet.server.database.write() as connection:
        connection.execute(sa.update(actions).where(actions.c.id == action).values(state="CANCELED"))
    check_in(fleet.places)
    assert not still_wanted(machine, wanted.orders[0])


# --- policy -----------------------------------------------------------------------------------------------


def test_a_policy_holds_to_its_end_and_then_the_machine_only_tells(fleet: Fleet) -> None:
    fleet.policy(mode="automatic", restart=True)
    check_in(fleet.places)
    assert fleet.mode() == "automatic"
    configuration = with_directions(fleet.machine)[0].configuration
    assert configuration.restart
    assert configuration.effective_mode(None, fleet.server.clock()) == "automatic"
    fleet.server.clock.ahead = timedelta(days=14) - timedelta(minutes=1)  # nobody answers all the time
    assert fleet.mode() == "automatic"
    fleet.server.clock.ahead = timedelta(days=14)
    assert fleet.mode() == "notify"
    check_in(fleet.places, fleet.now)
    assert fleet.mode() == "automatic"


def test_a_server_that_is_gone_is_followed_to_the_end_of_its_policy(sqlite_url: str, tmp_path: Path) -> None:
    """What was asked before it went is done meanwhile, and told when it is back."""
    with running(sqlite_url) as server:
        server.set_up()
        machine = _machine(tmp_path / "root", server)
        made = enrol(machine.places, server.url, registration_key(server), host("a"), name="a", server_key="", ca="")
        fleet = Fleet(server, machine, made.machine)
        fleet.policy(mode="automatic")
        action = fleet.plan("quarantine", updates=["nginx=2"])
        check_in(machine.places)
    with pytest.raises(RemoteError):
        check_in(machine.places)
    failed(machine.places)
    directed, wanted = with_directions(machine)
    assert wanted is not None
    assert directed.configuration.mode == "automatic"
    ended = perform(directed, wanted.orders[0])
    assert ended is not None
    assert ended.state is State.SUCCEEDED
    write(_outbox(fleet), Outbox(report(), reached(machine.history.read().events), wanted.policy_hash))
    server.clock.ahead = timedelta(days=14)
    assert fleet.mode() == "notify"
    server.clock.ahead = timedelta()
    with running(sqlite_url) as back:
        back.tokens = server.tokens
        own = msgspec.json.decode(machine.places.server.read_bytes())
        machine.places.server.write_bytes(msgspec.json.encode(own | {"url": back.url}))
        check_in(machine.places)
        assert back.get(f"/api/v1/actions/{action}")["state"] == "SUCCEEDED"
    assert fleet.mode() == "automatic"


def test_a_machine_that_is_to_be_left_alone_stays_so(fleet: Fleet) -> None:
    fleet.policy(mode="automatic")
    check_in(fleet.places)
    fleet.machine = dataclasses.replace(fleet.machine, configuration=Configuration(mode="observe"))
    assert fleet.mode() == "observe"


def test_an_older_policy_is_not_taken(fleet: Fleet) -> None:
    check_in(fleet.places)
    fleet.mode()
    fleet.policy(mode="automatic")
    check_in(fleet.places)
    assert fleet.mode() == "automatic"
    kept = read(fleet.places.directed, Directed)
    assert kept is not None
    with fleet.server.database.write() as connection:
        connection.exec_driver_sql("UPDATE policies SET serial = 0")
    fleet.policy(mode="observe")
    write(_outbox(fleet), Outbox(None, (), ""))
    check_in(fleet.places)
    assert fleet.mode() == "automatic"


def test_a_halt_holds_from_the_next_check_in(fleet: Fleet) -> None:
    fleet.policy(mode="automatic")
    fleet.plan("quarantine", updates=["x=1"])
    with fleet.server.database.write() as connection:
        values = {"id": 1, "halted": True, "reason": "bad", "by": "t", "at": datetime.now(UTC)}
        connection.execute(sa.insert(brake).values(values))
    check_in(fleet.places)
    wanted = with_directions(fleet.machine)[1]
    assert wanted is not None
    assert (wanted.halted, wanted.orders, fleet.mode()) == ("bad", (), "notify")


# --- states -----------------------------------------------------------------------------------------------


def test_states_of_a_run_are_those_of_its_order() -> None:
    now = datetime.now(UTC)
    first, second = "a" * 32, "b" * 32
    events = (
        AgentBegan(version="1", mode="notify", boot="x"),
        RunState(state=State.APPLYING),
        Ordered(order=first, kind="install"),
        RunState(state=State.PRECHECK),
        RunState(state=State.DOWNLOADING),
        Action(update="nginx=2", state=State.APPLYING),
        Action(update="redis=1", state=State.VERIFYING),
        Action(update="redis=1", state=State.SUCCEEDED),
        RunState(state=State.PRECHECK),
        OrderEnded(order=first, state=State.SUCCEEDED),
        RunState(state=State.APPLYING),
        Ordered(order=second, kind="assess"),
    )
    states = [(each.action[0], str(each.state)) for each in reached(events)]
    assert states == [
        ("a", "PRECHECK"),
        ("a", "DOWNLOADING"),
        ("a", "APPLYING"),
        ("a", "VERIFYING"),
        ("a", "SUCCEEDED"),
        ("b", "PRECHECK"),
    ]
    assert all(each.at <= now for each in reached(events))


def _telling(fleet: Fleet) -> Machine:
    machine, wanted = with_directions(fleet.machine)
    assert wanted is not None
    return dataclasses.replace(machine, told=Teller(machine, wanted).states)


def test_states_reach_the_server_while_an_action_is_under_way(fleet: Fleet) -> None:
    action = fleet.plan("assess")
    check_in(fleet.places)
    machine = _telling(fleet)
    names = [states_name(fleet.places)]
    for event in (
        Ordered(order=action, kind="install"),
        RunState(state=State.DOWNLOADING),
        Action(update="nginx=2", state=State.APPLYING),
    ):
        machine.record(event)
        names.append(states_name(fleet.places))
        check_in(fleet.places)
        assert fleet.server.get(f"/api/v1/actions/{action}")["state"] == getattr(event, "state", "PRECHECK")
    assert len(set(names)) == len(names)  # each wakes the part with a network
    machine.record(AgentBegan(version="1", mode="notify", boot="x"))
    assert states_name(fleet.places) == names[-1]


def test_an_action_goes_on_where_nobody_can_be_told(fleet: Fleet) -> None:
    check_in(fleet.places)
    machine = _telling(fleet)
    shutil.rmtree(fleet.places.outbox.parent, ignore_errors=True)
    fleet.places.outbox.parent.write_text("no folder")
    machine.record(Ordered(order="a" * 32, kind="install"))
    assert isinstance(machine.history.read().events[-1], Ordered)


def test_states_wake_the_part_with_a_network(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.states.parent.mkdir(parents=True)
    loop = Loop(("true",), lambda: 600.0, print, lambda: states_name(places))
    note_name(places.states, "other")
    began = time.monotonic()
    loop._wait(began + 600, "")
    assert time.monotonic() - began < 300


TURNS = """
import os, signal
from hotmend.agent.service import Loop

turns = iter((1, 0))

def turn():
    code = next(turns)
    print(os.getpid(), code, flush=True)
    if not code:
        os.kill(os.getpid(), signal.SIGTERM)
    return code

Loop(turn, lambda: 0.0, print).run()
"""


def test_a_turn_of_its_own_that_fails_is_told_and_tried_again() -> None:
    done = subprocess.run([sys.executable, "-c", TURNS], capture_output=True, text=True, timeout=60, check=True)
    first, told, second = done.stdout.splitlines()
    assert (first.split()[0], first.split()[1], second.split()[1]) == (second.split()[0], "1", "0")
    assert told == "the turn ended with exit code 1; the next one tries again"


# --- rhythm -----------------------------------------------------------------------------------------------


def _arrivals(machines: int, outage: tuple[float, float], until: float, seed: int) -> Counter[int]:
    """Return how many check in at each second, by the rule that agents follow."""
    dice = random.Random(seed)
    seconds: Counter[int] = Counter()
    for _ in range(machines):
        at, failures = dice.random() * 60, 0
        while at < until:
            seconds[int(at)] += 1
            failures = failures + 1 if outage[0] <= at < outage[1] else 0
            at += rhythm.wait_seconds(60, failures, dice.random)
    return seconds


def test_machines_come_back_from_ten_minutes_without_a_stampede() -> None:
    arrivals = _arrivals(20_000, (600, 1200), 2400, 7)
    steady = 20_000 / 60
    peak = max(arrivals[second] for second in range(1200, 2400))
    assert peak <= 2 * steady, peak
    assert min(sum(arrivals[s] for s in range(1200, 1200 + 290)), 20_000) == 20_000


def test_machines_that_were_started_together_spread() -> None:
    dice = random.Random(3)
    ends = [sum(rhythm.wait_seconds(60, 0, dice.random) for _ in range(60)) for _ in range(1000)]
    assert max(Counter(int(end) for end in ends).values()) < 100


def test_a_failure_is_remembered(fleet: Fleet) -> None:
    check_in(fleet.places)
    assert 54 <= pause(fleet.places) <= 66
    for _ in range(20):
        failed(fleet.places)
    assert 216 <= pause(fleet.places) <= 264
    check_in(fleet.places)
    assert pause(fleet.places) <= 66


def test_a_letter_wakes_the_agent(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.uplink.mkdir(parents=True)
    loop = Loop(("true",), lambda: 600.0, print, lambda: letter_name(places))
    seen = letter_name(places)
    note_name(places.orders, "other")
    began = time.monotonic()
    loop._wait(began + 600, seen)
    assert time.monotonic() - began < 300


# --- a whole turn -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_turn_reports_what_runs_here(fleet: Fleet) -> None:
    action = fleet.plan("assess")
    check_in(fleet.places)
    directed_turn(fleet.machine)
    assert any(isinstance(event, Assessed) for event in fleet.machine.history.read().events)
    check_in(fleet.places)
    shown = fleet.server.get(f"/api/v1/machines/{fleet.id}")
    assert shown["report"]["kernel"] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert shown["report"]["prerequisites"]
    assert shown["machine"]["mode"] == "notify"
    assert fleet.server.get(f"/api/v1/actions/{action}")["state"] == "SUCCEEDED"
    looked = shown["machine"]["looked_at"]
    assert looked is not None
    _telling(fleet).record(Ordered(order="a" * 32, kind="assess"))  # what is told meanwhile is of that look still
    check_in(fleet.places)
    again = fleet.server.get(f"/api/v1/machines/{fleet.id}")["machine"]["looked_at"]
    assert abs(datetime.fromisoformat(again) - datetime.fromisoformat(looked)) < timedelta(seconds=30)


# --- another version --------------------------------------------------------------------------------------


def test_what_a_later_server_asks_for_is_not_done_and_all_else_is(fleet: Fleet) -> None:
    """Its answers have fields that are not known here, and an order of a kind that is not."""
    action = fleet.plan("assess")
    with fleet.server.database.write() as connection:
        connection.execute(sa.update(actions).values(kind="reinstall"))
    quarantined = fleet.plan("quarantine", updates=["nginx=2"])
    fleet.policy(mode="automatic")
    check_in(fleet.places)
    machine, wanted = with_directions(fleet.machine)
    assert wanted is not None
    assert machine.configuration.mode == "automatic"
    for order in wanted.orders:
        perform(machine, order)
    write(_outbox(fleet), Outbox(report(), reached(machine.history.read().events), wanted.policy_hash))
    check_in(fleet.places)
    shown = fleet.server.get(f"/api/v1/actions/{action}")
    assert (shown["state"], "update it" in shown["detail"]) == ("BLOCKED", True)
    assert fleet.server.get(f"/api/v1/actions/{quarantined}")["state"] == "SUCCEEDED"
    assert [entry.update for entry in read_quarantine(fleet.places.quarantine)] == ["nginx=2"]


def test_an_answer_with_more_fields_and_words_is_understood() -> None:
    order = {"id": "a" * 32, "kind": "explode", "colour": "red"}
    answer = {"machine": "m", "counter": 1, "at": "2026-11-29T00:00:00Z", "next_seconds": 60, "orders": [order]}
    found = decode_answer(msgspec.json.encode(answer | {"later": {"x": [1]}}))
    assert [(each.id, each.kind) for each in found.orders] == [("a" * 32, Kind.UNKNOWN)]


def test_an_older_letter_lacks_what_came_later() -> None:
    found = decode_answer(b'{"machine": "m", "counter": 1, "at": "2026-11-29T00:00:00Z", "next_seconds": 60}')
    assert (found.halted, found.orders, found.policy, found.approved) == ("", (), None, True)
