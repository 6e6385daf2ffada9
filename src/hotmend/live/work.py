"""One process from looking at it to the result: what every piece of work on a process shares."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from hotmend.linux import procfs, remote
from hotmend.linux.filters import filter_objections
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import MappedImage
from hotmend.linux.stacks import find_restorers
from hotmend.linux.stop import StopFailure, StopFailureKind, Stopper, settle_late
from hotmend.live.coroutines import ContextStacks
from hotmend.live.gate import HeaderRecord
from hotmend.live.needs import Refusal
from hotmend.live.transaction import NotNowError, Transaction, permission_reason
from hotmend.model.errors import HotmendError, PermissionRefusedError, ProcessGoneError
from hotmend.model.verdict import Reason, note, refusal

LEADER_ENDED = "leader-ended"
_ENDING_SECONDS = 0.5
_STOP_FAILURES = {
    StopFailureKind.LATE: "did-not-stop",
    StopFailureKind.TRACED: "traced",
    StopFailureKind.JOB_CONTROL: "stopped-by-job-control",
}


@dataclass(frozen=True, slots=True)
class Options:
    """How to work.

    Attributes:
        deadline_seconds: how long to look for a safe moment in one process.
        max_pause_us: budget of one stop, in microseconds.
        dry_run: check everything, write nothing.
        audit: file of the audit record; "": none is kept (throw-away processes).
        baseline: take back also what an update took over from, down to the old code.
        lazy: old invocations may go on in old code, where the hotpatch proves that they may.
    """

    deadline_seconds: float = 10.0
    max_pause_us: int = 5000
    dry_run: bool = False
    audit: str = ""
    baseline: bool = False
    lazy: bool = False


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """One shadow of a result; load addresses."""

    name: str
    hotpatch_id: str
    header: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """What was done in one process.

    Attributes:
        pid, comm, start_time_ticks: which.
        threads: stopped at the last stop.
        attempts: times that all threads were stopped, successful or not, by everything that the work took.
        pause_us: longest stop of all these, and of single threads, microseconds; of late ones, since they were last
            looked for.
        redirected: entries of the update.
        shadows: where the new code is.
        state: `applied`, `reverted`, `repaired`, `refused`, `unchanged`, `gone`, or `would-apply`, `would-revert`,
            `would-repair`.
        reasons: of a refusal, and notes.
        bytes_mapped: address space of the shadows.
    """

    pid: int
    comm: str
    start_time_ticks: int
    threads: int
    attempts: int
    pause_us: float
    redirected: int
    shadows: tuple[ShadowReport, ...]
    state: str
    reasons: tuple[Reason, ...]
    bytes_mapped: int


@contextlib.contextmanager
def _exclusive(pid: int) -> Iterator[None]:
    """Keep other patchers off the process; the lock ends with this process, however it ends.

    It lies on the process's memory, as this machine's /proc shows it: who may not change the process cannot hold it. A
    container with a /proc of its own has another file there; it is the stop that turns the gate which sees to it that
    nobody has written meanwhile.
    """
    with ProcessMemory(pid) as memory:
        if not memory.lock():
            raise Refusal(
                refusal("patched-by-another", f"another hotmend is working on process {pid}; try again later")
            )
        yield


class Work:
    """One process, from looking at it to the result."""

    def __init__(self, pid: int, options: Options) -> None:
        self.pid = pid
        self.options = options
        self.comm = "?"
        self.start_time_ticks = 0
        self.threads = 0
        self.transaction: Transaction | None = None
        self.contexts = ContextStacks()
        self._stoppers: list[Stopper] = []
        self._attempts = 0
        self.caller: remote.RemoteCaller | None = None
        self.gadgets: remote.Gadgets | None = None
        self.records: tuple[HeaderRecord, ...] = ()
        self._restorers: tuple[tuple[procfs.Mapping, ...], tuple[int, ...]] | None = None

    def result(self, state: str, *reasons: Reason) -> ProcessResult:
        """Return the result with what is known so far."""
        return ProcessResult(
            pid=self.pid,
            comm=self.comm,
            start_time_ticks=self.start_time_ticks,
            threads=self.transaction.threads if self.transaction and self.transaction.threads else self.threads,
            attempts=self._attempts + (self.transaction.attempts if self.transaction else 0),
            pause_us=self._pause_us(),
            redirected=sum(not entry.restores for record in self.records for entry in record.entries),
            shadows=tuple(ShadowReport(r.name, r.hotpatch_id, r.header, r.start, r.end) for r in self.records),
            state=state,
            reasons=reasons,
            bytes_mapped=sum(record.end - record.start for record in self.records),
        )

    def _pause_us(self) -> float:
        return round(max((stopper.longest_stop_seconds for stopper in self._stoppers), default=0.0) * 1e6, 1)

    def restorers(self, memory: ProcessMemory, maps: tuple[procfs.Mapping, ...]) -> tuple[int, ...]:
        """Return what `find_restorers` does; while the same is mapped it is looked for once."""
        runnable = tuple(m for m in maps if m.executable)
        if self._restorers is None or self._restorers[0] != runnable:
            self._restorers = runnable, find_restorers(memory, maps)
        return self._restorers[1]

    def _gone(self, text: str = "") -> ProcessResult:
        """Return that the process has ended; or that its first thread alone has, and others may run old code."""
        if _has_lost_leader(self.pid, self.start_time_ticks):
            reason = (
                f"the first thread of process {self.pid} has ended meanwhile, and with it the view of its memory; "
                "others live on in the code that was in force; restart it"
            )
            return self.result("refused", refusal(LEADER_ENDED, reason))
        return self.result("gone", note("process-gone", text or f"process {self.pid} ended meanwhile"))

    def _look(self) -> None:
        """See who it is, and refuse what nothing can be done with as it is now."""
        stat = procfs.read_stat(self.pid)
        self.comm, self.start_time_ticks = stat.comm, stat.start_time_ticks
        if stat.state == "Z" and _outlived(self.pid):
            text = f"the first thread of process {self.pid} has ended, and with it the view of its memory; restart it"
            raise Refusal(refusal(LEADER_ENDED, text))
        if stat.state in "ZX":
            raise ProcessGoneError(f"process {self.pid} has ended")
        if stat.state == "T":
            raise Refusal(
                refusal("stopped-by-job-control", f"process {self.pid} is stopped; continue it (SIGCONT) first")
            )
        if procfs.is_frozen(self.pid):
            text = f"process {self.pid} is frozen by its control group; thaw it first"
            raise Refusal(refusal("frozen", text))

    def guarded(self, work: Callable[[], ProcessResult]) -> ProcessResult:
        """Run `work`; turn what it raises into a result. What stopped late has been let go by then, and counts."""
        return replace(self._result_of(work), pause_us=self._pause_us())

    def _result_of(self, work: Callable[[], ProcessResult]) -> ProcessResult:
        try:
            self._look()
            self.threads = len(procfs.list_threads(self.pid))
            with _exclusive(self.pid):
                try:
                    return work()
                finally:
                    settle_late()
        except (Refusal, NotNowError) as error:
            if error.reasons[0].code != LEADER_ENDED and _is_ending(self.pid):
                return self._gone()
            return self.result("refused", *error.reasons)
        except ProcessGoneError as error:
            return self._gone(f"{error}")
        except PermissionRefusedError as error:
            return self.result("refused", permission_reason(error))
        except StopFailure as error:
            return self.result("refused", refusal(_STOP_FAILURES[error.kind], str(error)))
        except (HotmendError, OSError) as error:
            gone = isinstance(error, ProcessLookupError) or not _is_alive(self.pid, self.start_time_ticks)
            if gone or _is_ending(self.pid):  # an ending process has empty files where others have rows
                return self._gone()
            return self.result("refused", refusal("kernel-error", str(error)))
        except (LookupError, ValueError):
            if not _is_ending(self.pid):
                raise
            return self._gone()
        finally:
            self.end()

    def stopper(self) -> Stopper:
        """Return a new stopper of the process, whose stops the result tells of."""
        self._stoppers.append(Stopper(self.pid))
        return self._stoppers[-1]

    def end(self) -> None:
        """Free what the transaction holds."""
        if self.transaction is not None:
            self.transaction.close()

    def begin(
        self,
        memory: ProcessMemory,
        records: tuple[HeaderRecord, ...],
        images: tuple[MappedImage, ...],
        stopper: Stopper,
    ) -> Transaction:
        """Prepare the transaction over `records`.

        A stopper that has looked around already stops threads under filters that have been looked at, too.

        Raises:
            Refusal: stops would harm threads under seccomp filters.
        """
        if not stopper.has_looked:
            stopper.look_around()
            if objections := filter_objections(stopper, ()):
                raise Refusal(*objections)
        self.end()
        if self.transaction is not None:  # of a repair before this, or of another update
            self._attempts += self.transaction.attempts
        memory.stop_one = stopper.one_stopped
        self.records = records
        self.transaction = Transaction(
            memory=memory,
            stopper=stopper,
            records=records,
            images=images,
            deadline=time.perf_counter() + self.options.deadline_seconds,
            max_pause_seconds=self.options.max_pause_us / 1e6,
            contexts=self.contexts,
        )
        self.transaction.prepare(self.restorers(memory, procfs.read_maps(self.pid)))
        # On a busy machine preparing alone can take seconds; they are not spent waiting for a safe moment.
        self.transaction.deadline = time.perf_counter() + self.options.deadline_seconds
        return self.transaction


def _is_alive(pid: int, start_time_ticks: int) -> bool:
    try:
        stat = procfs.read_stat(pid)
    except HotmendError:
        return False
    return stat.start_time_ticks == start_time_ticks and stat.state not in "ZX"


def _is_ending(pid: int) -> bool:
    """Tell whether a process has given up its memory, as the first thing of its end."""
    try:
        return not procfs.read_bytes(pid, "maps", 1)
    except (HotmendError, OSError):
        return True


def _has_lost_leader(pid: int, start_time_ticks: int) -> bool:
    """Tell whether the first thread of a process has ended while others live on."""
    try:
        stat = procfs.read_stat(pid)
        return stat.start_time_ticks == start_time_ticks and stat.state == "Z" and _outlived(pid)
    except HotmendError:
        return False


def _outlived(pid: int) -> bool:
    """Tell whether threads live on for longer than a dying process takes to end."""
    limit = time.perf_counter() + _ENDING_SECONDS
    while _living_threads(pid):
        if time.perf_counter() > limit:
            return True
        time.sleep(0.005)
    return False


def _living_threads(pid: int) -> list[int]:
    """Return the threads of a process that have not ended."""
    living = []
    for tid in procfs.list_threads(pid):
        with contextlib.suppress(ProcessGoneError):
            if procfs.read_thread_stat(pid, tid).state not in "ZX":
                living.append(tid)
    return living
