"""Is any thread inside code that is about to change? A conservative scan of everything a thread could return to.

Looked at: the PC, all general registers, every 8-byte word from sp to the thread's block above it in the same mapping,
or else to the mapping's end, and, wherever a word is the return address of a signal frame, the interrupted stack that
frame names. Above the block, which names itself (psABI), are stacks of others: since glibc 2.42 with guard pages
between them that cut no mapping (MADV_GUARD_INSTALL) and that nobody can read. A word `w` is a hit for a
function `[start, end)` if `start < w <= end`: `start` alone is a function pointer; `end` is a return address behind a
call that does not return. A thread about to execute the very first byte takes the redirected entry where there is one.
Nothing redirects parts that only jumps lead to, or functions that only changed ones call: a PC is a hit there as well,
also one that a signal frame has saved.

Where a return probe (uretprobe) stands on a function, the kernel has taken the return address from the stack and keeps
it: in its place is the address of code in the mapping `[uprobes]`. Such a word can stand for any function.

A hit may be a stale word. Only a real unwinding that reaches the outermost frame without error and meets none of the
functions shows that; anything uncertain is "not safe now". A thread whose own stack was not reached from its sp runs
on a coroutine's: not safe either.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import Mapping
from hotmend.linux.stacks import thread_stack
from hotmend.linux.stop import Stopped, StoppedThread
from hotmend.linux.sys import Registers
from hotmend.linux.window import Scene, load, stopped_indices
from hotmend.live.gate import FunctionRecord
from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.errors import KernelError

Words = npt.NDArray[np.uint64]
STACK_BYTES_MAX = 64 << 20
"""More than this above sp is not a stack but somebody's heap."""

SIGNAL_FRAMES_MAX = 64
_SAVED_RSP_OFFSET = 160  # from the ucontext: uc_mcontext at 40, rsp its 16th word, rip the next
_GENERAL_REGISTERS = 15
_PROBES, _PROBES_PLACE = "[uprobes]", 0x7FFF_FFFF_E000
"""What the kernel calls the page that return probes lead to, and the highest one there is, which it takes if free."""

_UNREAD = "a stack that there was no time to read"
_PIECE_BYTES = 256 << 10
"""So much of the stacks is read and looked at between two looks at the clock."""
_FRAME_BYTES = 8 + _SAVED_RSP_OFFSET + 16
"""What a piece has of the next one: a signal frame that begins in it, as far as that is read."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A thread that is, or may be, inside code that is about to change.

    Attributes:
        tid: thread.
        function: name of the function, or what is wrong with the stack.
        where: `pc`, `register`, `stack`, `coroutine`, `probe` where a return probe hides a return address, or `unknown`
            where there was no time to look.
    """

    tid: int
    function: str
    where: str


