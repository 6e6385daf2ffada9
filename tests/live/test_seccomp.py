"""Processes under seccomp: what the filters allow is done, and nothing is tried that they would punish."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.linux import procfs, remote
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.seccomp import Action
from hotmend.live.driver import Options, ProcessResult, apply, revert
from hotmend.live.registry import process_status
from tests.live import libseccomp
from tests.live.conftest import Target
from tests.live.filters import (
    MEMORY_DENY_WRITE_EXECUTE,
    MMAP,
    MPROTECT,
    PROT_EXEC,
    RESTART_SYSCALL,
    RT_SIGRETURN,
    Rule,
    from_one_place,
    make_filter,
)
from tests.live.handmade import make_hotpatch

Start = Callable[..., Target]
ANSWERS = {"first": 2, "second": 2}
QUICK = Options(deadline_seconds=1.0)
THIS_THREAD, ALL_THREADS = 0, 1


def confine(target: Target, program: bytes, flags: int = ALL_THREADS) -> None:
    """Install a filter in the target, in the calling thread or in all."""
    assert target.ask(f"q{flags} {program.hex()}\n") == "confined"


def applied(target: Target, program: Path) -> None:
    """Apply, which must work, and take back."""
    hotpatch = make_hotpatch(program, ANSWERS)
    (result,) = apply([hotpatch], [target.pid], Options())
    assert result.state == "applied", result
    assert target.ask("a") == "2 2 2"
    (result,) = revert(None, [target.pid], Options())
    assert result.state == "reverted", result
    assert target.ask("a") == "1 1 1"


def refused(target: Target, program: Path, options: Options = QUICK) -> ProcessResult:
    """Apply, which must be refused with the process as it was; return the result."""
    before = procfs.read_maps(target.pid)
    (result,) = apply([make_hotpatch(program, ANSWERS)], [target.pid], options)
    assert (result.state, [r.code for r in result.reasons]) == ("refused", ["seccomp"]), result
    assert process_status(target.pid) == []
    assert procfs.read_maps(target.pid) == before
    assert target.ask("a") == "1 1 1"
    return result


HARMLESS = {
    "allows everything": make_filter(),
    "logs mmap": make_filter(Rule(MMAP, Action.LOG)),
    "kills what is not called": make_filter(Rule(59, Action.KILL_PROCESS), Rule(101, Action.KILL_PROCESS)),
    "MemoryDenyWriteExecute": MEMORY_DENY_WRITE_EXECUTE,
}


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("threads", ["0", "3"])
def test_allowed(program: Path, start: Start, name: str, threads: str) -> None:
    target = start(program, threads)
    confine(target, HARMLESS[name])
    confine(target, make_filter())
    applied(target, program)


@pytest.mark.parametrize("action", [a for a in Action if a not in (Action.ALLOW, Action.LOG)])
@pytest.mark.parametrize(("number", "name"), [(MMAP, "mmap"), (MPROTECT, "mprotect"), (RT_SIGRETURN, "rt_sigreturn")])
def test_denied(program: Path, start: Start, action: Action, number: int, name: str) -> None:
    """By any action on any call of the way, also in a dry run."""
    target = start(program)
    confine(target, make_filter(Rule(number, action | (13 if action is Action.ERRNO else 0))))
    for options in (QUICK, Options(dry_run=True)):
        sentence = refused(target, program, options).reasons[0].sentence
        assert f" to {name}" in sentence
        assert action.name in sentence


@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize("default", [libseccomp.NOT_PERMITTED, libseccomp.KILL_PROCESS])
def test_only_what_a_service_needs(program: Path, start: Start, default: int, tree: bool) -> None:
    """As `SystemCallFilter=@system-service` has it, with an error number and without."""
    target = start(program, "2")
    names = [name for name in libseccomp.all_calls() if name not in libseccomp.PRIVILEGED]
    for one in libseccomp.filter_set(names, default, libseccomp.ALLOW, tree=tree):
        confine(target, one)
    confine(target, MEMORY_DENY_WRITE_EXECUTE)
    applied(target, program)


@pytest.mark.parametrize("tree", [False, True])
def test_all_but_what_is_privileged(program: Path, start: Start, tree: bool) -> None:
    """As `SystemCallFilter=~@privileged` has it."""
    target = start(program)
    for one in libseccomp.filter_set(libseccomp.PRIVILEGED, libseccomp.ALLOW, libseccomp.NOT_PERMITTED, tree=tree):
        confine(target, one)
    applied(target, program)


@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize("missing", ["mmap", "mprotect", "rt_sigreturn", "restart_syscall"])
def test_a_service_without_a_call_that_is_needed(program: Path, start: Start, missing: str, tree: bool) -> None:
    target = start(program)
    names = [name for name in libseccomp.all_calls() if name not in libseccomp.PRIVILEGED | {missing}]
    for one in libseccomp.filter_set(names, libseccomp.KILL_PROCESS, libseccomp.ALLOW, tree=tree):
        confine(target, one)
    assert f"KILL_PROCESS to {missing}" in refused(target, program).reasons[0].sentence


def test_executable_memory_denied(program: Path, start: Start) -> None:
    """Stricter than systemd: no executable mmap at all."""
    target = start(program)
    confine(target, make_filter(Rule(MMAP, Action.ERRNO | 1, argument=2, mask=PROT_EXEC)))
    assert "ERRNO (EPERM) to mmap" in refused(target, program).reasons[0].sentence


def test_strict_mode(program: Path, start: Start) -> None:
    target = start(program)
    assert target.ask("qs\n") == "confined"
    assert "strict mode" in refused(target, program).reasons[0].sentence


def test_the_place_of_the_call_counts(program: Path, start: Start) -> None:
    """A filter that knows from where a call may come is asked about exactly that place."""
    target = start(program)
    with ProcessMemory(target.pid) as memory:
        gadgets = remote.find_gadgets(memory, procfs.read_maps(target.pid))
    assert gadgets is not None
    other = start(program)
    confine(target, from_one_place(MMAP, gadgets.syscall_ret + 2, Action.KILL_PROCESS))
    applied(target, program)
    confine(other, from_one_place(MMAP, 0x1000, Action.KILL_PROCESS))
    assert "KILL_PROCESS to mmap" in refused(other, program).reasons[0].sentence


def test_another_thread_may(program: Path, start: Start) -> None:
    """The main thread must not map, but one without the filter can carry the call."""
    target = start(program, "2", "3")
    confine(target, make_filter(Rule(MMAP, Action.KILL_PROCESS)), THIS_THREAD)
    applied(target, program)


def test_one_thread_may_not(program: Path, start: Start) -> None:
    """Only the main thread is free, and it is the one that carries the call."""
    target = start(program)
    assert target.ask(f"Q0 {make_filter(Rule(MMAP, Action.KILL_PROCESS)).hex()}\n") == "confined"
    applied(target, program)


NO_RESTART = make_filter(Rule(RESTART_SYSCALL, Action.KILL_PROCESS))


def test_a_timed_wait_must_not_be_interrupted(program: Path, start: Start) -> None:
    """Ten looks, each at a moment of its own, of which most find a thread inside nanosleep."""
    target = start(program, "2", "2")
    confine(target, NO_RESTART)
    for _ in range(10):
        assert "KILL_PROCESS to restart_syscall" in refused(target, program).reasons[0].sentence
    _, loops, interrupted, _ = map(int, target.ask("c").split())
    assert loops > 0
    assert interrupted == 0


BLIND = """
import contextlib, sys, time
from hotmend.linux.stop import Stopper
from hotmend.model.errors import HotmendError

stopper, limit = Stopper(int(sys.argv[1])), time.monotonic() + 10
with contextlib.suppress(HotmendError, OSError):  # it is dying
    while time.monotonic() < limit:
        stopper.release(stopper.stop(0.5))
        time.sleep(0.003)
"""


def test_that_danger_is_real(program: Path, start: Start) -> None:
    """A stop that knows nothing of filters ends the process: what the test before shows is not an accident.

    By a process of its own, as a patcher is: to a tracer that is the parent, too, a stop's own wait may say how the
    target has ended, and nobody is told a second time.
    """
    target = start(program, "2", "2")
    confine(target, NO_RESTART)
    subprocess.run([sys.executable, "-c", BLIND, str(target.pid)], check=True, timeout=60)
    assert target.process.wait(5) == -signal.SIGSYS


def test_a_wait_goes_on_where_restarts_are_allowed(program: Path, start: Start) -> None:
    target = start(program, "2", "2")
    confine(target, make_filter())
    for _ in range(5):
        applied(target, program)
    _, loops, interrupted, _ = map(int, target.ask("c").split())
    assert loops > 0
    assert interrupted == 0
