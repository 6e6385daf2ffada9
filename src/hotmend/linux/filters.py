"""Whether the seccomp filters of a process let its threads be stopped, and let them make our system calls.

Filters belong to threads, so each thread is asked. They can only be read from a stopped thread, and a stop is not
harmless under every filter: a timed wait that was interrupted goes on as `restart_syscall`, a call of its own that a
filter may deny. So a thread found in such a wait is first set back to make its own call again, and gets its registers
back once its filters are known to let `restart_syscall` pass.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import time
from collections.abc import Sequence

from hotmend.linux import procfs, sys
from hotmend.linux.calm import calm
from hotmend.linux.seccomp import CallData, FilterError, answer
from hotmend.linux.stop import ERESTART_RESTARTBLOCK, StopFailure, StopFailureKind, StoppedThread, Stopper
from hotmend.linux.sys import Registers
from hotmend.model.errors import ProcessGoneError
from hotmend.model.verdict import Reason, refusal

NO_FILTER, STRICT, FILTER = 0, 1, 2
_RESTART_SYSCALL = 219
_NAMES = {9: "mmap", 10: "mprotect", 15: "rt_sigreturn", _RESTART_SYSCALL: "restart_syscall"}
_MASK64 = (1 << 64) - 1
_STOP_SECONDS, _LOOK_SECONDS, _PAUSE_SECONDS = 0.005, 1.0, 0.002


def thread_denial(tid: int, mode: int, calls: Sequence[CallData]) -> str | None:
    """Return why a stopped thread may not make `calls`; None where it may.

    Args:
        tid: thread.
        mode: its `Seccomp:` of /proc: 0 none, 1 strict, 2 filter.
        calls: all of them have to pass.
    """
    if mode == NO_FILTER:
        return None
    if mode == STRICT:
        return "it runs in seccomp's strict mode"
    try:
        filters = sys.get_seccomp_filters(tid)
    except OSError as error:
        return _unreadable(error)
    return _judge(filters, tuple(calls))


def _unreadable(error: OSError) -> str:
    """Return what it takes to read filters."""
    if error.errno == errno.EACCES:
        return "its seccomp filters can only be read with CAP_SYS_ADMIN, and by a process that has none itself"
    return f"its seccomp filters cannot be read ({error.strerror})"


@functools.lru_cache(maxsize=256)
def _judge(filters: tuple[bytes, ...], calls: tuple[CallData, ...]) -> str | None:
    """Return which of `calls` the filters do not let pass; None where all pass."""
    for call in calls:
        name = _NAMES.get(call.number, f"system call {call.number}")
        try:
            said = answer(filters, call)
        except FilterError as error:
            return f"a seccomp filter cannot be understood: {error}"
        if not said.passes:
            return f"its seccomp filters answer {said} to {name}"
    return None


def filter_objections(stopper: Stopper, calls: Sequence[CallData]) -> tuple[Reason, ...]:
    """Return why a process cannot be worked on under its filters; () where it can.

    Every thread must be able to be stopped, those of processes on the same memory too, as far as the stopper knows of
    them. Where there are `calls` to make, one thread of the process itself must be able to make them all. Threads
    without filters are not stopped.

    Args:
        stopper: of the process.
        calls: what one thread is to call; () where nothing is to be called.
    """
    hindered: list[str] = []
    denied: list[str] = []
    able = False
    for pid, tid in _threads(stopper):
        try:
            mode = _mode(pid, tid)
            # A thread in strict mode waits in read and write only, which go on as themselves.
            stop, call = _look(stopper, tid, calls) if mode == FILTER else (None, thread_denial(tid, mode, calls))
        except ProcessGoneError:
            continue
        able |= call is None and pid == stopper.pid
        hindered += [f"thread {tid}: {stop}"] if stop else []
        denied += [f"thread {tid}: {call}"] if call else []
    pid = stopper.pid
    if hindered:
        return (_refusal(f"process {pid} cannot be stopped unharmed", hindered),)
    if calls and not able:
        return (_refusal(f"process {pid}: no thread may make the system calls that map new code", denied),)
    return ()


def _threads(stopper: Stopper) -> list[tuple[int, int]]:
    """Return process and number of each thread that a stop concerns, the process's own first."""
    found = [(stopper.pid, tid) for tid in sorted(procfs.list_threads(stopper.pid))]
    for other in stopper.sharers:
        with contextlib.suppress(ProcessGoneError):
            found += [(other, tid) for tid in sorted(procfs.list_threads(other))]
    return found


def _mode(pid: int, tid: int) -> int:
    """Return the seccomp mode of a thread that lives.

    Raises:
        ProcessGoneError: it has ended.
    """
    status = procfs.read_status(pid, tid)
    if status.state in "ZX":
        raise ProcessGoneError(f"thread {tid} has ended")
    return status.seccomp


def _refusal(sentence: str, subjects: Sequence[str]) -> Reason:
    """Return the reason, with what the first thread says in its sentence."""
    return refusal("seccomp", f"{sentence} ({subjects[0]}); restart it on the new build instead", *subjects)


def _look(stopper: Stopper, tid: int, calls: Sequence[CallData]) -> tuple[str | None, str | None]:
    """Stop one thread; return why a stop would harm it, and why it may not make `calls`."""
    limit = time.perf_counter() + _LOOK_SECONDS
    while True:
        stopper.rest()
        with calm(stopper.release_late):
            try:
                stopped = stopper.stop(_STOP_SECONDS, only=tid)
            except StopFailure as failure:
                if failure.kind is not StopFailureKind.LATE:
                    raise
            else:
                try:
                    return _ask(stopped.threads[tid], calls)
                finally:
                    stopper.release(stopped)
        if time.perf_counter() > limit:
            why = "its seccomp filters could not be read, because it did not stop in time"
            return why, why
        stopper.pause(_PAUSE_SECONDS)


def _ask(thread: StoppedThread, calls: Sequence[CallData]) -> tuple[str | None, str | None]:
    """Read the filters of a stopped thread; return what they have against a stop, and against `calls`."""
    registers, tid = thread.registers, thread.tid
    waiting = sys.signed(registers.rax) == ERESTART_RESTARTBLOCK and sys.signed(registers.orig_rax) >= 0
    waiting = waiting and registers.orig_rax != _RESTART_SYSCALL  # that one has passed already
    if waiting:
        again = registers._replace(rip=registers.rip - 2, rax=registers.orig_rax, orig_rax=_MASK64)
        sys.set_registers(tid, again)
    stop = thread_denial(tid, FILTER, (_restart(registers),))
    if waiting and stop is None:
        sys.set_registers(tid, registers)
    return stop, thread_denial(tid, FILTER, calls)


def _restart(registers: Registers) -> CallData:
    """Return the call as which a timed wait of this thread would go on."""
    r = registers
    return CallData(_RESTART_SYSCALL, (r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9), r.rip)
