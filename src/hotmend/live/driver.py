"""Applying an update to processes and taking it back: one transaction per process, all or nothing.

Every process is worked on in a thread of its own that ends with the work: whatever it still traces then is let go by
the kernel. Refusals are values (`ProcessResult.reasons`); nothing is written before everything has been checked.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hotmend.linux import procfs, remote
from hotmend.linux.calm import locked_memory
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import MappedImage, process_images, processes_mapping
from hotmend.linux.procfs import Mapping
from hotmend.linux.stop import StopFailure, Stopper
from hotmend.live.coroutines import Suspects, suspended_frames
from hotmend.live.gate import FunctionRecord, HeaderRecord, Shadow
from hotmend.live.machine import State, Step, state_of, steps_to_apply, steps_to_revert
from hotmend.live.place import place
from hotmend.live.plan import Plan, Refusal, Target, find_targets, make_plan, read_shadows
from hotmend.live.registry import observe, patched_processes
from hotmend.live.safety import Forbidden, find_restorers
from hotmend.live.transaction import NotNowError, Transaction, permission_reason
from hotmend.model.errors import HotmendError, PermissionRefusedError, ProcessGoneError
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import Reason, note, refusal

_UNDO_SECONDS = 1.0
Progress = Callable[[int, int], None]
"""Called with (processes done, processes in all)."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to work.

    Attributes:
        deadline_seconds: how long to look for a safe moment in one process.
        max_pause_us: budget of one stop, in microseconds.
        dry_run: check everything, write nothing.
    """

    deadline_seconds: float = 10.0
    max_pause_us: int = 5000
    dry_run: bool = False


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
        attempts: stops made, successful or not.
        pause_us: longest stop, microseconds.
        redirected: entries of the update.
        shadows: where the new code is.
        state: `applied`, `reverted`, `refused`, `unchanged`, `gone`, `would-apply` or `would-revert`.
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
def _exclusive(pid: int, start_time_ticks: int) -> Iterator[None]:
    """Keep other patchers off the process; the lock ends with this process, however it ends."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        try:
            lock.bind(f"\0hotmend-patch-{pid}-{start_time_ticks}")
        except OSError as error:
            raise Refusal(
                refusal("patched-by-another", f"another hotmend is working on process {pid}; try again later")
            ) from error
        yield
    finally:
        lock.close()


