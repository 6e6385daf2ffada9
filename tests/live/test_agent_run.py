"""The agent's runs on a real process, with a source that has one hotpatch ready: how they end, whatever happens."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hotmend.agent.apt.pending import Pending
from hotmend.agent.boot import boot_id
from hotmend.agent.configuration import parse_configuration
from hotmend.agent.crashed import note_crashes, take_back_crashed
from hotmend.agent.machine import Machine
from hotmend.agent.memory import Coverage, Group, Prepared, mapping_of
from hotmend.agent.paths import Places
from hotmend.agent.record.history import (
    Action,
    AgentBegan,
    AnyEvent,
    Assessed,
    AssessedAgain,
    Crashed,
    DiskBegan,
    DiskLeft,
    History,
    RunBegan,
    RunEnded,
    RunState,
)
from hotmend.agent.record.hold import begin_hold, end_hold
from hotmend.agent.record.lost import in_memory
from hotmend.agent.record.quarantine import read_quarantine
from hotmend.agent.recovery import recover, run_to_its_end
from hotmend.agent.run import Order, run
from hotmend.agent.sources import Offer, Ready
from hotmend.agent.wanted import Trigger, wanted_now
from hotmend.linux.process import ProcessImages
from hotmend.live.driver import Options, ProcessResult, revert
from hotmend.live.registry import process_status
from hotmend.model.errors import FetchError, HotmendError
from hotmend.model.hotpatch import Hotpatch
from hotmend.servicing.actions import State
from tests.live.conftest import Target, end
from tests.live.handmade import make_hotpatch

pytestmark = pytest.mark.live
KEY = "made=2"
WANTED = 'health_seconds = 0\n[maintenance]\nclassifications = []\ninclude = ["*"]\n'
NOW = Order(Trigger.COMMAND, anytime=True)


@dataclass
class Made:
    """A source with one update, whose hotpatch is made by hand; `opened` and `groups` fail where they are to."""

    hotpatch: Hotpatch
    name: str = "made"
    folder: Path = Path()
    offer: Offer = field(default_factory=lambda: Offer(KEY, "made", "2", "", frozenset(), None))
    error: Exception | None = None
    unknown: Exception | None = None

    def offers(self, running: Sequence[ProcessImages]) -> tuple[Offer, ...]:
        return (self.offer,)

    def withdrawn(self, updates: Iterable[str]) -> dict[str, str]:
        return {}

    @contextlib.contextmanager
    def opened(self, offers: Sequence[Offer]) -> Iterator[None]:
        if self.error is not None:
            raise self.error
        yield

    def download(self, offers: Sequence[Offer]) -> None:
        pass

    def groups(self, offer: Offer, running: Sequence[ProcessImages]) -> tuple[Group, ...]:
        if self.unknown is not None:
            raise self.unknown
        mapping = mapping_of(running, {self.hotpatch.old_build_id})
        return (Group(mapping),) if mapping else ()

    def ready(self, offer: Offer, group: Group) -> Ready:
        prepared = Prepared((self.hotpatch,), {self.hotpatch.old_build_id: Coverage.WHOLE})
        return Ready(prepared, ("CVE-2026-0001",))


@pytest.fixture
def source(program: Path) -> Made:
    return Made(make_hotpatch(program, {"first": 2}, "target"))


def machine_at(
    folder: Path, wanted: str = "", told: Callable[[AnyEvent], None] | None = None, first: str = ""
) -> Machine:
    """Return a machine whose files are below `folder`; `told` gets each line once it is on the disk."""
    places = Places(folder)
    places.state.mkdir(parents=True)
    history = History(places.history)
    configuration = parse_configuration(first + WANTED + wanted, "here")
    machine = Machine(places, configuration, history, audit=folder / "audit")
    return replace(machine, told=lambda: told(history.read().events[-1])) if told is not None else machine


def actions(machine: Machine) -> list[Action]:
    return [event for event in machine.history.read().events if isinstance(event, Action)]


PROBE = '[[probe]]\nkind = "command"\nname = "well"\ntries = 1\ncommand = ["test", "!", "-e", "{}/ill"]\n'


def killed(machine: Machine, source: Made, at: Callable[[list[AnyEvent]], bool]) -> bool:
    """Do a run in a child; return whether it killed itself, right after the line at which `at` holds."""
    lines: list[AnyEvent] = []

    def told() -> None:
        lines.append(machine.history.read().events[-1])
        machine.told()
        if at(lines):
            os.kill(os.getpid(), signal.SIGKILL)

    if not (child := os.fork()):
        run(replace(machine, told=told), source, NOW)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def has_lines(number: int, lines: list[AnyEvent]) -> bool:
    return len(lines) == number


def state_of(event: AnyEvent) -> str:
    return str(getattr(event, "state", type(event).__name__))


def test_killed_at_every_line_of_a_run_that_takes_back(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made
) -> None:
    """What is in quarantine does not stay in memory, although the machine is well again when the record is ended."""
    killed_at: list[str] = []
    for number in range(1, 40):
        target, folder = start(program, "0"), tmp_path / str(number)

        def told(event: AnyEvent, folder: Path = folder) -> None:
            if state_of(event) == "HEALTH_CHECK":
                (folder / "ill").touch()

        machine = machine_at(folder, PROBE.format(folder), told)
        going_on = killed(machine, source, functools.partial(has_lines, number))
        (folder / "ill").unlink(missing_ok=True)
        events = machine.history.read().events
        if not going_on:
            assert isinstance(events[-1], RunEnded)
            assert events[-1].outcome is State.ROLLED_BACK
            break
        killed_at.append(state_of(events[-1]))
        recover(replace(machine, told=lambda: None))
        last, new = actions(machine)[-1], target.ask("a").startswith("2")
        assert isinstance(machine.history.read().events[-1], RunEnded)
        assert new == bool(last.changed) == (last.state is State.SUCCEEDED_WITH_WARNINGS), (killed_at, last)
        quarantined = [entry.update for entry in read_quarantine(machine.places.quarantine)]
        assert quarantined == ([KEY] if last.state is State.ROLLED_BACK else []), killed_at
        if killed_at[-1] in ("Quarantined", "ROLLED_BACK"):
            assert last.state is State.ROLLED_BACK, (killed_at, last.detail)
        target.close()
    assert {"APPLYING", "HEALTH_CHECK", "Quarantined", "ROLLED_BACK", "RunEnded"} <= set(killed_at)


def test_what_a_log_said_while_nobody_watched_counts(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made
) -> None:
    target = start(program, "0")
    (log := tmp_path / "error.log").write_text("error: old\n")
    probe = f'[[probe]]\nkind = "log"\nname = "few"\nfile = "{log}"\npattern = "error"\n'
    machine = machine_at(tmp_path / "machine", probe)
    assert killed(machine, source, lambda lines: state_of(lines[-1]) == "HEALTH_CHECK")
    with log.open("a") as stream:
        stream.write("error: new\n")
    recover(machine)
    last = actions(machine)[-1]
    assert (last.state, "1 lines match 'error'" in last.detail) == (State.ROLLED_BACK, True)
    assert target.ask("a") == "1 1 1"


def test_what_was_cut_off_half_way_is_in_memory(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made
) -> None:
    """A crash in the part that was done counts, and the rest is offered again."""
    target = start(program, "0")
    (log := tmp_path / "kmsg").touch()
    machine = replace(machine_at(tmp_path / "machine"), kernel_log=log)
    machine.record(AgentBegan(version="1", mode="automatic", boot=boot_id()))
    assert killed(machine, source, lambda lines: state_of(lines[-1]) == "HEALTH_CHECK")
    other = start(program, "0")
    recover(machine)
    last = actions(machine)[-1]
    assert (last.state, last.detail) == (
        State.SUCCEEDED_WITH_WARNINGS,
        "the run was cut off; some processes run old code",
    )
    assert [[each.pid for each in found] for found in (last.changed, last.old)] == [[target.pid], [other.pid]]
    assert in_memory(machine.history.read().events) == {KEY: last}
    for since in (None, datetime(2026, 1, 1, tzinfo=UTC)):
        assert wanted_now(machine, source.offers(()), since) == source.offers(())
    log.write_text(crash_line(last, 1))
    note_crashes(machine)
    (ended,) = take_back_crashed(machine)
    assert (ended.state, target.ask("a")) == (State.ROLLED_BACK, "1 1 1")


def test_a_reboot_while_a_run_was_cut_off_is_told(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made
) -> None:
    target = start(program, "0")
    machine = machine_at(tmp_path / "machine")
    assert killed(machine, source, lambda lines: state_of(lines[-1]) == "HEALTH_CHECK")
    target.close()
    lines = machine.places.history.read_text()
    assert lines.count(f'"boot":"{boot_id()}"') == 1
    machine.places.history.write_text(lines.replace(boot_id(), "another"))
    recover(machine)
    last = actions(machine)[-1]
    told = "the run was cut off; the machine was rebooted, and no process has the new code"
    assert (last.state, last.detail, last.changed) == (State.CANCELED, told, ())


class Full(History):
    """A history on a disk that is full for a while."""

    left = 0

    def append(self, event: AnyEvent | AssessedAgain, now: datetime | None = None) -> None:
        if self.left:
            self.left -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(event, now)


def full_at(folder: Path, state: str, lines: int, wanted: str = "") -> Machine:
    """Return a machine that is ill from a state on, and cannot write the next lines."""
    machine = machine_at(folder, PROBE.format(folder) + wanted)
    history = Full(machine.places.history)

    def told() -> None:
        if state_of(history.read().events[-1]) == state and not (folder / "ill").exists():
            (folder / "ill").touch()
            history.left = lines

    return replace(machine, history=history, told=told)


def test_a_machine_that_is_ill_is_taken_back_with_a_full_disk_too(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made
) -> None:
    target, machine = start(program, "0"), full_at(tmp_path, "HEALTH_CHECK", 1000)
    with pytest.raises(HotmendError, match="No space left"):
        run_to_its_end(machine, source, NOW)
    assert target.ask("a") == "1 1 1"
    assert state_of(machine.history.read().events[-1]) == "HEALTH_CHECK"


def test_a_quarantine_that_cannot_be_written_is_told(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made
) -> None:
    target, machine = start(program, "0"), full_at(tmp_path, "HEALTH_CHECK", 0)
    machine.places.quarantine.with_name(f"quarantine.json.{os.getpid()}").mkdir()
    (action,) = run(machine, source, NOW).actions
    assert target.ask("a") == "1 1 1"
    assert (action.state, "not in quarantine:" in action.detail) == (State.ROLLED_BACK, True)


@pytest.mark.parametrize("lines", [1, 1000])
def test_what_cannot_be_written_after_memory_was_changed_is_never_called_unchanged(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made, lines: int
) -> None:
    """Ended at once where the disk has room again, by the next turn where it has not; never as if nothing was done."""
    target = start(program, "0")
    post = f'[[post_event]]\ncommand = ["touch", "{tmp_path}/back"]\n'
    machine = full_at(tmp_path, "APPLYING", lines, post)
    with pytest.raises(HotmendError, match="No space left"):
        run_to_its_end(machine, source, NOW)
    if lines > 1:
        assert (target.ask("a"), actions(machine)[-1].state) == ("1 1 1", State.APPLYING)
        assert not (tmp_path / "back").exists()
    else:
        events = machine.history.read().events
        assert [state_of(event) for event in events[-3:]] == ["ROLLED_BACK", "POST_EVENT", "RunEnded"]
        assert (target.ask("a"), (tmp_path / "back").exists()) == ("1 1 1", True)


@pytest.mark.parametrize("how", ["ended", "crashed", "thread crashed", "log-gone"])
def test_what_ends_or_crashes_while_it_is_watched_is_taken_back(
    tmp_path: Path,
    program: Path,
    start: Callable[..., Target],
    source: Made,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed by SIGABRT, of which the kernel's log says nothing; the log says it crashed; the log cannot be read.

    What the log said before the run says nothing, and its clock, far behind here, decides nothing.
    """
    monkeypatch.setattr("hotmend.agent.run._SYSTEMD", tmp_path / "none")
    target = start(program, "0")
    assert target.ask("n") == "named"
    (thread,) = {int(each.name) for each in Path(f"/proc/{target.pid}/task").iterdir()} - {target.pid}
    ended = 'audit: type=1701 audit(1:2): auid=4 pid={} comm={} exe="/t" sig=6 res=1'
    before = "6,7,5,-;" + ended.format(target.pid, '"target"') + "\n"
    (log := tmp_path / "kmsg").write_text(before)

    def told(event: AnyEvent) -> None:
        if state_of(event) != "HEALTH_CHECK":
            return
        if how == "ended":
            target.process.send_signal(signal.SIGABRT)
            target.process.wait(10)
        elif how == "crashed":
            log.write_text(f"{before}6,8,6,-;{ended.format(target.pid, b'named 1'.hex().upper())}\n")
        elif how == "thread crashed":
            at = "ip 000055d000001215 sp 0 error 4 in target[1215,55d000000000+2000]"
            log.write_text(f"{before}6,8,6,-;named 1[{thread}]: segfault at 0 {at} likely on CPU 1\n")
        else:
            log.unlink()

    machine = replace(machine_at(tmp_path / "machine", "", told), kernel_log=log)
    (action,) = run(machine, source, NOW).actions
    why = {
        "ended": "1 of 1 changed processes of target ended while they were watched",
        "crashed": f"named 1 ({target.pid}) crashed while it was watched: signal 6",
        "thread crashed": f"named 1 ({target.pid}) crashed while it was watched: segfault at 0x55d000001215",
        "log-gone": f"{log} cannot be read any more: No such file or directory",
    }[how]
    assert (action.state, action.detail) == (State.ROLLED_BACK, why)
    if how != "ended":
        assert target.ask("a") == "1 1 1"


