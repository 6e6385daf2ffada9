"""The steps of the gate protocol on one process: each is a number of short stops, each stop checked first.

Where an update has few entries, all steps are done in one stop: the gate says old or new between any two writes there
as well, and the process stands still once instead of three times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hotmend.linux import procfs
from hotmend.linux.calm import calm
from hotmend.linux.memory import MemoryWriteError, ProcessMemory
from hotmend.linux.process import MappedImage
from hotmend.linux.stop import StopFailure, StopFailureKind, Stopped, Stopper
from hotmend.linux.timed import restarted_waits
from hotmend.linux.transfers import in_transfer
from hotmend.linux.unwind import Unwinder
from hotmend.live.coroutines import ContextStacks
from hotmend.live.gate import STAGED, STAGED_OFFSET, EntryRecord, FunctionRecord, HeaderRecord
from hotmend.live.machine import Step
from hotmend.live.needs import Refusal
from hotmend.live.pace import Pace
from hotmend.live.registry import read_entries
from hotmend.live.safety import Forbidden, Hit, Scanner, Surroundings, confirmed_hits
from hotmend.live.symbols import add_shadows, unwinder_of
from hotmend.live.tails import without_ends
from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.errors import PermissionRefusedError
from hotmend.model.verdict import Reason, refusal

BATCH_MIN, BATCH_MAX = 8, 400
TOGETHER_MAX = 8
"""So few entries are written in the stop in which the gate is turned: another stop would take longer than that."""

_OFF, _ON = b"\0", b"\1"
"""What the gate's byte is while the old code counts, and the new."""

_THERE = (Step.STAGE, Step.SWITCH, Step.SETTLE)
_BACK = (Step.UNSETTLE, Step.UNSWITCH, Step.UNSTAGE)
_BACKOFF_SECONDS_MIN, _BACKOFF_SECONDS_MAX = 0.002, 0.1

_SPARE_SHARE = 0.08
"""Of the budget of a stop: what is begun just before its clock is looked at takes time too."""

_TRANSFER_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016)
"""Pauses in which a transfer may end before the process is stopped all the same: a thread may do nothing else."""

_CONTENT: dict[str, Callable[[EntryRecord], bytes]] = {
    "old": lambda entry: entry.old_bytes,
    "stub": lambda entry: entry.jump_to_stub,
    "new": lambda entry: entry.jump_to_new,
}

Write = tuple[EntryRecord, bytes]
"""An entry and the bytes it is to hold."""


class _TimeUpError(Exception):
    """What was to be done in a stop is not done yet, and the stop's budget is used up."""


class NotNowError(Exception):
    """The deadline passed without a safe moment."""

    def __init__(self, reasons: tuple[Reason, ...]) -> None:
        super().__init__("no safe moment")
        self.reasons = reasons


