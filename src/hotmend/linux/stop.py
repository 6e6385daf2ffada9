"""Stopping all threads of a process for a moment, and letting them go so that the program sees nothing.

A stop is SEIZE (which stops nobody), then INTERRUPT of every thread, then waiting with a budget until the *set* of
threads is stable. Threads of other processes that share the address space count as threads. A thread that does not
stop in time (the parent in vfork cannot) makes the whole stop fail: the others are let go at once, the late one as
soon as it stops (`Stopper.release_late`), at the latest when the tracing thread of this process ends: the kernel then
detaches. A tracer killed at any point leaves threads that run on, and handle the signals that the stop has met.

A system call that the stop interrupted returns -EINTR to a program that never expected it (`epoll_wait` does). As soon
as the thread is seen stopped the result is changed to -ERESTARTNOHAND, so the kernel itself restarts the call if no
signal is there, and returns -EINTR if one is that has a handler. Also where the stop found a signal on its way: to a
thread that is traced the kernel sends those as well that the program ignores, and they interrupt its calls. What is
left is a tracer killed between a thread's stop and that moment, and a thread that was late and does not get a processor
for seconds (`settle_late`).

A thread that executes a new program kills all others of its process and waits for them to be reaped, which a traced one
is by its tracer; nobody can seize a thread of the process meanwhile: the tracer waits in the kernel, for itself.
Another thread of this process has to reap for it then (`reap_ended`). One that was killed in its stop is reaped by
`Stopper.release_late`.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TypeVar

from hotmend.linux import procfs, sys
from hotmend.linux.sys import Registers
from hotmend.linux.window import State, Table, count_stopped, stopped_indices
from hotmend.model.errors import HotmendError, PermissionRefusedError, ProcessGoneError

_Result = TypeVar("_Result")

EINTR_RESULT = -errno.EINTR
ERESTARTSYS, ERESTARTNOINTR, ERESTART_RESTARTBLOCK = -512, -513, -516

_NUMBERS_MAX = 256
"""So many new process numbers are asked for one by one; listing all processes takes longer than a stop."""

_ONE_STOP_SECONDS, _ONE_SECONDS = 0.005, 2.0
_SEIZING_SECONDS = 0.02
_LATE_SECONDS, _LATE_POLL_SECONDS = 2.0, 0.0005
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


class Stopped:
    """All threads of a process, stopped.

    Attributes:
        began: `time.perf_counter()` before the first interrupt.
        tables: the threads, as the stop window has them.
    """

    def __init__(
        self,
        threads: dict[int, StoppedThread] | None,
        began: float,
        tables: Sequence[Table] = (),
        owners: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self.began = began
        self.tables = tables
        self._owners = owners
        self._threads = threads

    def __len__(self) -> int:
        return len(self._threads) if self._threads is not None else count_stopped(self.tables)

    def __contains__(self, tid: int) -> bool:
        if self._threads is not None:
            return tid in self._threads
        return any(tid == table.tids[index] for table, index in stopped_indices(self.tables))

    def any_tid(self) -> int | None:
        """Return one of the threads; None where there is none."""
        return next((table.tids[index] for table, index in stopped_indices(self.tables)), None)

    @property
    def threads(self) -> dict[int, StoppedThread]:
        """The threads by their ids. With many threads it takes a while to make: not where a thread's table will do."""
        if self._threads is None:
            self._threads = {t.tid: t for t in self.pick(list(stopped_indices(self.tables)))}
        return self._threads

    def pick(self, which: Iterable[tuple[Table, int]]) -> list[StoppedThread]:
        """Return some of the threads."""
        found = []
        for table, index in which:
            tid = table.tids[index]
            found.append(StoppedThread(tid, self._owners[tid], table.registers(index), table.signal(index)))
        return found


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


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What was seen at one moment of the processes that share a process's memory.

    Attributes:
        newest: `procfs.newest_pid()` before that.
        sharers: the others.
    """

    newest: int
    sharers: tuple[int, ...]


_known: dict[int, Neighbours] = {}
_stoppers: weakref.WeakSet[Stopper] = weakref.WeakSet()
_own = threading.local()
"""`late`: of a tracing thread, the stoppers that have late threads."""


def know(neighbours: Mapping[int, Neighbours]) -> None:
    """Have every later `Stopper.look_around` of these processes look at newer processes only."""
    _known.clear()
    _known.update(neighbours)


@dataclass(slots=True, eq=False, weakref_slot=True)
class Stopper:
    """Stops one process again and again. All its methods belong to one thread of this process.

    Attributes:
        pid: target.
        sharers: other processes with the same address space, as of `look_around` or the last stop.
        release_seconds: how long it took to let all threads go the last time.
        seen: the threads of the last stop, as it met them; also of one that failed.
        stops: how many were begun.
        longest_stop_seconds: of all of them; a late thread stood still at most since it was last looked for.
    """

    pid: int
    sharers: tuple[int, ...] = ()
    _newest: int = -1
    release_seconds: float = 0.0
    seen: list[Table] = field(default_factory=list)
    stops: int = 0
    longest_stop_seconds: float = 0.0
    _late: set[int] = field(default_factory=set)
    _late_seen_at: float = 0.0
    _seized: dict[int, int] = field(default_factory=dict)
    _seizing_since: float = math.inf
    _rested_at: float = 0.0

    def __post_init__(self) -> None:
        _stoppers.add(self)

    @property
    def has_looked(self) -> bool:
        """Whether `look_around` was called."""
        return self._newest >= 0

    def look_around(self) -> None:
        """Find the processes that share the target's memory. Takes a while; not inside a stop."""
        procfs.links_count_threads()  # known from then on: the first stop need not find it out
        self._newest = procfs.newest_pid()
        known = _known.get(self.pid)
        if known is not None and 0 <= self._newest - known.newest <= _NUMBERS_MAX:
            fresh = range(known.newest + 1, self._newest + 1)
            self.sharers = memory_sharers(self.pid, (*known.sharers, *fresh))
        else:
            self.sharers = memory_sharers(self.pid, procfs.list_processes())

    def _threads(self) -> dict[int, int]:
        """Return every thread to stop, with its process.

        Sharers of the memory are asked anew: a child of vfork soon shares it no more, and its number may be somebody
        else's. They are kept where nobody can tell, the first thread having ended.
        """
        found = dict.fromkeys(procfs.list_threads(self.pid), self.pid)
        kept = []
        for other in self.sharers:
            with contextlib.suppress(ProcessGoneError):
                tids = procfs.list_threads(other)
                if other not in found and (memory_sharers(self.pid, tids) or _is_dead(self.pid, self.pid)):
                    kept.append(other)
                    found.update(dict.fromkeys(tids, other))
        self.sharers = tuple(kept)
        return found

    def stop(self, budget_seconds: float, only: int | None = None) -> Stopped:
        """Stop all threads (or only thread `only`) within the budget.

        Raises:
            StopFailure: they did not all stop, someone else traces one, or job control stopped the process.
            ProcessGoneError: the process has ended, or the thread `only`: `has_ended` tells which.
            PermissionRefusedError: as it says.
        """
        self.release_late()
        wanted = self._current_threads() if only is None else {only: self.pid}
        dead: set[int] = set()
        tables: list[Table] = []
        self.seen = []
        self._seize(wanted, dead)
        fresh = [tid for tid in wanted if tid not in dead]
        self.stops += 1
        began = time.perf_counter()
        try:
            while True:
                if fresh:
                    tables.append(self._halt(fresh, dead, began + budget_seconds))
                if only is not None or self._is_everybody(tables):
                    break
                current = self._current_threads()
                wanted |= current
                known = {tid for table in tables for tid in table.tids} | dead
                if current.keys() <= known:
                    break
                self._seize({t: p for t, p in current.items() if t not in known}, dead)
                fresh = [tid for tid in current if tid not in known and tid not in dead]
        except BaseException:
            self._abandon(tables)
            self.longest_stop_seconds = max(self.longest_stop_seconds, time.perf_counter() - began)
            raise
        stopped = Stopped(None, began, tables, wanted)
        if not len(stopped):
            raise ProcessGoneError(f"process {self.pid} is gone" if only is None else f"thread {only} has ended")
        return stopped

    def has_ended(self) -> bool:
        """Tell whether the process has no thread left that lives."""
        try:
            return all(_is_dead(self.pid, tid) for tid in procfs.list_threads(self.pid))
        except ProcessGoneError:
            return True

    def _is_everybody(self, tables: Sequence[Table]) -> bool:
        """Tell whether what has stopped is all there is; False where only a list of the threads can tell.

        A stopped thread does not end, so it is one of those the kernel counts: where the numbers are equal, so are the
        sets. A process made meanwhile may share the memory: that takes a new process number.
        """
        if self.sharers or procfs.count_threads(self.pid) != count_stopped(tables):
            return False
        return procfs.newest_pid() == self._newest  # last: nobody is left who could make one

    def _current_threads(self) -> dict[int, int]:
        """Return the threads there are now, having looked for new processes with the same memory."""
        threads = self._threads()
        newest = procfs.newest_pid()  # second: where all have stopped, nobody can make another one meanwhile
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
        self._seizing_since = time.perf_counter()
        try:
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
                    if _is_ours(pid, tid):
                        self._seized[tid] = pid
                        continue
                    self._abandon(())
                    raise _seize_failure(self.pid, tid) from error
        finally:
            self._seizing_since = math.inf

    def _halt(self, tids: list[int], dead: set[int], limit: float) -> Table:
        """Stop some seized threads; return those that stopped, and the ones that died meanwhile, in a table.

        Raises:
            StopFailure: not all of them did; the others of these have been let go.
        """
        table = Table(tids)
        self.seen.append(table)
        self._late.difference_update(tids)  # awaited here: whoever asks a second time waits for a stop that is over
        table.interrupt()
        complete = table.wait(limit)
        for index in table.at(State.DEAD):
            dead.add(tids[index])
            self._seized.pop(tids[index], None)
        if complete and not table.at(State.JOB_CONTROL):
            return table
        failure = self._failure(table)
        self._let_go(table)
        raise failure

    def _failure(self, table: Table) -> StopFailure:
        """Return why not all threads of a table are stopped as wanted."""
        if held := [table.tids[index] for index in table.at(State.JOB_CONTROL)]:
            return StopFailure(StopFailureKind.JOB_CONTROL, held, f"process {self.pid} is stopped by job control")
        waiting = [table.tids[index] for index in table.at(State.WAITING)]
        names = ", ".join(map(str, waiting))
        text = f"threads {names} of process {self.pid} did not stop in time"
        return StopFailure(StopFailureKind.LATE, waiting, text)

    def _let_go(self, table: Table) -> None:
        """Let the stopped threads of a table go; those that were killed meanwhile are seized still."""
        table.detach()
        for index in (*table.at(State.STOPPED), *table.at(State.JOB_CONTROL)):
            self._seized.pop(table.tids[index], None)

    def release(self, stopped: Stopped) -> float:
        """Let all threads go; return the length of the stop in seconds."""
        letting = time.perf_counter()
        for table in stopped.tables:
            table.detach()
        now = time.perf_counter()
        seconds = now - stopped.began
        self.release_seconds = now - letting
        self.longest_stop_seconds = max(self.longest_stop_seconds, seconds)
        self._rested_at = now + max(_REST_STOPS * seconds, _REST_SECONDS_MIN)
        for table, index in stopped_indices(stopped.tables):
            self._seized.pop(table.tids[index], None)
        killed = [table.tids[index] for table in stopped.tables for index in table.at(State.WAITING)]
        if killed:
            self._late.update(killed)
            if not self.release_late():
                _stoppers_late().add(self)
        return seconds

    def rest(self) -> None:
        """Sleep until the process has run for a while since its last stop."""
        self.pause(self._rested_at - time.perf_counter())

    def _abandon(self, tables: Sequence[Table]) -> None:
        """Let go what stopped, and remember what is seized but has not stopped yet."""
        self._late_seen_at = time.perf_counter()
        for table in tables:
            self._let_go(table)
        if self._seized:
            Table(list(self._seized)).interrupt()
            self._late.update(self._seized)
        if not self.release_late():
            _stoppers_late().add(self)

    def release_late(self) -> bool:
        """Let late threads go that have stopped meanwhile; return whether all are gone."""
        stood = False
        if self._late:
            late = Table(list(self._late))
            late.collect()
            for index in late.at(State.DEAD):
                self._seized.pop(late.tids[index], None)
            stood = bool(late.count(State.STOPPED) or late.count(State.JOB_CONTROL))
            self._let_go(late)
            self._late = {late.tids[index] for index in late.at(State.WAITING)}
        seen_at, self._late_seen_at = self._late_seen_at, time.perf_counter()
        if stood:
            self.longest_stop_seconds = max(self.longest_stop_seconds, self._late_seen_at - seen_at)
        if not self._late:
            _stoppers_late().discard(self)
        return not self._late

    def _is_worth_waiting(self) -> bool:
        """Tell whether a late thread may be in a call that would come back early, were it let go by our end alone."""
        with contextlib.suppress(HotmendError):
            return not all(procfs.in_vfork(self.pid, tid) for tid in self._late)
        return False

    @contextlib.contextmanager
    def one_stopped(self) -> Iterator[int]:
        """Hold one thread stopped for the block; yields it. For writes that the kernel allows no other way.

        Raises:
            StopFailure: none stopped, for a while.
        """
        limit = time.perf_counter() + _ONE_SECONDS
        while True:
            for tid in sorted(procfs.list_threads(self.pid), key=lambda t: (t != self.pid, t)):
                self.rest()
                try:
                    stopped = self.stop(_ONE_STOP_SECONDS, only=tid)
                except StopFailure as failure:
                    if failure.kind is not StopFailureKind.LATE or time.perf_counter() > limit:
                        raise
                    continue
                except ProcessGoneError:
                    if self.has_ended():
                        raise
                    continue
                try:
                    yield tid
                finally:
                    self.release(stopped)
                return

    def pause(self, seconds: float) -> None:
        """Sleep between two attempts, letting late threads go as soon as they stop."""
        limit = time.perf_counter() + seconds
        while (left := limit - time.perf_counter()) > 0:
            time.sleep(left if self.release_late() else min(left, _LATE_POLL_SECONDS))


