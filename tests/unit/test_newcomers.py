"""Who wakes the agent: new processes of files whose fix is in memory alone, again and again ever more seldom."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from hotmend.agent.newcomers import PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN, Newcomers
from hotmend.agent.record.history import Action, Reverted
from hotmend.agent.record.unfinished import leave_unfinished, unfinished
from hotmend.linux.process import file_build_id
from hotmend.servicing.actions import State


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program that nobody else runs."""
    return Path(shutil.copy(Path(shutil.which("sleep") or "/bin/sleep").resolve(), tmp_path / "program"))


def _mapped(pid: int, program: Path) -> None:
    """Wait until a process has the program in its memory: it is `exe` before it is mapped."""
    while str(program) not in Path(f"/proc/{pid}/maps").read_text():
        time.sleep(0.001)


@contextlib.contextmanager
def running(program: Path) -> Iterator[int]:
    with subprocess.Popen([str(program), "60"]) as process:
        try:
            _mapped(process.pid, program)
            yield process.pid
        finally:
            process.kill()


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.fixture
def ticking() -> list[float]:
    """The clock of `looking`: its one number."""
    return [0.0]


@pytest.fixture
def looking(tmp_path: Path, ticking: list[float]) -> Newcomers:
    return Newcomers(tmp_path / "unfinished", lambda pid: False, lambda: ticking[0])


def test_a_new_process_of_such_a_file_wakes_once(looking: Newcomers, program: Path) -> None:
    assert looking.number() == 0
    leave_unfinished(looking.file, now(), [str(program)])
    assert looking.number() == 0
    time.sleep(0.02)  # processes begin at whole hundredths of a second
    with running(program):
        assert looking.number() == 1
        assert looking.number() == 1


def test_who_was_there_before_the_turn_does_not(looking: Newcomers, program: Path) -> None:
    with running(program):
        time.sleep(0.02)
        leave_unfinished(looking.file, now(), [str(program)])
        assert looking.number() == 0


def test_who_has_the_hotpatch_does_not(looking: Newcomers, program: Path) -> None:
    looking.patched = lambda pid: True
    leave_unfinished(looking.file, now() - 1, [str(program)])
    with running(program):
        assert looking.number() == 0


def test_other_programs_do_not_and_a_later_execve_does(looking: Newcomers, program: Path) -> None:
    leave_unfinished(looking.file, now(), [str(program)])
    time.sleep(0.02)
    with subprocess.Popen(["sh", "-c", f"read line; exec {program} 60"], stdin=subprocess.PIPE) as shell:
        assert looking.number() == 0
        assert shell.stdin is not None
        shell.stdin.write(b"\n")
        shell.stdin.flush()
        _mapped(shell.pid, program)
        assert looking.number() == 1
        shell.kill()


def test_ever_more_seldom_and_none_is_forgotten(looking: Newcomers, program: Path, ticking: list[float]) -> None:
    leave_unfinished(looking.file, now() - 1, [str(program)])
    woken: list[tuple[int, int]] = []
    with contextlib.ExitStack() as stack:
        for second in range(0, 200, 2):
            ticking[0] = float(second)
            if second < 160:
                stack.enter_context(running(program))
            if (number := looking.number()) != (woken[-1][1] if woken else 0):
                woken.append((second, number))
        ticking[0] += PAUSE_SECONDS_MAX
        assert looking.number() == 6
    first = int(PAUSE_SECONDS_MIN)
    assert woken == [(0, 1), (first, 2), (3 * first, 3), (7 * first, 4), (15 * first, 5)]


def test_nothing_is_looked_for_where_no_turn_left_anything(looking: Newcomers, program: Path) -> None:
    leave_unfinished(looking.file, now() - 1, [str(program)])
    leave_unfinished(looking.file, now() - 1, [])
    assert not looking.file.exists()
    with running(program):
        assert looking.number() == 0
    looking.file.write_bytes(b"no number\n" + bytes(program))
    with running(program):
        assert looking.number() == 0


def test_what_is_unfinished(program: Path) -> None:
    build = str(file_build_id(program))
    action = Action(
        run="r",
        update="u",
        state=State.SUCCEEDED,
        hotpatches=("h",),
        old_builds=(build,),
        images=(str(program), "/usr/lib/none.so"),
        at=datetime(2026, 11, 30, tzinfo=UTC),
    )
    assert unfinished([action]) == (str(program),)
    assert unfinished([msgspec.structs.replace(action, old_builds=("00" * 20,))]) == ()
    assert unfinished([action, msgspec.structs.replace(action, state=State.ROLLED_BACK)]) == ()
    assert unfinished([action, Reverted(hotpatches=("h",), processes=())]) == ()