class _Work:
    """One process, from looking at it to the result."""

    def __init__(self, pid: int, options: Options) -> None:
        self.pid = pid
        self.options = options
        self.comm = "?"
        self.start_time_ticks = 0
        self.threads = 0
        self.transaction: Transaction | None = None
        self.caller: remote.RemoteCaller | None = None
        self.records: tuple[HeaderRecord, ...] = ()

    def result(self, state: str, *reasons: Reason) -> ProcessResult:
        """Return the result with what is known so far."""
        stops = [t.longest_stop_seconds for t in (self.transaction, self.caller) if t is not None]
        return ProcessResult(
            pid=self.pid,
            comm=self.comm,
            start_time_ticks=self.start_time_ticks,
            threads=self.transaction.threads if self.transaction and self.transaction.threads else self.threads,
            attempts=self.transaction.attempts if self.transaction else 0,
            pause_us=round(max(stops, default=0.0) * 1e6, 1),
            redirected=sum(len(record.entries) for record in self.records),
            shadows=tuple(ShadowReport(r.name, r.hotpatch_id, r.header, r.start, r.end) for r in self.records),
            state=state,
            reasons=reasons,
            bytes_mapped=sum(record.end - record.start for record in self.records),
        )

    def guarded(self, work: Callable[[], ProcessResult]) -> ProcessResult:
        """Run `work`; turn what it raises into a result."""
        try:
            stat = procfs.read_stat(self.pid)
            self.comm, self.start_time_ticks = stat.comm, stat.start_time_ticks
            if stat.state in "ZX":
                raise ProcessGoneError(f"process {self.pid} has ended")
            if stat.state == "T":
                raise Refusal(
                    refusal("stopped-by-job-control", f"process {self.pid} is stopped; continue it (SIGCONT) first")
                )
            self.threads = len(procfs.list_threads(self.pid))
            with _exclusive(self.pid, self.start_time_ticks):
                return work()
        except Refusal as error:
            return self.result("refused", *error.reasons)
        except NotNowError as error:
            return self.result("refused", *error.reasons)
        except ProcessGoneError as error:
            return self.result("gone", note("process-gone", f"{error}"))
        except PermissionRefusedError as error:
            return self.result("refused", permission_reason(error))
        except StopFailure as error:
            code = "stopped-by-job-control" if error.kind == "job-control" else "traced"
            return self.result("refused", refusal(code, str(error)))
        except (HotmendError, OSError) as error:
            if isinstance(error, ProcessLookupError) or not _is_alive(self.pid, self.start_time_ticks):
                return self.result("gone", note("process-gone", f"process {self.pid} ended meanwhile"))
            return self.result("refused", refusal("kernel-error", str(error)))
        finally:
            if self.transaction is not None:
                self.transaction.close()

    def begin(
        self,
        memory: ProcessMemory,
        records: tuple[HeaderRecord, ...],
        images: tuple[MappedImage, ...],
        stopper: Stopper,
    ) -> Transaction:
        """Prepare the transaction over `records`."""
        self.records = records
        self.transaction = Transaction(
            memory=memory,
            stopper=stopper,
            records=records,
            images=images,
            deadline=time.perf_counter() + self.options.deadline_seconds,
            max_pause_seconds=self.options.max_pause_us / 1e6,
        )
        self.transaction.prepare()
        return self.transaction


def _is_alive(pid: int, start_time_ticks: int) -> bool:
    try:
        stat = procfs.read_stat(pid)
    except HotmendError:
        return False
    return stat.start_time_ticks == start_time_ticks and stat.state not in "ZX"


# --- apply ------------------------------------------------------------------------------------------------


def _apply_one(work: _Work, hotpatches: Sequence[Hotpatch]) -> ProcessResult:
    """Apply to one process."""
    with ProcessMemory(work.pid, writable=not work.options.dry_run) as memory:
        images = process_images(work.pid, memory).images
        targets = find_targets(hotpatches, images)
        if not targets:
            raise Refusal(refusal("not-mapped", f"process {work.pid} maps none of the images this update is for"))
        shadows = read_shadows(memory, images)
        targets, active = _split_active(memory, targets, shadows)
        if not targets:
            return _finish_active(work, memory, active, images)
        plan = _checked_plan(work, memory, targets, images, shadows)
        work.records = plan.records
        if work.options.dry_run:
            return work.result("would-apply")
        return _carry_out(work, memory, plan, images)


def _split_active(
    memory: ProcessMemory, targets: tuple[Target, ...], shadows: Sequence[Shadow]
) -> tuple[tuple[Target, ...], tuple[HeaderRecord, ...]]:
    """Return the targets not yet active, and the headers of those that are.

    A different hotpatch that is active on one of the images refuses (taking over from it is work of its own).
    """
    active: dict[str, HeaderRecord] = {}
    for shadow in shadows:
        record = shadow.record
        same = next((t for t in targets if t.image.bias == record.old_bias), None)
        if same is None or not shadow.placed:
            continue
        seen = observe(memory, (record,), placed=True)
        state = state_of(seen)
        if state is State.DAMAGED:
            raise Refusal(
                refusal("entry-changed-meanwhile", f"{record.name}: something else wrote to redirected entries")
            )
        if state is State.PLACED:
            continue
        if same.id != record.hotpatch_id:
            raise Refusal(
                refusal(
                    "another-hotpatch-applied",
                    f"{record.name} already runs hotpatch {record.hotpatch_id}; revert it first",
                )
            )
        if state.active:
            active[record.hotpatch_id] = record
    return tuple(t for t in targets if t.id not in active), tuple(active.values())