def _stoppers_late() -> set[Stopper]:
    """Return those stoppers of this thread that have late threads."""
    found: set[Stopper] | None = getattr(_own, "late", None)
    if found is None:
        found = _own.late = set()
    return found


def settle_late() -> bool:
    """Wait until late threads have stopped and are let go, for two seconds at most; return whether all are.

    For the end of the work: the kernel would let them go when the tracing thread ends, and nobody would mend the call
    that they were in. Those in vfork are not waited for: their call cannot be interrupted.
    """
    limit = time.perf_counter() + _LATE_SECONDS
    for stopper in tuple(_stoppers_late()):
        while not stopper.release_late() and stopper._is_worth_waiting() and time.perf_counter() < limit:
            time.sleep(_LATE_POLL_SECONDS)
    settled = not _stoppers_late()
    _stoppers_late().clear()
    return settled


def aside(job: Callable[[], _Result]) -> _Result:
    """Do what may take long and asks nothing of stopped threads, while late ones are let go as soon as they stop."""
    if not (stoppers := tuple(_stoppers_late())):
        return job()
    found: list[_Result] = []
    failed: list[BaseException] = []

    def do() -> None:
        try:
            found.append(job())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            failed.append(error)

    another = threading.Thread(target=do, name="hotmend-aside", daemon=True)
    another.start()
    while another.is_alive():
        for stopper in stoppers:
            stopper.release_late()
        another.join(_LATE_POLL_SECONDS)
    if failed:
        raise failed[0]
    return found[0]


def reap_ended() -> None:
    """Reap threads that have ended, for another thread of this process that traces them and has long been seizing.

    First threads are left: no other thread waits for these, and they may be somebody's child.
    """
    stoppers: tuple[Stopper, ...] = ()
    with contextlib.suppress(RuntimeError):  # one was made meanwhile: none of the threads that make them waits
        stoppers = tuple(_stoppers)
    if all(time.perf_counter() - stopper._seizing_since < _SEIZING_SECONDS for stopper in stoppers):
        return
    for stopper in stoppers:
        for tid, pid in stopper._seized.copy().items():
            if tid != pid:
                with contextlib.suppress(OSError):
                    os.waitid(os.P_PID, tid, os.WEXITED | os.WNOHANG | sys.WALL)


def _is_dead(pid: int, tid: int) -> bool:
    """Tell whether a thread has ended (a zombie leader stays listed)."""
    try:
        return procfs.read_thread_stat(pid, tid).state in "ZX"
    except HotmendError:
        return True


def _is_ours(pid: int, tid: int) -> bool:
    """Tell whether the calling thread traces a thread: where that one has executed a new program, by another number."""
    with contextlib.suppress(HotmendError):
        return procfs.read_status(pid, tid).tracer == threading.get_native_id()
    return False


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