def test_a_kernel_log_that_cannot_be_read_is_told_before_anything_is_changed(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made
) -> None:
    target = start(program, "0")
    machine = replace(machine_at(tmp_path / "machine"), kernel_log=tmp_path / "none")
    assert run(machine, source, NOW).state is State.SUCCEEDED
    assert target.ask("a") == "2 1 2"
    (line,) = [event for event in machine.history.read().events if state_of(event) == "PRE_EVENT"]
    assert isinstance(line, RunState)
    assert line.detail == f"crashes are not seen: {tmp_path}/none: No such file or directory"


EVENTS = """
[[pre_event]]
command = ["touch", "{0}/out"]
[[pre_event]]
command = ["test", "!", "-e", "{0}/no"]
[[post_event]]
command = ["rm", "{0}/out"]
"""


@pytest.mark.parametrize("fails", ["second-pre-event", "download", "groups"])
def test_what_a_pre_event_began_is_ended_by_its_post_event(tmp_path: Path, source: Made, fails: str) -> None:
    """However little was done: out of the balancer, back into it."""
    machine = machine_at(tmp_path, EVENTS.format(tmp_path))
    if fails == "second-pre-event":
        (tmp_path / "no").touch()
    elif fails == "download":
        source.error = FetchError("the network is down")
    else:
        source.unknown = FetchError("nobody knows")
    ended = run(machine, source, NOW)
    expected = {"second-pre-event": State.BLOCKED, "download": State.FAILED, "groups": State.FAILED}
    assert (ended.state, ended.actions[0].state) == (expected[fails],) * 2
    assert not (tmp_path / "out").exists()
    states = [state_of(event) for event in machine.history.read().events]
    assert (states.count("POST_EVENT"), states[-1]) == (1, "RunEnded")


