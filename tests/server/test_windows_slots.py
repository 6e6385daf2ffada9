"""Restart slots of Windows machines: from a real server to the reboot that is ordered, and back after the boot.

Windows itself is played here, because its clock has to be moved; under Wine the same is run by `tests/windows`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from hotmend.agent.uplink.carrying import check_in, enrol
from hotmend.agent.uplink.files import Wish, read, wish_file
from hotmend.agent.uplink.letters import Opened, open_letter
from hotmend.agent.windows.doing import Hands
from hotmend.agent.windows.ledger import Ledger
from hotmend.agent.windows.places import WindowsPlaces, windows_places
from hotmend.agent.windows.reboot import Afterwards, Reboot, afterwards
from hotmend.model.errors import SystemCallError
from hotmend.servicing.actions import State
from hotmend.windows.action import Actions
from hotmend.windows.facts import Sources
from hotmend.wire.messages import Kind, Order, Reached
from tests.server.fleet import ALWAYS
from tests.server.machine import host, registration_key, simple
from tests.server.running import Running, Wrist

CONFIGURATION = "/api/v1/maintenance/configurations/default"
SLOTS = "/api/v1/maintenance/slots"
WINDOW = ALWAYS["maintenance"]["window"]
OVER = [{"name": "once", "rule": "FREQ=DAILY;COUNT=1", "start": "2020-01-01T00:00:00", "minutes": 60}]
LENGTH = timedelta(minutes=30)


@dataclass
class Windows:
    """What is asked of a machine and its update agent.

    Attributes:
        pending: something waits for a boot; None: the update agent does not answer.
        refuses: Windows orders no reboot.
        ordered: why each reboot was.
    """

    clock: Wrist
    booted: datetime
    pending: bool | None = True
    at_work: bool = False
    refuses: bool = False
    ordered: list[str] = field(default_factory=list)

    def now(self) -> datetime:
        return self.clock()

    def booted_at(self) -> datetime:
        return self.booted

    def values(self, key: str) -> None:
        """No key marks a boot; `pending` says it."""

    def reboot(self, seconds: int, why: str) -> None:
        if self.refuses:
            raise SystemCallError("shutdown: exit code 5")
        self.ordered.append(why)

    def reboot_required(self) -> bool:
        if self.pending is None:
            raise SystemCallError("the update agent does not answer")
        return self.pending

    def busy(self) -> bool:
        return self.at_work

    def boot(self, *, completes: bool = True) -> None:
        self.clock.ahead += timedelta(minutes=2)
        self.booted = self.clock()
        self.clock.ahead += timedelta(minutes=1)
        self.pending = self.pending and not completes


@dataclass
class Member:
    """A Windows machine of a fleet."""

    server: Running
    windows: Windows
    places: WindowsPlaces
    hands: Hands
    id: str

    @property
    def reboot(self) -> Reboot:
        return Reboot(self.places, self.hands)  # each time as a process that has just begun

    def turn(self, after: Afterwards | None = None, *, heard: bool = True) -> str:
        """Take the parts of a turn that a reboot is about; return what is told of it."""
        self.reboot.look_back()
        if heard:
            self.carry()
        if self.step(after, heard=heard) and heard:
            self.carry()
            self.step(after)
        return self.reboot.told()

    def step(self, after: Afterwards | None = None, *, heard: bool = True) -> bool:
        wanted = self.wanted()
        return self.reboot.step(wanted, after or afterwards(wanted, [], None), heard=heard)

    def carry(self) -> None:
        check_in(self.places, lambda: self.server.clock().timestamp(), boot=self.windows.booted.isoformat())

    def wanted(self) -> Opened:
        found = open_letter(self.places, self.server.clock())
        assert found is not None
        return found

    def wish(self) -> bool | None:
        return (read(wish_file(self.places), Wish) or Wish()).slot


def configure(server: Running, **fields: Any) -> None:
    content = {"windows": WINDOW, "zone": "UTC", "mode": "automatic", "reboot": "if-required", "slots": 1}
    body = content | {"slot_minutes": 30} | fields
    assert server.call("PUT", CONFIGURATION, body, role="approver").status == 200


def owners(server: Running) -> set[str]:
    return {each["machine"] for each in server.get(SLOTS)["items"]}


@pytest.fixture
def member(server: Running, tmp_path: Path) -> Member:
    """A machine on which something waits for a boot, of a configuration with one slot."""
    configure(server)
    places = windows_places(tmp_path / "state")
    places.root.mkdir(parents=True)
    windows = Windows(server.clock, server.clock() - timedelta(days=3))
    sources = Sources(cast("Any", windows), cast("Any", None), lambda: cast("Any", windows))
    hands = Hands(sources, Actions(tmp_path / "state"), cast("Any", None), Ledger(places.ledger), Ledger(places.own))
    key = registration_key(server)
    places.uplink.mkdir()
    made = enrol(places, server.url, key, host("w"), name="w", server_key="", ca="", platform="windows")
    midday = server.clock().replace(hour=12, minute=0) + timedelta(days=1)
    server.clock.ahead += midday - server.clock()  # a day's window ends at midnight, and begins anew
    found = Member(server, windows, places, hands, made.machine)
    found.carry()
    return found


def test_it_reboots_with_a_slot_and_gives_it_back_when_it_is_there_again(server: Running, member: Member) -> None:
    busy = simple(server, "busy")
    assert busy.check_in(slot=True).slot_until is not None
    for _ in range(2):
        assert "not now: no restart slot" in member.turn()
        assert (member.windows.ordered, member.wish()) == ([], True)
    busy.check_in(slot=False)
    assert member.turn().startswith("a reboot is ordered: something that was installed waits for a boot")
    assert len(member.windows.ordered) == 1
    member.turn()  # the machine is still up, and goes down once
    assert (len(member.windows.ordered), owners(server)) == (1, {member.id})
    assert busy.check_in(slot=True).slot_until is None
    member.windows.boot()
    assert member.turn() == ""
    assert (member.wish(), owners(server)) == (False, set())
    assert busy.check_in(slot=True).slot_until is not None
    member.turn()
    assert len(member.windows.ordered) == 1


@pytest.mark.parametrize(("completes", "answers"), [(False, True), (True, False)])
def test_a_machine_that_is_not_well_after_its_boot_keeps_its_slot_until_it_ends(
    server: Running, member: Member, completes: bool, answers: bool
) -> None:
    member.turn()
    member.windows.boot(completes=completes)
    if not answers:
        member.windows.pending = None
    assert member.turn().startswith("it has booted, and keeps its restart slot")
    assert (member.wish(), owners(server)) == (None, {member.id})
    server.clock.ahead += LENGTH
    other = simple(server, "other")
    assert other.check_in(slot=True).slot_until is not None
    events = server.get(f"/api/v1/machines/{member.id}/events")["items"]
    assert "its restart slot was not given back in time" in [each["detail"] for each in events]
    other.check_in(slot=False)
    server.clock.ahead += timedelta(minutes=6)
    told = member.turn()
    member.turn()
    assert len(member.windows.ordered) == 1  # once in a window
    assert ("one was ordered in this window already" in told) == answers
    assert member.wish() is False
    if answers:  # something was done since that needs a boot, too
        note = member.hands.actions.begin("install", server.clock(), updates="KB5070893")
        member.hands.actions.save(replace(note, state="awaiting-reboot", reboot_after=server.clock()))
        assert member.turn().endswith("waits for a boot: KB5070893")
        assert len(member.windows.ordered) == 2
        (noted,) = member.hands.actions.all()
        assert "reboot ordered, in 60 s, with a restart slot" in [event.what for event in noted.events]


def test_a_reboot_that_does_not_come_is_not_ordered_again_before_the_next_window(
    server: Running, member: Member
) -> None:
    member.turn()
    server.clock.ahead += LENGTH + timedelta(minutes=1)
    assert "did not come" in member.turn()
    assert member.wish() is None
    server.clock.ahead += timedelta(minutes=5)
    for _ in range(2):
        assert "one was ordered in this window already" in member.turn()
    assert len(member.windows.ordered) == 1
    server.clock.ahead += timedelta(hours=12)
    assert member.turn().startswith("a reboot is ordered")
    assert len(member.windows.ordered) == 2


def test_a_slot_ends_for_the_machine_before_it_ends_for_the_server(server: Running, member: Member) -> None:
    member.windows.at_work = True
    member.turn()
    member.windows.at_work = False
    assert member.step()
    member.carry()
    assert owners(server) == {member.id}
    server.clock.ahead += timedelta(minutes=26)
    assert member.wanted().slot_until is not None
    member.step()
    assert (member.windows.ordered, "no restart slot" in member.reboot.told()) == ([], True)


def test_without_an_answer_nobody_knows_whether_a_slot_is_still_held(server: Running, member: Member) -> None:
    assert member.step()
    member.carry()
    assert member.wanted().slot_until is not None
    assert "no restart slot" in member.turn(heard=False)
    assert member.windows.ordered == []
    assert member.turn().startswith("a reboot is ordered")


def test_a_halt_takes_the_slot(server: Running, member: Member) -> None:
    assert member.step()
    server.post("/api/v1/halt", {"reason": "wait"}, status=200)
    assert "the fleet is halted: wait" in member.turn()
    assert (member.windows.ordered, member.wish()) == ([], False)
    member.carry()
    assert owners(server) == set()


_NOT_NOW: dict[str, dict[str, Any]] = {
    "the policy's mode is download": {"mode": "download"},
    "the policy's mode is notify": {"mode": "notify"},
    "the policy is never to reboot": {"reboot": "never"},
    "waits for a window": {"windows": OVER},
    "the window waits for a word": {"event_minutes": 60},
}


@pytest.mark.parametrize("why", _NOT_NOW)
def test_what_the_policy_does_not_let_it_do_it_does_not_ask_for(server: Running, member: Member, why: str) -> None:
    configure(server, **_NOT_NOW[why])
    assert why in member.turn()
    assert (member.wish(), member.windows.ordered, owners(server)) == (False, [], set())


def test_without_slots_nothing_is_asked_for_and_left_to_the_end_of_an_installation(
    server: Running, member: Member
) -> None:
    configure(server, slots=0)
    assert member.turn() == ""
    assert (member.wish(), member.windows.ordered) == (None, [])


def test_an_update_agent_that_is_at_work_or_silent_keeps_it_up(server: Running, member: Member) -> None:
    member.windows.at_work = True
    assert "the update agent is at work" in member.turn()
    member.windows.pending = None
    assert member.turn().startswith("whether a reboot is due is not known: ")
    assert (member.wish(), member.windows.ordered, owners(server)) == (False, [], set())


def test_a_reboot_that_windows_refuses_gives_the_slot_back(server: Running, member: Member) -> None:
    member.windows.refuses = True
    assert member.turn().endswith("and could not be ordered: shutdown: exit code 5")
    member.windows.refuses = False
    member.turn()
    assert (member.windows.ordered, owners(server)) == ([], set())


def test_with_always_it_reboots_after_an_installation_with_a_slot_or_not_at_all(
    server: Running, member: Member
) -> None:
    configure(server, reboot="always")
    member.windows.pending = False
    busy = simple(server, "busy")
    busy.check_in(slot=True)
    did = Afterwards("always", installed=True)
    assert "no restart slot" in member.turn(did)
    busy.check_in(slot=False)
    assert member.turn() == ""
    assert member.windows.ordered == []
    assert member.turn(did).startswith("a reboot is ordered")


def test_a_turn_reboots_no_more_than_its_installations_asked_for(server: Running, member: Member) -> None:
    wanted = member.wanted()
    install, look = Order("a", Kind.INSTALL, reboot="never"), Order("b", Kind.ASSESS, reboot="never")
    done = Reached("c", State.SUCCEEDED, server.clock())
    assert afterwards(wanted, [(install, State.SUCCEEDED)], None) == Afterwards("never", installed=True)
    assert afterwards(wanted, [(install, State.FAILED)], done) == Afterwards("never", installed=True)
    assert afterwards(wanted, [(look, State.SUCCEEDED)], None) == Afterwards("if-required", installed=False)
    assert "never to reboot" in member.turn(Afterwards("never", installed=True))
