"""A patcher as a child process, followed from system call to system call: killed or held before one of them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hotmend.linux import sys as kernel

_EVENT_SHIFT = 16


@dataclass(frozen=True, slots=True)
class Ran:
    """How a patcher ran.

    Attributes:
        calls: system calls that it began.
        reached: whether it came to the call that was asked for.
        exit_code: of the patcher; -9 when killed.
        call: number of the system call before which it was killed or held.
        looked: what `look` said while it was held.
    """

    calls: int
    reached: bool
    exit_code: int
    call: int = -1
    looked: bool = False


def run_traced(
    work: Callable[[], bool],
    at: int,
    hold_seconds: float = 0.0,
    look: Callable[[], bool] = lambda: False,
    *,
    worker: bool = False,
) -> Ran:
    """Run `work` in a child process; before its system call number `at` (from 1) kill it, or hold it for a while.

    Calls of its own children are calls of it. It has come back when they have ended, too.

    Args:
        work: tells whether it succeeded.
        at: 0: let it run to its end.
        hold_seconds: 0: kill.
        look: asked while it is held.
        worker: count the calls of its children alone, and kill the one that makes call number `at`.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _become_patcher(work, reading)
    os.close(reading)
    with contextlib.suppress(PermissionError):
        os.setpgid(child, child)
    kernel.seize(child, kernel.OPTION_CALLS | kernel.OPTION_NEW | kernel.OPTION_KILL)
    kernel.interrupt(child)
    os.write(writing, b"g")
    os.close(writing)
    try:
        return _follow(child, at, hold_seconds, look, worker=worker)
    finally:
        _reap(child)


def _become_patcher(work: Callable[[], bool], reading: int) -> None:
    """Wait for the word, do the work, and end without coming back."""
    code = 2
    try:
        with contextlib.suppress(PermissionError):
            os.setpgid(0, 0)
        os.read(reading, 1)
        code = 0 if work() else 1
    except BaseException:  # noqa: BLE001 - the child must end here, whatever happens
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(code)


def _reap(child: int) -> None:
    """Let go the children of a child that has ended, until they have ended as well: they end with it."""
    with contextlib.suppress(ChildProcessError):
        while True:
            tid, status = os.waitpid(-child, kernel.WALL)
            if os.WIFSTOPPED(status):
                with contextlib.suppress(ProcessLookupError):
                    kernel.resume(tid, 0)


def _process_of(tid: int) -> int:
    """Return the process that a thread belongs to."""
    text = Path(f"/proc/{tid}/status").read_text()
    return int(text.split("\nTgid:\t", 1)[1].split("\n", 1)[0])


def _follow(child: int, at: int, hold_seconds: float, look: Callable[[], bool], *, worker: bool) -> Ran:
    """Count the beginnings of system calls of all threads until the child has ended."""
    inside: set[int] = set()
    process: dict[int, int] = {}
    calls, reached, call, looked = 0, False, -1, False
    while True:
        tid, status = os.waitpid(-child, kernel.WALL)
        if not os.WIFSTOPPED(status):
            if tid == child:
                return Ran(calls, reached, os.waitstatus_to_exitcode(status), call, looked)
            continue
        stop, event = status >> 8 & 0xFF, status >> _EVENT_SHIFT
        deliver = 0
        if stop == kernel.CALL_STOP:
            inside ^= {tid}
            if worker and tid not in process:
                process[tid] = _process_of(tid)
            counts = tid in inside and not (worker and process[tid] == child)
            calls += counts
            if counts and calls == at and not reached:
                reached, call = True, _call_number(tid)
                if hold_seconds:
                    time.sleep(hold_seconds)
                    looked = look()
                else:
                    os.kill(process[tid] if worker else child, signal.SIGKILL)
        elif not event:
            deliver = stop
        with contextlib.suppress(ProcessLookupError):
            kernel.resume_to_call(tid, deliver)


def _call_number(tid: int) -> int:
    try:
        return kernel.get_registers(tid).orig_rax
    except OSError:
        return -1