def test_a_machine_that_is_ill_before_has_no_post_event(tmp_path: Path, source: Made) -> None:
    (tmp_path / "ill").touch()
    machine = machine_at(tmp_path, PROBE.format(tmp_path) + EVENTS.format(tmp_path))
    ended = run(machine, source, NOW)
    assert (ended.state, ended.detail) == (
        State.BLOCKED,
        "ill before anything was changed: probe well: test: exit code 1",
    )
    assert "POST_EVENT" not in [state_of(event) for event in machine.history.read().events]


WINDOW = """
[[maintenance.window]]
name = "now"
rule = "FREQ=DAILY"
start = 2026-01-01T02:00:00
minutes = 60
"""


@pytest.mark.parametrize("what", ["hold", "window"])
def test_the_disk_waits_for_what_came_while_memory_was_changed(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made, what: str
) -> None:
    """A hold, or the end of the window: apt is not begun, and the update is offered again for its sake."""
    target = start(program, "0")
    moments = [datetime(2026, 11, 29, 2, 30, tzinfo=UTC)]
    pending = Pending("hotmend-no-such-package", "amd64", "1", "2", ("Debian-Security:12/oldstable-security",))
    source.offer = replace(source.offer, pending=pending)

    def told(event: AnyEvent) -> None:
        if state_of(event) != "HEALTH_CHECK":
            return
        if what == "hold":
            (tmp_path / "etc/hotmend").mkdir(parents=True, exist_ok=True)
            (tmp_path / "etc/hotmend/hold").touch()
        else:
            moments.append(datetime(2026, 11, 29, 3, tzinfo=UTC))

    machine = replace(machine_at(tmp_path, WINDOW, told, 'zone = "UTC"\n'), clock=lambda: moments[-1])
    ended = run(machine, source, Order(Trigger.SCHEDULE))
    state, why = {
        "hold": (State.CANCELED, "on hold until it is released"),
        "window": (State.WINDOW_EXCEEDED, "there is not enough time left in the window"),
    }[what]
    assert (ended.state, ended.detail) == (state, f"not installed: {why}")
    assert (target.ask("a"), ended.actions[0].state) == ("2 1 2", State.SUCCEEDED)
    events = machine.history.read().events
    assert [event.why for event in events if isinstance(event, DiskLeft)] == [why]
    assert not [event for event in events if isinstance(event, DiskBegan)]
    assert wanted_now(machine, source.offers(()), moments[0].replace(minute=0)) == source.offers(())