def _finish_active(
    work: _Work, memory: ProcessMemory, records: tuple[HeaderRecord, ...], images: tuple[MappedImage, ...]
) -> ProcessResult:
    """Everything is active: settle what a patcher that died left unsettled, else nothing."""
    work.records = records
    left = [r for r in records if state_of(observe(memory, (r,), placed=True)) is State.SWITCHED]
    if not left or work.options.dry_run:
        return work.result("unchanged")
    work.begin(memory, records, images, Stopper(work.pid)).run(Step.SETTLE)
    return work.result("applied")


def _checked_plan(
    work: _Work,
    memory: ProcessMemory,
    targets: tuple[Target, ...],
    images: tuple[MappedImage, ...],
    shadows: tuple[Shadow, ...],
) -> Plan:
    """Plan, with everything that can be refused without touching the process."""
    maps = procfs.read_maps(work.pid)
    plan = make_plan(targets, images, memory, maps, shadows)
    if plan.placements and (objections := remote.process_objections(work.pid)):
        raise Refusal(*objections)
    homes = tuple((t.image.start, t.image.end) for t in targets)
    _refuse_suspended(memory, maps, [f for r in plan.records for f in r.replaced], homes)
    return plan


def _refuse_suspended(
    memory: ProcessMemory,
    maps: tuple[Mapping, ...],
    functions: Sequence[FunctionRecord],
    homes: tuple[tuple[int, int], ...],
) -> None:
    """Refuse where a coroutine is suspended inside one of `functions`."""
    suspects = Suspects(Forbidden(functions), homes, find_restorers(memory, maps))
    if found := suspended_frames(memory, maps, suspects):
        raise Refusal(
            refusal(
                "coroutine-suspected",
                f"process {memory.pid} keeps return addresses into functions that change outside of its threads' "
                "stacks (coroutines?); try again later or restart it",
                *found,
            )
        )


def _carry_out(work: _Work, memory: ProcessMemory, plan: Plan, images: tuple[MappedImage, ...]) -> ProcessResult:
    """Place, stage, switch, settle."""
    stopper = Stopper(work.pid)
    deadline = time.perf_counter() + work.options.deadline_seconds
    transaction = work.begin(memory, plan.records, images, stopper)
    if plan.placements:
        gadgets = remote.find_gadgets(memory, procfs.read_maps(work.pid))
        if gadgets is None:
            raise Refusal(
                refusal("no-gadget", f"process {work.pid} has no code a system call could be made with; restart it")
            )
        transaction.probe()
        work.caller = remote.RemoteCaller(stopper, memory, gadgets)
        for placement in plan.placements:
            place(work.caller, placement, deadline)
    steps = steps_to_apply(observe(memory, plan.records, placed=True))
    if not steps:
        raise Refusal(refusal("entry-changed-meanwhile", f"process {work.pid}: entries hold unexpected code"))
    try:
        for step in steps:
            transaction.run(step)
    except NotNowError as error:
        return _give_up(work, transaction, error)
    return work.result("applied")


def _give_up(work: _Work, transaction: Transaction, error: NotNowError) -> ProcessResult:
    """Leave a clean process behind: old code and old entries, or new code with entries not all settled."""
    if observe(transaction.memory, transaction.records, placed=True).gate:
        return work.result(
            "applied", note("not-settled", "the new code runs; some entries still go through their stubs")
        )
    transaction.deadline = time.perf_counter() + _UNDO_SECONDS
    with contextlib.suppress(NotNowError):  # staged entries are harmless: they mean the old code
        transaction.run(Step.UNSTAGE)
    return work.result("refused", *error.reasons)


# --- revert -----------------------------------------------------------------------------------------------