class Forbidden:
    """Ranges of code no thread may be in; load addresses.

    Attributes:
        names: of the functions, in the order of their addresses.
        starts, ends: of their code.
        firsts: those of `starts` that nothing redirects.
    """

    def __init__(self, functions: Iterable[FunctionRecord], redirected: Container[int] | None = None) -> None:
        """Know the functions.

        Args:
            functions: that nobody may be in.
            redirected: addresses at which a thread that is about to execute them goes the right way; None: all.
        """
        ordered = sorted((f for f in functions if f.size > 0), key=lambda f: f.address)
        self.names = [f.name for f in ordered]
        self.starts: Words = np.array([f.address for f in ordered], dtype=np.uint64)
        self.ends: Words = np.array([f.address + f.size for f in ordered], dtype=np.uint64)
        self._low = int(self.starts[0]) if ordered else 0
        self._high = int(np.max(self.ends)) if ordered else 0
        self._firsts = {f.address: f.name for f in ordered if redirected is not None and f.address not in redirected}
        self.firsts: Words = np.array(list(self._firsts), dtype=np.uint64)

    @classmethod
    def interiors(cls, entries: Iterable[tuple[str, int]]) -> Forbidden:
        """Return the four bytes behind each entry: where nobody may be while a jump is written."""
        return cls(FunctionRecord(name, address, 4) for name, address in entries)

    @classmethod
    def with_interiors(
        cls,
        functions: Iterable[FunctionRecord],
        entries: Iterable[tuple[str, int]],
        redirected: Container[int] | None = None,
    ) -> Forbidden | None:
        """Return `functions` together with the four bytes behind each entry; None where ranges lie across each other.

        A word belongs to the last range that begins below it, so a range may not begin inside another one.
        """
        ranges = sorted((f for f in functions if f.size > 0), key=lambda f: f.address)
        ends = [(f.address, f.address + f.size) for f in ranges]
        loose = [(n, a) for n, a in entries if not any(start <= a and a + 4 <= end for start, end in ends)]
        ranges += [FunctionRecord(name, address, 4) for name, address in loose]
        ranges.sort(key=lambda f: f.address)
        if any(a.address + a.size > b.address for a, b in itertools.pairwise(ranges)):
            return None
        return cls(ranges, redirected)

    def matches(self, words: Words) -> list[tuple[int, int]]:
        """Return `(index of word, index of name)` of every hit among `words`."""
        if not self.names:
            return []
        near = np.flatnonzero((words > np.uint64(self._low)) & (words <= np.uint64(self._high)))
        if near.size == 0:
            return []
        values = words[near]
        # the last function that starts below the word
        found = np.searchsorted(self.starts, values, side="left") - 1
        inside = (found >= 0) & (values <= self.ends[np.maximum(found, 0)])
        return [(int(word), int(name)) for word, name in zip(near[inside], found[inside], strict=True)]

    def name_at(self, address: int) -> str | None:
        """Return the function `address` hits, or None."""
        if not self._low < address <= self._high:
            return None
        hits = self.matches(np.array([address], dtype=np.uint64))
        return self.names[hits[0][1]] if hits else None

    def first_at(self, pc: int) -> str | None:
        """Return the function that begins at `pc` and that nothing redirects, or None."""
        return self._firsts.get(pc)

    def name_at_pc(self, pc: int) -> str | None:
        """Return the function that a thread at `pc` is in, or None."""
        return self.first_at(pc) or self.name_at(pc)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a scan needs to know and is found out before the stop.

    Attributes:
        maps: of the process.
        restorers: load addresses of the code signal handlers return to.
    """

    maps: tuple[Mapping, ...]
    restorers: tuple[int, ...]

    def scene(self, pid: int, forbidden: Forbidden) -> Scene:
        """Return what the stop window looks at beside the threads."""
        return Scene(
            pid=pid,
            map_starts=np.array([m.start for m in self.maps], dtype=np.uint64),
            map_ends=np.array([m.end for m in self.maps], dtype=np.uint64),
            range_starts=forbidden.starts,
            range_ends=forbidden.ends,
            firsts=forbidden.firsts,
            restorers=np.array(self.restorers, dtype=np.uint64),
            probes=self.probes,
            main_stack_end=self.main_stack_end,
        )

    @property
    def probes(self) -> tuple[int, int]:
        """`(start, bytes)` of the page that return probes lead to; of where it will be, should there be none yet."""
        found = next((m for m in reversed(self.maps) if m.path == _PROBES), None)
        if found is not None:
            return found.start, found.end - found.start
        return (_PROBES_PLACE, PAGE_BYTES) if procfs.find_mapping(self.maps, _PROBES_PLACE) is None else (0, 0)

    @property
    def main_stack_end(self) -> int:
        """End of the mapping the kernel calls `[stack]`; 0 where there is none."""
        return next((m.end for m in reversed(self.maps) if m.path == "[stack]"), 0)


@dataclass(slots=True)
class _Region:
    """Stack memory of one thread that is to be scanned: `[start, end)`, and where its words begin in the buffer."""

    thread: StoppedThread
    start: int
    end: int
    first_word: int = 0


class Scanner:
    """One scan of stopped threads."""

    def __init__(self, memory: ProcessMemory, surroundings: Surroundings, forbidden: Forbidden) -> None:
        self._memory = memory
        self._maps = surroundings.maps
        self._main_stack_end = surroundings.main_stack_end
        self._restorers = surroundings.restorers
        self._scene = surroundings.scene(memory.pid, forbidden)
        self._forbidden = forbidden
        self._fresh = False
        self._limit = math.inf
        self._hits: list[Hit] = []
        self._seen: dict[int, list[tuple[int, int]]] = {}
        self._topped: set[int] = set()

    def scan(self, stopped: Stopped, limit: float = math.inf) -> list[Hit]:
        """Return every hit; several for one thread are possible.

        Threads whose stacks are not read when `time.perf_counter()` passes `limit` are hits that are `unknown`.
        """
        self._limit = limit
        threads = [thread for thread in self._look_closer(stopped) if not self._runs_in_kernel(thread)]
        if not threads:
            return self._hits
        self._scan_registers(threads)
        regions = [region for thread in threads if (region := self._region(thread, thread.registers.rsp))]
        for _ in range(SIGNAL_FRAMES_MAX):
            if not regions:
                break
            regions = self._scan_regions(regions)
        unread = {hit.tid for hit in self._hits if hit.where == "unknown"}
        for thread in threads:
            if thread.tid not in unread and not self._own_stack_seen(thread):
                self._hits.append(Hit(thread.tid, "a stack that is not the thread's own", "coroutine"))
        return self._hits

    def _look_closer(self, stopped: Stopped) -> list[StoppedThread]:
        """Return the threads that are not certainly clear at first sight."""
        if not stopped.tables:
            return list(stopped.threads.values())
        unclear = [(table, i) for table in stopped.tables for i in table.unclear(self._scene, self._limit)]
        if time.perf_counter() > self._limit:
            self._hits.extend(Hit(table.tids[i], _UNREAD, "unknown") for table, i in unclear)
            return []
        return stopped.pick(unclear)

    def _runs_in_kernel(self, thread: StoppedThread) -> bool:
        """Tell whether a thread never runs a program's code: the kernel made it, for io_uring or the like."""
        return not thread.registers.rsp and procfs.is_user_worker(thread.pid, thread.tid)

    def rehearse(self) -> None:
        """Do once, before the stop, what the stop will do: the code and its data are in the caches then."""
        if load() is not None:
            self._scene.packed()
        registers = Registers(*[0] * len(Registers._fields))
        registers = registers._replace(rsp=self._main_stack_end - PAGE_BYTES)
        thread = StoppedThread(self._memory.pid, self._memory.pid, registers, 0)
        self.scan(Stopped({thread.tid: thread}, 0.0))
        self._hits, self._seen, self._topped, self._fresh = [], {}, set(), False

    def _scan_registers(self, threads: Sequence[StoppedThread]) -> None:
        """Look at PCs and general registers."""
        name_at = self._forbidden.name_at
        for thread in threads:
            if (name := self._forbidden.name_at_pc(thread.registers.rip)) is not None:
                self._hits.append(Hit(thread.tid, name, "pc"))
            if 0 <= thread.registers.rip - self._scene.probes[0] < self._scene.probes[1]:
                self._hits.append(Hit(thread.tid, "what a return probe is about to return to", "probe"))
            for value in thread.registers[:_GENERAL_REGISTERS]:
                if (name := name_at(value)) is not None:
                    self._hits.append(Hit(thread.tid, name, "register"))

    def _region(self, thread: StoppedThread, sp: int) -> _Region | None:
        """Return what is to be scanned from `sp` on; None (and a hit) where that is not a stack."""
        mapping = procfs.find_mapping(self._maps, sp)
        if mapping is None and not self._fresh:
            self._maps, self._fresh = procfs.read_maps(self._memory.pid), True
            mapping = procfs.find_mapping(self._maps, sp)
        end = 0 if mapping is None else mapping.end
        if sp < (block := thread.registers.fs_base) < end and block % 8 == 0:
            end = block + 8
        if end - sp > STACK_BYTES_MAX and (own := self._thread_stack(thread)) and own[0] <= sp < own[1]:
            end = own[1]  # older kernels show a stack and what lies above it as one mapping
        if not 0 < end - sp <= STACK_BYTES_MAX or sp % 8:
            self._hits.append(Hit(thread.tid, f"an unknown stack at {sp:#x}", "coroutine"))
            return None
        return _Region(thread, sp, end)

    def _thread_stack(self, thread: StoppedThread) -> tuple[int, int] | None:
        """Return the stack that the C library has for a thread."""
        return thread_stack(self._memory, self._maps, thread.registers.fs_base)

    def _scan_regions(self, regions: list[_Region]) -> list[_Region]:
        """Scan regions, in one read where they are small; return the regions their signal frames lead to."""
        for region in regions:
            self._seen.setdefault(region.thread.tid, []).append((region.start, region.end))
        further = []
        try:
            for piece in _pieces(regions):
                if time.perf_counter() > self._limit:
                    self._hits.extend(Hit(r.thread.tid, _UNREAD, "unknown") for r in piece)
                    return []
                further += self._scan_piece(piece)
        except KernelError:
            if self._fresh:
                self._hits.extend(Hit(r.thread.tid, "an unreadable stack", "coroutine") for r in regions)
                return []
            self._maps, self._fresh = procfs.read_maps(self._memory.pid), True
            again = [new for old in regions if (new := self._region(old.thread, old.start))]
            return self._scan_regions(again) if again else []
        return further

    def _scan_piece(self, regions: list[_Region]) -> list[_Region]:
        """Scan regions in one read; return the regions their signal frames lead to."""
        content = self._memory.read_many([(r.start, r.end - r.start) for r in regions])
        words: Words = np.frombuffer(content, dtype=np.uint64)
        for word, name in self._forbidden.matches(words):
            region = _region_of(regions, word)
            self._hits.append(Hit(region.thread.tid, self._forbidden.names[name], "stack"))
        self._topped |= {r.thread.tid for r in regions if _ends_with_block(r, words)}
        start, size = map(np.uint64, self._scene.probes)
        for place in np.flatnonzero(words - start < size):
            tid = _region_of(regions, int(place)).thread.tid
            self._hits.append(Hit(tid, "a return address that a return probe hides", "probe"))
        return self._follow(regions, words)

    def _follow(self, regions: list[_Region], words: Words) -> list[_Region]:
        """Return regions of interrupted stacks named by signal frames in `words` that are not scanned yet."""
        further = []
        for restorer in self._restorers:
            for word in np.flatnonzero(words == np.uint64(restorer)):
                region = _region_of(regions, int(word))
                position = int(word) + 1 + _SAVED_RSP_OFFSET // 8
                if position + 1 >= words.size:
                    continue
                sp, pc = int(words[position]), int(words[position + 1])
                if (name := self._forbidden.first_at(pc)) is not None:
                    self._hits.append(Hit(region.thread.tid, name, "stack"))
                mapping = procfs.find_mapping(self._maps, sp)
                # A word in no mapping at all belongs to a stale frame: an interrupted stack is always mapped.
                if mapping is None or not mapping.private_writable or self._is_seen(region.thread, sp):
                    continue
                if (found := self._region(region.thread, sp)) is not None:
                    further.append(found)
        return further

    def _is_seen(self, thread: StoppedThread, address: int) -> bool:
        return any(start <= address < end for start, end in self._seen.get(thread.tid, []))

    def _own_stack_seen(self, thread: StoppedThread) -> bool:
        """Tell whether the scan reached the thread's own stack: `[stack]`, or the one its thread block tops.

        The block of a main thread lies anywhere, also above somebody's coroutine: for leaders it has to name the stack
        (it does in a child that another thread than the main one forked). Only the main thread is on `[stack]`, or a
        process that a main thread made and shares its memory with. The kernel shows a stack and what was mapped right
        above it as one mapping: what begins above the block is somebody else's.
        """
        seen = self._seen.get(thread.tid, [])
        leader, stranger = thread.tid == self._memory.pid, thread.pid != self._memory.pid
        if (leader or stranger) and any(end == self._main_stack_end for _, end in seen):
            return True
        if not leader and thread.tid in self._topped:
            return True
        own = self._thread_stack(thread)
        return own is not None and any(own[0] <= start < own[1] <= end for start, end in seen)