def test_nothing_is_ended_while_a_hold_is_there(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made
) -> None:
    target, machine = start(program, "0"), machine_at(tmp_path, PROBE.format(tmp_path))
    assert killed(machine, source, lambda lines: state_of(lines[-1]) == "HEALTH_CHECK")
    (tmp_path / "ill").touch()
    begin_hold(machine.places.hold, None, "Christmas sale")
    before = machine.history.read().events
    assert recover(machine) is None
    assert (target.ask("a"), machine.history.read().events) == ("2 1 2", before)
    end_hold(machine.places.hold)
    assert recover(machine) is not None
    assert (target.ask("a"), actions(machine)[-1].state) == ("1 1 1", State.ROLLED_BACK)


def crash_line(action: Action, sequence: int) -> str:
    """Return what the kernel logs of a crash of a thread at the first byte of an action's new code."""
    (process,) = action.changed
    start = process.shadows[0][0]
    return f"6,{sequence},5,-;named 1[99]: segfault at 0 ip {start:016x} sp 0 error 4 likely on CPU 1\n"


def looked(machine: Machine, log_from: int) -> None:
    """Write the line that a turn ends its look with."""
    machine.record(Assessed(waiting=(), restarts=(), reboot=(), log_from=log_from))


def test_a_crash_long_after_a_run_is_taken_back(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made
) -> None:
    """Each crash is a line once, and is taken back once, by a turn that may."""
    target = start(program, "0")
    (log := tmp_path / "kmsg").write_text("6,7,9,-;before\n")
    machine = replace(machine_at(tmp_path / "machine"), kernel_log=log)
    machine.record(AgentBegan(version="1", mode="automatic", boot=boot_id()))
    (action,) = run(machine, source, NOW).actions
    looked(machine, note_crashes(machine))
    assert take_back_crashed(machine) == ()
    log.write_text(crash_line(action, 7))
    assert note_crashes(machine) == 8  # nothing new
    assert not [event for event in machine.history.read().events if isinstance(event, Crashed)]
    log.write_text(crash_line(action, 8))
    looked(machine, note_crashes(machine))
    assert note_crashes(machine) == 9
    (crash,) = [event for event in machine.history.read().events if isinstance(event, Crashed)]
    assert (crash.ours, crash.hotpatches, crash.what) == (True, action.hotpatches, "segfault")
    assert target.ask("a") == "2 1 2"
    (ended,) = take_back_crashed(machine)
    assert (ended.state, target.ask("a")) == (State.ROLLED_BACK, "1 1 1")
    assert [entry.update for entry in read_quarantine(machine.places.quarantine)] == [KEY]
    assert take_back_crashed(machine) == ()
    events = machine.history.read().events
    (begun,) = [event for event in events if isinstance(event, RunBegan) and event.trigger == "crash"]
    assert isinstance(events[-1], RunEnded)
    assert (events[-1].run, events[-1].outcome, ended.run) == (begun.run, State.ROLLED_BACK, begun.run)