def _revert_one(work: _Work, ids: frozenset[str] | None) -> ProcessResult:
    """Take back every update of one process that has one of `ids` (None: all), each with its whole group."""
    with ProcessMemory(work.pid, writable=not work.options.dry_run) as memory:
        images = process_images(work.pid, memory).images
        groups: dict[int, list[HeaderRecord]] = {}
        for shadow in read_shadows(memory, images):
            if shadow.placed:
                groups.setdefault(shadow.record.gate, []).append(shadow.record)
        state = "unchanged"
        for gate, group in groups.items():
            records = tuple(sorted(group, key=lambda r: (not r.header <= gate < r.header + 4096, r.header)))
            if ids is not None and not ids & set(records[0].update):
                continue
            seen = observe(memory, records, placed=True)
            if state_of(seen) is State.DAMAGED:
                raise Refusal(refusal("entry-changed-meanwhile", f"process {work.pid}: entries hold unexpected code"))
            steps = steps_to_revert(seen)
            if steps and work.options.dry_run:
                work.records, state = records, "would-revert"
            elif steps:
                state = _take_back(work, memory, records, images, steps)
        return work.result(state)


def _take_back(
    work: _Work,
    memory: ProcessMemory,
    records: tuple[HeaderRecord, ...],
    images: tuple[MappedImage, ...],
    steps: tuple[Step, ...],
) -> str:
    """Run the steps back; where no safe moment comes, settle again and refuse."""
    if Step.UNSWITCH in steps:
        homes = [(i.start, i.end) for i in images if any(i.bias == r.old_bias for r in records)]
        homes += [(r.start, r.end) for r in records]
        new = [f for r in records for f in r.functions]
        _refuse_suspended(memory, procfs.read_maps(work.pid), new, tuple(homes))
    transaction = work.begin(memory, records, images, Stopper(work.pid))
    try:
        for step in steps:
            transaction.run(step)
    except NotNowError:
        if observe(memory, records, placed=True).gate:
            transaction.deadline = time.perf_counter() + _UNDO_SECONDS
            with contextlib.suppress(NotNowError):
                transaction.run(Step.SETTLE)
            raise
    return "reverted"


# --- public -----------------------------------------------------------------------------------------------


def _in_own_thread(work: Callable[[], ProcessResult]) -> ProcessResult:
    """Run `work` in a thread that ends with it, so that the kernel lets go of whatever it still traces."""
    results: list[ProcessResult] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            errors.append(error)

    thread = threading.Thread(target=body, name="hotmend-driver", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _for_each(
    pids: Sequence[int], options: Options, one: Callable[[_Work], ProcessResult], progress: Progress | None
) -> list[ProcessResult]:
    """Do the work for every process, one after the other."""
    results = []
    with locked_memory():
        for index, pid in enumerate(pids):
            work = _Work(pid, options)
            results.append(_in_own_thread(lambda work=work: work.guarded(lambda: one(work))))  # type: ignore[misc]
            if progress is not None:
                progress(index + 1, len(pids))
    return results


def apply(
    hotpatches: Sequence[Hotpatch],
    pids: Sequence[int] | None,
    options: Options,
    progress: Progress | None = None,
) -> list[ProcessResult]:
    """Apply all images of one update, in one switch per process.

    Args:
        hotpatches: one per changed image.
        pids: processes; None: all that map one of the old builds.
        options: how.
        progress: told after each process.
    """
    if pids is None:
        pids = [p.pid for p in processes_mapping({hotpatch.old_build_id for hotpatch in hotpatches})]
    return _for_each(pids, options, lambda work: _apply_one(work, hotpatches), progress)


def revert(
    hotpatch_ids: Sequence[str] | None,
    pids: Sequence[int] | None,
    options: Options,
    progress: Progress | None = None,
) -> list[ProcessResult]:
    """Take updates back: the old code again, under the same safety rule.

    Args:
        hotpatch_ids: `hotpatch_id` of any image of each update; None: all updates.
        pids: processes; None: all that have one.
        options: how.
        progress: told after each process.
    """
    ids = None if hotpatch_ids is None else frozenset(hotpatch_ids)
    return _for_each(
        patched_processes() if pids is None else pids, options, lambda work: _revert_one(work, ids), progress
    )