def _ends_with_block(region: _Region, words: Words) -> bool:
    """Tell whether a region, or the last piece of it, ends with its thread's block: the word there is its address."""
    block = region.thread.registers.fs_base
    return region.end == block + 8 and int(words[region.first_word + (region.end - region.start) // 8 - 1]) == block


def _pieces(regions: Sequence[_Region]) -> Iterator[list[_Region]]:
    """Yield the regions, together or in parts that overlap, in pieces that are read at once."""
    piece: list[_Region] = []
    total = 0
    for region in regions:
        start = region.start
        while True:
            end = min(region.end, start + _PIECE_BYTES)
            if total + end - start > _PIECE_BYTES:
                yield piece
                piece, total = [], 0
            piece.append(_Region(region.thread, start, end, total // 8))
            total += end - start
            if end == region.end:
                break
            start = end - _FRAME_BYTES
    yield piece


def _region_of(regions: Sequence[_Region], word: int) -> _Region:
    """Return the region that holds word number `word` of the common buffer."""
    return next(region for region in reversed(regions) if region.first_word <= word)


Frames = Callable[[int, float], list[int] | None]
"""Unwind a stopped thread until `time.perf_counter()` passes the second: PCs, or None where anything is uncertain."""


def confirmed_hits(
    hits: Sequence[Hit], stopped: Stopped, forbidden: Forbidden, frames: Frames, limit: float = math.inf
) -> list[Hit]:
    """Return the hits that are not shown to be stale.

    Nothing is shown of threads that are not unwound to the end before `time.perf_counter()` passes `limit`: their hits
    are `unknown`.

    Words on stacks, and registers of threads inside a system call, are stale if the whole unwinding meets none of
    the functions; it does not get past a return probe, whose code has no call frame information. PCs, registers of
    running code, and strange stacks stay what they are.
    """
    left: list[Hit] = []
    unwound: dict[int, list[int] | None] = {}
    threads = _threads_of(hits, stopped)
    for hit in hits:
        thread = threads.get(hit.tid)
        if thread is None:  # unknown already
            left.append(hit)
            continue
        if hit.where in ("stack", "probe") or (hit.where == "register" and thread.in_system_call):
            if hit.tid not in unwound and time.perf_counter() > limit:
                left.append(replace(hit, where="unknown"))
                continue
            if hit.tid not in unwound:
                unwound[hit.tid] = frames(hit.tid, limit) if thread.pid in stopped else None
            pcs = unwound[hit.tid]
            if pcs is None and time.perf_counter() > limit:
                left.append(replace(hit, where="unknown"))
                continue
            if pcs is not None and all(forbidden.name_at_pc(pc) is None for pc in pcs):
                continue
        left.append(hit)
    return left


def _threads_of(hits: Sequence[Hit], stopped: Stopped) -> dict[int, StoppedThread]:
    """Return the threads that have hits."""
    if not stopped.tables:
        return stopped.threads
    wanted = {hit.tid for hit in hits if hit.where != "unknown"}
    found = stopped.pick((t, i) for t, i in stopped_indices(stopped.tables) if t.tids[i] in wanted)
    return {thread.tid: thread for thread in found}