@pytest.mark.parametrize("caught", [True, False])
def test_what_is_forked_while_an_update_is_taken_back(
    tmp_path: Path,
    program: Path,
    start: Callable[..., Target],
    source: Made,
    monkeypatch: pytest.MonkeyPatch,
    *,
    caught: bool,
) -> None:
    """It is taken back too. What was never caught is named, and when it crashes later it is taken back again."""
    target = start(program, "0")
    (log := tmp_path / "kmsg").touch()

    def told(event: AnyEvent) -> None:
        if state_of(event) == "HEALTH_CHECK":
            (tmp_path / "ill").touch()

    machine = replace(machine_at(tmp_path / "machine", PROBE.format(tmp_path), told), kernel_log=log)
    machine.record(AgentBegan(version="1", mode="automatic", boot=boot_id()))
    children: list[int] = []

    def reverting(hotpatches: Sequence[str], pids: Sequence[int], options: Options) -> list[ProcessResult]:
        if not children:
            children.append(int(target.ask("F")))
        return revert(hotpatches, [pid for pid in pids if caught or pid == target.pid], options)

    monkeypatch.setattr("hotmend.agent.undo.revert", reverting)
    try:
        (action,) = run(machine, source, NOW).actions
        (child,) = children
        active = [hotpatch.active for hotpatch in process_status(child)]
        assert (target.ask("a"), active) == ("1 1 1", [not caught])
        if caught:
            assert (action.state, action.changed) == (State.ROLLED_BACK, ())
            return
        assert (action.state, [process.pid for process in action.changed]) == (State.FAILED, [child])
        assert f"could not be taken back in {child} (target): restart them" in action.detail
        monkeypatch.undo()
        log.write_text(crash_line(action, 1))
        note_crashes(machine)
        (ended,) = take_back_crashed(machine)
        assert (ended.state, [hotpatch.active for hotpatch in process_status(child)]) == (State.ROLLED_BACK, [False])
    finally:
        for child in children:
            end(child)


