"""Stopping all threads of a process for a moment, and letting them go so that the program sees nothing.

A stop is SEIZE (which stops nobody), then INTERRUPT of every thread, then waiting with a budget until the *set* of
threads is stable. Threads of other processes that share the address space count as threads. A thread that does not
stop in time (the parent in vfork cannot) makes the whole stop fail: the others are let go at once, the late one as
soon as it stops (`Stopper.release_late`), at the latest when the tracing thread of this process ends: the kernel then
detaches. A tracer killed at any point leaves threads that run on.

A system call that the stop interrupted returns -EINTR to a program that never expected it (`epoll_wait` does). As soon
as the thread is seen stopped the result is changed to -ERESTARTNOHAND, so the kernel itself restarts the call if no
signal is there, and returns -EINTR if one is. What is left is a tracer killed between a thread's stop and that moment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hotmend.linux import procfs, sys
from hotmend.linux.sys import Registers
from hotmend.model.errors import HotmendError, PermissionRefusedError, ProcessGoneError

EINTR_RESULT = -errno.EINTR
ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK = -512, -513, -514, -516
_MASK64 = (1 << 64) - 1

RESTARTABLE_CALLS = frozenset(
    {
        0, 1, 7, 17, 18, 19, 20, 23, 42, 43, 44, 45, 46, 47, 61, 65, 69, 70, 72, 73, 128, 202, 208, 219, 220, 232,
        240, 242, 243, 247, 270, 271, 281, 288, 295, 296, 299, 307, 327, 328, 333, 426, 441, 449,
    }
)  # fmt: skip
"""Calls that may be made again after -EINTR: read, write, poll, connect, accept, send*, recv*, wait*, sem*,
msg*, fcntl, flock, sigtimedwait, futex, io_getevents, epoll_*, io_uring_enter and their variants. `close` is not among
them."""

_POLL_SECONDS = 5e-6
_POLL_SHARE = 8
"""Sleep an eighth of the time waited so far: a late thread, which needs a processor itself, is not disturbed."""

_NUMBERS_MAX = 256
"""So many new process numbers are asked for one by one; listing all processes takes longer than a stop."""

_REST_STOPS, _REST_SECONDS_MIN = 5, 0.002
"""Between two stops the process runs at least five times as long as it was stopped, and no less than that."""


class StopFailureKind(StrEnum):
    """Why a process could not be stopped."""

    LATE = "late"
    TRACED = "traced"
    JOB_CONTROL = "job-control"


class StopFailure(HotmendError):
    """The threads were not all stopped; those that were have been let go.

    Attributes:
        kind: why.
        tids: the threads concerned.
    """

    def __init__(self, kind: StopFailureKind, tids: Sequence[int], message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.tids = tuple(tids)


@dataclass(slots=True)
class StoppedThread:
    """A thread in a ptrace stop.

    Attributes:
        tid: thread id.
        pid: process it belongs to (differs from the target's where only the memory is shared).
        registers: at the stop.
        signal: signal whose delivery the stop found; it is delivered on detach.
    """

    tid: int
    pid: int
    registers: Registers
    signal: int

    @property
    def in_system_call(self) -> bool:
        """Whether the kernel still has a system call to finish or restart for it."""
        return sys.signed(self.registers.orig_rax) >= 0


@dataclass(slots=True)
class Stopped:
    """All threads of a process, stopped.

    Attributes:
        threads: by thread id.
        began: `time.perf_counter()` before the first interrupt.
    """

    threads: dict[int, StoppedThread]
    began: float


def memory_sharers(pid: int, candidates: Iterable[int]) -> tuple[int, ...]:
    """Return those of `candidates` that are other processes with the address space of `pid`."""
    result = []
    for other in candidates:
        if other == pid:
            continue
        try:
            if sys.share_memory(pid, other):
                result.append(other)
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise PermissionRefusedError("this kernel has no kcmp(2)") from error
    return tuple(result)


def restarted(registers: Registers) -> Registers | None:
    """Return registers under which an interrupted call restarts unseen; None where nothing need change."""
    if sys.signed(registers.rax) != EINTR_RESULT or registers.orig_rax not in RESTARTABLE_CALLS:
        return None
    return registers._replace(rax=ERESTARTNOHAND & _MASK64)


@dataclass(slots=True)
class Stopper:
    """Stops one process again and again. All its methods belong to one thread of this process.

    Attributes:
        pid: target.
        sharers: other processes with the same address space, as of `look_around`.
    """

    pid: int
    sharers: tuple[int, ...] = ()
    _newest: int = -1
    _late: set[int] = field(default_factory=set)
    _seized: dict[int, int] = field(default_factory=dict)
    _rested_at: float = 0.0

    def look_around(self) -> None:
        """Find the processes that share the target's memory. Takes a while; not inside a stop."""
        self._newest = procfs.newest_pid()
        self.sharers = memory_sharers(self.pid, procfs.list_processes())

    def _threads(self) -> dict[int, int]:
        """Return every thread to stop, with its process."""
        found = dict.fromkeys(procfs.list_threads(self.pid), self.pid)
        for other in self.sharers:
            with contextlib.suppress(ProcessGoneError):
                found.update(dict.fromkeys(procfs.list_threads(other), other))
        return found

    def stop(self, budget_seconds: float, only: int | None = None) -> Stopped:
        """Stop all threads (or only thread `only`) within the budget.

        Raises:
            StopFailure: they did not all stop, someone else traces one, or job control stopped the process.
            ProcessGoneError, PermissionRefusedError: as they say.
        """
        wanted = self._current_threads() if only is None else {only: self.pid}
        dead: set[int] = set()
        stopped: dict[int, StoppedThread] = {}
        self._seize(wanted, dead)
        began = time.perf_counter()
        try:
            while True:
                fresh = [tid for tid in wanted if tid not in stopped and tid not in dead]
                self._interrupt(fresh, dead)
                self._await(fresh, wanted, stopped, dead, began + budget_seconds)
                if only is not None:
                    break
                current = self._current_threads()
                wanted |= current
                if current.keys() <= stopped.keys() | dead:
                    break
                self._seize({t: p for t, p in current.items() if t not in stopped}, dead)
        except BaseException:
            self._abandon(stopped)
            raise
        if not stopped:
            raise ProcessGoneError(f"process {self.pid} is gone")
        return Stopped(stopped, began)

    def _current_threads(self) -> dict[int, int]:
        """Return the threads there are now, having looked for new processes with the same memory."""
        newest, threads = procfs.newest_pid(), self._threads()
        if newest != self._newest:
            fresh: Iterable[int] = range(self._newest + 1, newest + 1)
            if not 0 < newest - self._newest <= _NUMBERS_MAX or memory_sharers(self.pid, set(fresh) - threads.keys()):
                found = memory_sharers(self.pid, procfs.list_processes())
                self.sharers = tuple(dict.fromkeys(self.sharers + found))
                threads = self._threads()
            self._newest = newest
        return threads

    def _seize(self, wanted: dict[int, int], dead: set[int]) -> None:
        """Become the tracer of the threads that are not yet seized."""
        for tid, pid in wanted.items():
            if tid in self._seized or tid in dead:
                continue
            try:
                sys.seize(tid)
                self._seized[tid] = pid
            except OSError as error:
                if error.errno == errno.ESRCH or _is_dead(pid, tid):
                    dead.add(tid)
                    continue
                self._abandon({})
                raise _seize_failure(self.pid, tid) from error

    @staticmethod
    def _interrupt(tids: Iterable[int], dead: set[int]) -> None:
        """Ask threads to stop."""
        for tid in tids:
            if tid in dead:
                continue
            try:
                sys.interrupt(tid)
            except OSError:
                dead.add(tid)

    def _await(
        self,
        tids: Sequence[int],
        owners: dict[int, int],
        stopped: dict[int, StoppedThread],
        dead: set[int],
        limit: float,
    ) -> None:
        """Wait until each of `tids` has stopped or is dead."""
        waiting, began = [tid for tid in tids if tid not in dead], time.perf_counter()
        while waiting:
            left = []
            for tid in waiting:
                thread = self._collect(tid, owners[tid])
                if thread is None:
                    left.append(tid)
                elif isinstance(thread, StoppedThread):
                    stopped[tid] = thread
                else:
                    dead.add(tid)
                    self._seized.pop(tid, None)
            waiting = left
            now = time.perf_counter()
            if waiting and now > limit:
                raise StopFailure(
                    StopFailureKind.LATE,
                    waiting,
                    f"threads {', '.join(map(str, waiting))} of process {self.pid} did not stop in time",
                )
            if waiting:  # no spinning: the thread may need this very processor to stop
                time.sleep(max(_POLL_SECONDS, (now - began) / _POLL_SHARE))

    def _collect(self, tid: int, pid: int) -> StoppedThread | bool | None:
        """Return the thread if it stopped, False if it ended, None if neither yet."""
        try:
            found, status = os.waitpid(tid, os.WNOHANG | sys.WALL)
        except ChildProcessError:
            return False
        if found == 0:
            return None
        if not os.WIFSTOPPED(status):
            return False
        signal, event = status >> 8 & 0xFF, status >> 16
        try:
            registers = sys.get_registers(tid)
            # At once, not when it is let go: should this tracer be killed, the thread runs on with what it has now.
            if event and (changed := restarted(registers)) is not None:
                sys.set_registers(tid, changed)
                registers = changed
        except OSError:
            return False
        thread = StoppedThread(tid, pid, registers, 0 if event else signal)
        if event == sys.EVENT_STOP and signal != 5:
            self._detach(thread)
            raise StopFailure(
                StopFailureKind.JOB_CONTROL, (tid,), f"process {self.pid} is stopped by job control (signal {signal})"
            )
        return thread

    def _detach(self, thread: StoppedThread) -> None:
        """Let one thread go."""
        with contextlib.suppress(OSError):
            sys.detach(thread.tid, thread.signal)
        self._seized.pop(thread.tid, None)

    def release(self, stopped: Stopped) -> float:
        """Let all threads go; return the length of the stop in seconds."""
        for thread in stopped.threads.values():
            self._detach(thread)
        now = time.perf_counter()
        seconds = now - stopped.began
        self._rested_at = now + max(_REST_STOPS * seconds, _REST_SECONDS_MIN)
        return seconds

    def rest(self) -> None:
        """Sleep until the process has run for a while since its last stop."""
        self.pause(self._rested_at - time.perf_counter())

    def _abandon(self, stopped: dict[int, StoppedThread]) -> None:
        """Let go what stopped, and remember what is seized but has not stopped yet."""
        for thread in stopped.values():
            self._detach(thread)
        self._interrupt(list(self._seized), set())
        self._late.update(self._seized)
        self.release_late()

    def release_late(self) -> bool:
        """Let late threads go that have stopped meanwhile; return whether all are gone."""
        for tid in list(self._late):
            with contextlib.suppress(StopFailure):
                thread = self._collect(tid, self._seized.get(tid, self.pid))
                if thread is None:
                    continue
                if isinstance(thread, StoppedThread):
                    self._detach(thread)
            self._late.discard(tid)
            self._seized.pop(tid, None)
        return not self._late

    def pause(self, seconds: float) -> None:
        """Sleep between two attempts, letting late threads go as soon as they stop."""
        limit = time.perf_counter() + seconds
        while (left := limit - time.perf_counter()) > 0:
            time.sleep(left if self.release_late() else min(left, 0.0005))


def _is_dead(pid: int, tid: int) -> bool:
    """Tell whether a thread has ended (a zombie leader stays listed)."""
    try:
        return procfs.read_thread_stat(pid, tid).state in "ZX"
    except HotmendError:
        return True


def _seize_failure(pid: int, tid: int) -> HotmendError:
    """Return why thread `tid` could not be seized: another tracer, or no permission."""
    tracer = procfs.read_status(pid, tid).tracer
    if tracer:
        try:
            name = procfs.read_stat(tracer).comm
        except HotmendError:
            name = "?"
        return StopFailure(StopFailureKind.TRACED, (tid,), f"process {pid} is traced by {name} (pid {tracer})")
    return PermissionRefusedError(f"not allowed to trace process {pid}", "run as root or with CAP_SYS_PTRACE")
