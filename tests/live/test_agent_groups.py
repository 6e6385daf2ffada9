"""One package, two groups of processes with builds of their own: what `upgrade` and apt's hook record has both."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from hotmend.agent.apt.pending import Pending
from hotmend.agent.boot import boot_id
from hotmend.agent.crashed import note_crashes, take_back_crashed
from hotmend.agent.journal import Journal
from hotmend.agent.machine import Machine
from hotmend.agent.memory import Coverage, Group, Manner, Memory, Prepared, Want, in_memory, mapping_of
from hotmend.agent.record.history import Action, AgentBegan
from hotmend.agent.recovery import recover
from hotmend.linux.process import processes_mapping
from hotmend.live.gate import hotpatch_id
from hotmend.model.hotpatch import Hotpatch, Outcome
from hotmend.publisher.pairing import FileState
from hotmend.publisher.update import FileReport, Side, Update
from hotmend.servicing.actions import State
from tests.live.conftest import SOURCE, Target
from tests.live.handmade import compile_target, make_hotpatch
from tests.live.test_agent_run import actions, crash_line, machine_at

pytestmark = pytest.mark.live
WAITS = Pending("made", "amd64", "1", "2", ())


class Two:
    """Two builds of one program, a process of each, and where their hotpatches come from."""

    def __init__(self, folder: Path, start: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> None:
        self.programs = [self._program(folder / name) for name in ("installed", "earlier")]
        self.targets = [start(program, "0") for program in self.programs]
        self.hotpatches = [make_hotpatch(program, {"first": 2}, "target") for program in self.programs]
        monkeypatch.setattr("hotmend.agent.memory.elf_files", lambda name: ())  # it is no package of dpkg's
        monkeypatch.setattr("hotmend.agent.memory.grouped", lambda running, files: tuple(self._groups()))

    @staticmethod
    def _program(folder: Path) -> Path:
        folder.mkdir()
        return compile_target(SOURCE, folder / "target", f"-Wl,--build-id=0x{secrets.token_hex(20)}")

    def _groups(self) -> Iterator[Group]:
        for hotpatch in self.hotpatches:
            yield Group(mapping_of(processes_mapping(), {hotpatch.old_build_id}))

    def making(self, want: Want, manner: Manner) -> tuple[Update, Prepared]:
        """Return the hotpatch of a group."""
        build = want.group.mapping[0].images[0].build_id
        hotpatch = next(each for each in self.hotpatches if each.old_build_id == build)
        sides = [Side(f"made={version}", "made", version, 1) for version in "12"]
        report = FileReport(hotpatch.path, hotpatch.path, FileState.CHANGED, _outcome(hotpatch))
        return Update(sides[0], sides[1], (report,), hotpatch.cves, ()), Prepared(
            (hotpatch,), {hotpatch.old_build_id: Coverage.WHOLE}
        )

    def brought_in(self, machine: Machine) -> Memory:
        """Do what `upgrade` does with one package."""
        journal = Journal(machine, "upgrade")
        journal.begin([WAITS])
        result = in_memory(WAITS, self.programs[0], (), machine.manner(), journal.applying, self.making)
        journal.done(result)
        journal.end()
        return result.memory

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the hotpatches."""
        return tuple(map(hotpatch_id, self.hotpatches))

    def answers(self) -> list[str]:
        """Return what the processes say."""
        return [target.ask("a") for target in self.targets]


def _outcome(hotpatch: Hotpatch) -> Outcome:
    builds = hotpatch.old_build_id, hotpatch.new_build_id
    return Outcome(hotpatch.name, hotpatch.path, *builds, hotpatch.verdict, (), hotpatch.statistics, hotpatch)


@pytest.fixture
def two(tmp_path: Path, start: Callable[..., Target], monkeypatch: pytest.MonkeyPatch) -> Two:
    (folder := tmp_path / "programs").mkdir()
    return Two(folder, start, monkeypatch)


def _has_both(action: Action, two: Two) -> bool:
    builds = tuple(str(hotpatch.old_build_id) for hotpatch in two.hotpatches)
    images = tuple(map(str, two.programs))
    return (action.hotpatches, action.old_builds, action.images) == (two.ids, builds, images)


def test_a_crash_in_the_second_group_takes_the_code_back_that_crashed(tmp_path: Path, two: Two) -> None:
    (log := tmp_path / "kmsg").touch()
    machine = replace(machine_at(tmp_path / "machine"), kernel_log=log)
    machine.record(AgentBegan(version="1", mode="automatic", boot=boot_id()))
    assert (two.brought_in(machine), two.answers()) == (Memory.FIXED, ["2 1 2"] * 2)
    last = actions(machine)[-1]
    assert _has_both(last, two), last
    assert [process.pid for process in last.changed] == [target.pid for target in two.targets]
    log.write_text(crash_line(msgspec.structs.replace(last, changed=last.changed[1:]), 1))
    note_crashes(machine)
    (ended,) = take_back_crashed(machine)
    assert (ended.state, two.answers()) == (State.ROLLED_BACK, ["1 1 1"] * 2)


def test_killed_while_the_second_group_is_changed_the_first_is_not_forgotten(tmp_path: Path, two: Two) -> None:
    machine = machine_at(tmp_path / "machine")

    def told() -> None:
        if len(actions(machine)) == len(two.hotpatches):
            os.kill(os.getpid(), signal.SIGKILL)

    if not (child := os.fork()):
        two.brought_in(replace(machine, told=told))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert two.answers() == ["2 1 2", "1 1 1"]
    assert [action.hotpatches for action in actions(machine)] == [two.ids[:1], two.ids]
    recover(machine)
    last = actions(machine)[-1]
    assert last.state is State.SUCCEEDED_WITH_WARNINGS
    assert _has_both(last, two), last
    assert [[each.pid for each in found] for found in (last.changed, last.old)] == [[t.pid] for t in two.targets]