@pytest.mark.parametrize("state", ["RunBegan", "Quarantined", "ROLLED_BACK"])
def test_a_turn_that_is_killed_while_it_takes_back_is_made_up_for(
    tmp_path: Path, program: Path, start: Callable[..., Target], source: Made, state: str
) -> None:
    target = start(program, "0")
    (log := tmp_path / "kmsg").touch()
    machine = replace(machine_at(tmp_path / "machine"), kernel_log=log)
    machine.record(AgentBegan(version="1", mode="automatic", boot=boot_id()))
    (action,) = run(machine, source, NOW).actions
    log.write_text(crash_line(action, 1))
    note_crashes(machine)

    def told() -> None:
        if state_of(machine.history.read().events[-1]) == state:
            os.kill(os.getpid(), signal.SIGKILL)

    if not (child := os.fork()):
        take_back_crashed(replace(machine, told=told))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert recover(machine) is not None
    take_back_crashed(machine)
    last = [each for each in actions(machine) if each.hotpatches][-1]
    assert (target.ask("a"), last.state) == ("1 1 1", State.ROLLED_BACK)
    assert [entry.update for entry in read_quarantine(machine.places.quarantine)] == [KEY]


def test_the_log_of_another_boot_was_not_read(tmp_path: Path) -> None:
    """Its clock begins anew: what was read before says nothing."""
    machine = replace(machine_at(tmp_path), kernel_log=tmp_path / "none")
    machine.record(AgentBegan(version="1", mode="automatic", boot="another"))
    looked(machine, 2**60)
    assert note_crashes(machine) == 0
    machine.record(AgentBegan(version="1", mode="automatic", boot=boot_id()))
    assert note_crashes(machine) == 0
    looked(machine, 77)
    machine.record(AgentBegan(version="2", mode="automatic", boot=boot_id()))
    assert note_crashes(machine) == 77  # and an unreadable log is read from there later