@dataclass(slots=True)
class Transaction:
    """Walks one update through its steps in one process.

    Attributes:
        memory: writable memory of the process.
        stopper: of the process.
        records: headers of the update, the one with the gate first.
        images: what the process maps.
        deadline: `time.perf_counter()` after which it gives up.
        max_pause_seconds: budget of one stop.
        contexts: stacks of coroutines that are looked at in the stop that turns the gate.
        lazy: the switch lets threads go on in old code; that they may was proven before.
        goes_on: who may have been in old code at a lazy switch.
        advice: what would help where a function is active until the deadline.
        attempts: stops that found the process unsafe or late, plus those that did their work.
        limit: `time.perf_counter()` after which the stop under way may begin nothing more.
    """

    memory: ProcessMemory
    stopper: Stopper
    records: tuple[HeaderRecord, ...]
    images: tuple[MappedImage, ...]
    deadline: float
    max_pause_seconds: float
    contexts: ContextStacks = field(default_factory=ContextStacks)
    lazy: bool = False
    goes_on: tuple[Hit, ...] = ()
    advice: str = "wait longer (--deadline), or restart"
    attempts: int = 0
    threads: int = 0
    limit: float = 0.0
    _look_seconds: float = 0.0
    _pace: Pace = field(default_factory=Pace)
    _batch: int = 24
    _restorers: tuple[int, ...] = ()
    _unwinder: Unwinder | None = None
    _last_hits: list[Hit] = field(default_factory=list)
    _last_failure: str = ""

    @property
    def entries(self) -> tuple[EntryRecord, ...]:
        """All entries of the update."""
        return tuple(entry for record in self.records for entry in record.entries)

    def prepare(self, restorers: tuple[int, ...]) -> None:
        """Know what takes time to find and is found before any stop; the stopper has looked around already."""
        self._restorers = restorers

    def _know_frames(self) -> None:
        """Make what tells a stale word from a frame. It takes longer than all the rest, and is mostly not needed."""
        began = time.perf_counter()
        maps = procfs.read_maps(self.memory.pid)
        self._unwinder = unwinder_of(self.memory, self.images, maps)
        self._unwinder.warm(m.start for m in maps if m.executable and m.inode)
        self.deadline += time.perf_counter() - began  # not spent waiting for a safe moment

    def know_placed(self) -> None:
        """Have threads in code that was placed since `prepare` unwound too."""
        if self._unwinder is not None:
            add_shadows(self._unwinder, self.memory, self.records)

    def close(self) -> None:
        """Free the unwinder."""
        if self._unwinder is not None:
            self._unwinder.close()
            self._unwinder = None

    def walk(self, steps: Sequence[Step]) -> None:
        """Do steps one after the other, or all in one stop where they are few writes; raises as `run` does."""
        if tuple(steps) in (_THERE, _BACK) and not self.lazy and len(self.entries) <= TOGETHER_MAX:
            there = tuple(steps) == _THERE
            forbidden = Forbidden.with_interiors(
                self._leaving() if there else self._coming(),
                [(e.name, e.address) for e in self.entries],
                self._redirected(),
            )
            if forbidden is not None:
                self._turn(forbidden, there=there)
                return
        for step in steps:
            self.run(step)

    def _turn(self, forbidden: Forbidden, *, there: bool) -> None:
        """Stage, switch and settle (or back) in one stop: the same writes in the same order, and the same gate.

        Between any two of them all entries mean the old code, or all the new, as they do between two stops.
        """
        if there:
            self._prepare_staging()
        entries, gate = self.entries, self.records[0].gate
        before, after = ("old", "new") if there else ("new", "old")
        allowed = [(e.jump_to_stub, _CONTENT[before](e)) for e in entries]

        def act(_: Stopped) -> None:
            self._refuse_turned(on=not there)
            found = read_entries(self.memory, entries)
            self._refuse_strange(entries, found, allowed)
            for entry, content in zip(entries, found, strict=True):
                if content != entry.jump_to_stub:
                    self._keep_time()
                    self.memory.write(entry.address, entry.jump_to_stub)
            self._keep_time()
            self.memory.write_checked(gate, _ON if there else _OFF)
            for entry in entries:
                if self._is_time_up():
                    break
                self.memory.write(entry.address, _CONTENT[after](entry))

        read_entries(self.memory, entries)  # once before the stop: everything it takes is in the caches then
        self._in_stop(forbidden, act, turning=True)
        self.rewrite("stub", _CONTENT[after], on=there)  # those there was no time for

    def _prepare_staging(self) -> None:
        """Have the pages of all entries copied before a stop, and note that entries are about to be written.

        That a page is copied takes a write, and the plan was made a while ago: what is no code any more is left alone.
        """
        pages: dict[int, list[EntryRecord]] = {}
        for entry in self.entries:
            pages.setdefault(entry.address & -PAGE_BYTES, []).append(entry)
        for page, entries in pages.items():
            self.stopper.release_late()
            allowed = [(entry.jump_to_stub, entry.old_bytes) for entry in entries]
            self._refuse_strange(entries, read_entries(self.memory, entries), allowed)
            self.memory.take_faults([page])
        for record in self.records:
            self.memory.write_checked(record.header + STAGED_OFFSET, bytes([STAGED]))

    def run(self, step: Step) -> None:
        """Do one step.

        Raises:
            NotNowError: no safe moment until the deadline.
            Refusal: an entry holds what nobody wrote.
        """
        if step is Step.STAGE:
            self._prepare_staging()
            self.rewrite("old", lambda entry: entry.jump_to_stub, on=False)
        elif step is Step.SWITCH:
            leaving = self._leaving()
            stubs = {f.name for f in self._stubs()}
            staying = frozenset(f.name for f in leaving) - stubs if self.lazy else frozenset()
            self.turn_gate(Forbidden(leaving, self._redirected()), _ON, staying)
        elif step is Step.SETTLE:
            self.rewrite("stub", lambda entry: entry.jump_to_new, on=True)
        elif step is Step.UNSETTLE:
            self.rewrite("new", lambda entry: entry.jump_to_stub, on=True)
        elif step is Step.UNSWITCH:
            self.turn_gate(Forbidden(self._coming(), self._redirected()), _OFF)
        elif step is Step.UNSTAGE:
            self.rewrite("stub", lambda entry: entry.old_bytes, on=False)

    def probe(self, act: Callable[[Stopped], None] = lambda _: None) -> None:
        """Wait for one moment in which no thread is in the old code, so that no shadow is placed in vain.

        Args:
            act: what is to be done in that very moment; not done where old code may go on.
        """
        if self.lazy:
            return
        functions = [f for r in self.records for f in (*r.replaced, *r.before)]
        self._in_stop(Forbidden(without_ends(self.memory, functions)), act)

    def _leaving(self) -> list[FunctionRecord]:
        """Return the code in which nobody may be when the new code takes over."""
        return without_ends(self.memory, [f for r in self.records for f in (*r.replaced, *r.before)] + self._stubs())

    def _coming(self) -> list[FunctionRecord]:
        """Return the code in which nobody may be when it is taken back."""
        return without_ends(self.memory, [f for r in self.records for f in (*r.functions, *r.after)] + self._stubs())

    def _redirected(self) -> frozenset[int]:
        """Return where a thread that is about to execute the first byte asks the gate: entries, and their stubs."""
        return frozenset(address for e in self.entries for address in (e.address, e.stub))

    def _stubs(self) -> list[FunctionRecord]:
        return [FunctionRecord(f"stub of {e.name}", e.stub, e.stub_size) for e in self.entries]

    def turn_gate(self, forbidden: Forbidden, value: bytes, staying: frozenset[str] = frozenset()) -> None:
        """Write the gate byte in one stop in which no thread is in `forbidden`, but for functions of `staying`.

        All entries lead to their stubs by then; were it not so any more, half of the code would change.
        """
        gate, entries = self.records[0].gate, self.entries
        allowed = [(entry.jump_to_stub,) for entry in entries]

        def act(_: Stopped) -> None:
            self._refuse_turned(on=value != _ON)
            self._refuse_strange(entries, read_entries(self.memory, entries), allowed)
            self.memory.write_checked(gate, value)

        read_entries(self.memory, entries)  # once before the stop: everything it takes is in the caches then
        self._in_stop(forbidden, act, staying, turning=True)

    def replace_words(self, readers: Forbidden, address: int, expected: bytes, content: bytes) -> None:
        """Write `content` in one stop in which no thread is in `readers` and memory holds `expected`.

        The bytes lie in one page: one write, which a killed patcher makes completely or not at all.
        """

        def act(_: Stopped) -> None:
            if self.memory.read(address, len(expected)) != expected:
                raise Refusal(refusal("entry-changed-meanwhile", "the dynamic linker's list of images changed"))
            self.memory.write_checked(address, content)

        self._in_stop(readers, act)

    def rewrite(self, expected: str, wanted: Callable[[EntryRecord], bytes], *, on: bool) -> None:
        """Rewrite all entries in as many stops as the pause budget asks for; those already right are left.

        `expected`, and the gate turned to `on`, are what the step before has left.
        """
        found = read_entries(self.memory, self.entries)
        writes = [(entry, wanted(entry)) for entry in self.entries]
        pending: list[Write] = [write for write, old in zip(writes, found, strict=True) if write[1] != old]
        while pending:
            done = self._rewrite_batch(pending[: self._batch], expected, on=on)
            pending = pending[done:]
        self._check_entries(wanted)

    def _check_entries(self, wanted: Callable[[EntryRecord], bytes]) -> None:
        for entry, found in zip(self.entries, read_entries(self.memory, self.entries), strict=True):
            if wanted(entry) != found:
                raise MemoryWriteError(f"the entry of {entry.name} is not what was written")

    def _rewrite_batch(self, batch: Sequence[Write], expected: str, *, on: bool) -> int:
        """Rewrite some entries in one stop in which no thread is behind the first byte of any of them.

        Return how many of them, from the first on: as many as the stop had time for.
        """
        forbidden = Forbidden.interiors((entry.name, entry.address) for entry, _ in batch)
        allowed = [(content, _CONTENT[expected](entry)) for entry, content in batch]
        entries, writes = [entry for entry, _ in batch], [(entry.address, content) for entry, content in batch]
        acted, done = 0.0, 0

        def act(_: Stopped) -> None:
            nonlocal acted, done
            began = time.perf_counter()
            self._refuse_turned(on=on)
            found = read_entries(self.memory, entries)
            self._refuse_strange(entries, found, allowed)
            for (address, content), old in zip(writes, found, strict=True):
                if self._is_time_up():
                    break
                if old != content:
                    self.memory.write(address, content)
                done += 1
            acted = time.perf_counter() - began
            if not done and len(batch) == 1:
                raise _TimeUpError

        read_entries(self.memory, entries)  # once before the stop: everything it takes is in the caches then
        seconds = self._in_stop(forbidden, act)
        # A stop has its price, which grows with the threads: writing may cost as much, not more.
        if done < len(batch):
            self._batch = max(1, min(done, len(batch) // 2))
        elif seconds > self.max_pause_seconds or acted > seconds / 2:
            self._batch = max(min(BATCH_MIN, self._batch), self._batch // 2)
        elif acted < seconds / 4:
            self._batch = min(BATCH_MAX, self._batch * 2)
        return done

    def _is_time_up(self) -> bool:
        """Tell whether the stop may not go on: its budget is used up, but for what letting go takes."""
        return time.perf_counter() > self.limit

    def _keep_time(self) -> None:
        """Raise where the stop may not go on; what was written by then means what it meant before."""
        if self._is_time_up():
            raise _TimeUpError

    def _refuse_turned(self, *, on: bool) -> None:
        """Refuse where somebody has turned the gate since: what comes next would mix old code and new."""
        if self.memory.read(self.records[0].gate, 1) != (_ON if on else _OFF):
            raise Refusal(refusal("entry-changed-meanwhile", "something else has switched this update meanwhile"))

    @staticmethod
    def _refuse_strange(
        entries: Sequence[EntryRecord], found: Sequence[bytes], allowed: Sequence[tuple[bytes, ...]]
    ) -> None:
        """Refuse where entries hold none of the bytes they may hold."""
        strange = [e.name for e, old, may in zip(entries, found, allowed, strict=True) if old not in may]
        if strange:
            raise Refusal(refusal("entry-changed-meanwhile", "something else wrote to entries of functions", *strange))

    def _in_stop(
        self,
        forbidden: Forbidden,
        act: Callable[[Stopped], None],
        staying: frozenset[str] = frozenset(),
        *,
        turning: bool = False,
    ) -> float:
        """Run `act` in a stop in which no thread is in `forbidden`; return the length of that stop in seconds.

        Where it turns the gate, coroutines that wait are looked at, too.
        """
        backoff = _BACKOFF_SECONDS_MIN
        while True:
            self.attempts += 1
            self._rest()
            surroundings = Surroundings(procfs.read_maps(self.memory.pid), self._restorers)
            try:
                seconds = self._attempt(surroundings, forbidden, act, staying, turning=turning)
            finally:
                self._pace.stopped(time.perf_counter(), restarted_waits(self.stopper.seen, self.memory))
            if seconds is not None:
                return seconds
            if self._last_hits and self._unwinder is None:
                self._know_frames()
                continue
            if time.perf_counter() > self.deadline:
                raise NotNowError(self._why())
            self.stopper.pause(min(backoff, max(0.0, self.deadline - time.perf_counter()) + 0.001))
            backoff = min(backoff * 2, _BACKOFF_SECONDS_MAX)

    def _rest(self) -> None:
        """Leave the process alone until it has run for a while, and its own timed waits can have ended.

        Also, for a little while, until no transfer is under way that the stop would cut short.
        """
        self.stopper.rest()
        if (quiet := self._pace.pause(time.perf_counter(), self.deadline)) > 0.0:
            self.stopper.pause(quiet)
        for seconds in _TRANSFER_SECONDS:
            if not in_transfer(self.memory.pid):
                break
            self.stopper.pause(seconds)

    def _attempt(
        self,
        surroundings: Surroundings,
        forbidden: Forbidden,
        act: Callable[[Stopped], None],
        staying: frozenset[str],
        *,
        turning: bool,
    ) -> float | None:
        """Stop once; return the length of the stop if `act` ran, None if it was not safe or took too long."""
        scanner = Scanner(self.memory, surroundings, forbidden)
        written = True
        if surroundings.main_stack_end:
            scanner.rehearse()
        hits: list[Hit] = []
        with calm(self.stopper.release_late):
            # Letting everybody go takes part of the budget, as much as it took before; so does looking at everybody.
            release_seconds = min(self.stopper.release_seconds, self.max_pause_seconds / 2)
            budget = self.max_pause_seconds * (1 - _SPARE_SHARE) - release_seconds
            try:
                stopped = self.stopper.stop(budget - min(self._look_seconds, budget / 2))
            except StopFailure as failure:
                if failure.kind is StopFailureKind.LATE:
                    self._note_failure(late_text(self.memory.pid, failure.tids))
                    return None
                raise
            try:
                self.threads = len(stopped)
                self.limit = limit = stopped.began + budget
                looking = time.perf_counter()
                hits = scanner.scan(stopped, limit)
                self._look_seconds = time.perf_counter() - looking
                if staying:
                    # A coroutine's hit names what is wrong with its stack, never a function.
                    found = {h: h.where != "coroutine" and h.function in staying for h in hits}
                    self.goes_on, hits = tuple(h for h in found if found[h]), [h for h in found if not found[h]]
                if hits:
                    hits = confirmed_hits(hits, stopped, forbidden, self._frames, limit)
                if turning and not hits:
                    hits = self.contexts.hits(self.memory, forbidden, limit)
                in_time = time.perf_counter() <= limit
                if not hits and in_time:
                    self.memory.tracee = stopped.any_tid()
                    act(stopped)
            except _TimeUpError:
                written = False
            finally:
                self.memory.tracee = None
                seconds = self.stopper.release(stopped)
        if not in_time:
            self._note_failure(f"looking at its {self.threads} threads took longer than --max-pause allows", hits)
            return None
        if not written:
            self._note_failure("there was no time left to write when its threads had been looked at", hits)
            return None
        self._last_hits, self._last_failure = hits, ""
        return None if hits else seconds

    def _note_failure(self, what: str, hits: Sequence[Hit] = ()) -> None:
        """Remember why the last stop came to nothing; threads seen in the way, also before, say more than that."""
        self._last_hits, self._last_failure = [h for h in hits if h.where != "unknown"] or self._last_hits, what

    def _frames(self, tid: int, limit: float) -> list[int] | None:
        return self._unwinder.frames(tid, limit) if self._unwinder is not None else None

    def _why(self) -> tuple[Reason, ...]:
        """Return what the last attempt found in the way."""
        pid = self.memory.pid
        if not self._last_hits:
            budget = f"{self.max_pause_seconds * 1000:g} ms (--max-pause)"
            return (refusal("did-not-stop", f"process {pid}: {self._last_failure}, within {budget}"),)
        strange = sorted({(h.tid, h.function) for h in self._last_hits if h.where == "coroutine"})
        probed = sorted({(h.tid, h.function) for h in self._last_hits if h.where == "probe"})
        active = sorted({(h.function, h.tid) for h in self._last_hits if h.where not in ("coroutine", "probe")})
        reasons = []
        if active:
            names = ", ".join(sorted({name for name, _ in active}))
            tids = ", ".join(str(tid) for tid in sorted({tid for _, tid in active}))
            reasons.append(
                refusal(
                    "function-active",
                    f"process {pid}: {names} still active in thread {tids}; {self.advice}",
                    *(f"{name} in thread {tid}" for name, tid in active),
                )
            )
        if strange:
            reasons.append(
                refusal(
                    "coroutine-suspected",
                    f"process {pid}: a thread runs on a stack that cannot be checked (coroutines?)",
                    *(f"thread {tid}: {what}" for tid, what in strange),
                )
            )
        if probed:
            reasons.append(
                refusal(
                    "return-probe",
                    f"process {pid}: a thread is in a function with a return probe (uretprobe), which hides where it "
                    "returns to; end the tracing (perf, bpftrace), or wait longer (--deadline)",
                    *(f"thread {tid}: {what}" for tid, what in probed),
                )
            )
        return tuple(reasons)


def late_text(pid: int, tids: Sequence[int]) -> str:
    """Return which threads did not stop in time, and what is known to keep a thread from stopping."""
    names = [
        f"{tid} (waits in vfork until its child is gone)" if procfs.in_vfork(pid, tid) else f"{tid}" for tid in tids
    ]
    return f"threads {', '.join(names)} did not stop in time"


def permission_reason(error: PermissionRefusedError) -> Reason:
    """Return the reason for a missing permission."""
    return refusal("no-permission", f"{error}; {error.hint}" if error.hint else str(error))
