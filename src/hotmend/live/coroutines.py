"""Suspended coroutines: return addresses into replaced functions that stand outside of every thread's stack.

Looked at before the stop: anonymous private writable memory that is in core, threads' stacks left out: of a mapping
that holds more than a stack, as the kernel joins them, no more than the thread block says. A word counts only if it
points behind a call instruction inside one of the functions, and if the frames above it, by call frame information,
lead to an end that a coroutine can have: where its first function would return to stand zero, or an address of code
that no call leads to, as libraries of coroutines put there. What a function left in a local buffer that was copied to
the heap as a whole mostly leads to something else: nobody can return there.

Frames that are not described by the stack pointer alone (kept frame pointers) cannot be followed so. There a word
counts if some word above it is the return address of a call that can have led there: an indirect one, or a direct one
into the images concerned or into a PLT; and if no return address of a signal handler stands above.

Where a signal frame above says that it was put on an alternate stack which holds the word, that belongs to a signal
handler: a running one is found by the scan of the stopped threads, and one that has ended does not matter. A signal
frame on a coroutine's own stack, or on the next one above, says nothing of the kind.

A coroutine of `makecontext` that has ended leaves such words too. It is known by what its end wrote: when the first
function of a coroutine returns, glibc calls `setcontext` for the next one, and the return address of that call takes
the place where the first function's own return address was. If the frames that a word belongs to lead there, nobody
will ever return to it. Any other kind of coroutine that has ended, in memory that nobody has used since, cannot be told
from a suspended one: that refuses.

Between that look and the stop that switches a coroutine may begin, or come to one of the functions. So the stacks that
`makecontext` was seen to have made, of coroutines that live or have ended, are looked at again in that very stop: those
on which a coroutine lives then may have no return address into the functions. Stacks made since, and those of other
kinds of coroutines, are not seen there.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import Mapping
from hotmend.linux.search import places_of
from hotmend.linux.stacks import alternate_stacks, thread_stacks_in
from hotmend.live.safety import Forbidden, Hit, Words
from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.errors import KernelError

_CHUNK_PAGES = 4096
_PRESENT_OR_SWAPPED = np.uint64(3 << 62)
_GUARD = np.uint64(1 << 58)
"""A page that nobody can read (MADV_GUARD_INSTALL); Linux 6.13 and 6.14 say the same of it as of one in swap alone."""

_FOUND_MAX = 16
_USER_END = 1 << 47
_NEAR_PAGES = 16
_NEAR_WORDS = _NEAR_PAGES * PAGE_BYTES // 8
_CANDIDATES_MAX = 4096
_FRAMES_MAX = 256
_OUTERMOST = frozenset({0, 0xDEADC0C0_DEADC0C0, (1 << 64) - 1})
"""What is put where a coroutine's first function would return to, beside addresses of code (LuaJIT's Coco)."""
_START_CONTEXT = re.compile(rb"\x48\x89\xdc\x48\x8b\x3c\x24\x48\x85\xff\x74.\xe8....", re.DOTALL)
"""glibc: mov %rbx,%rsp; mov (%rsp),%rdi; test %rdi,%rdi; je; call setcontext."""
_ENDBR64 = b"\xf3\x0f\x1e\xfa"
_START_CONTEXT_BYTES = 17
_START_CONTEXT_BEGINS = b"\x48\x89\xdc\x48\x8b\x3c\x24\x48\x85\xff\x74"
_STACK_BYTES_MAX = 256 << 10
"""So much of a coroutine's stack is looked at, below where its first function returns to."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Pages that exist, one after the other.

    Attributes:
        address: load address of the first.
        size: bytes, at most `_CHUNK_PAGES`.
        above: bytes that exist right behind, at most `_NEAR_PAGES`; they belong to the next run.
    """

    address: int
    size: int
    above: int


def _present_runs(pid: int, mapping: Mapping) -> Iterator[_Run]:
    """Yield the runs of pages of a mapping that exist."""
    pages = (mapping.end - mapping.start) // PAGE_BYTES
    with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as file:
        descriptor = file.fileno()
        for first in range(0, pages, _CHUNK_PAGES):
            count = min(_CHUNK_PAGES + _NEAR_PAGES, pages - first)
            raw = os.pread(descriptor, 8 * count, (mapping.start // PAGE_BYTES + first) * 8)
            flags = np.frombuffer(raw, dtype=np.uint64)
            there = ((flags & _PRESENT_OR_SWAPPED) != 0) & ((flags & _GUARD) == 0)
            edges = np.flatnonzero(np.diff(np.concatenate(([False], there, [False])).astype(np.int8))).tolist()
            for low, high in zip(edges[::2], edges[1::2], strict=True):
                end = min(high, _CHUNK_PAGES)
                if low < end:
                    start = mapping.start + (first + low) * PAGE_BYTES
                    yield _Run(start, (end - low) * PAGE_BYTES, (high - end) * PAGE_BYTES)


def _contents(memory: ProcessMemory, mapping: Mapping) -> Iterator[tuple[_Run, Words]]:
    """Yield the runs of pages of a mapping that can be read, with their words and those right behind."""
    for run in _present_runs(memory.pid, mapping):
        if (words := _words(memory, run)) is not None:
            yield run, words
            continue
        for part in _readable_parts(memory, run):
            if (words := _words(memory, part)) is not None:
                yield part, words


def _words(memory: ProcessMemory, run: _Run) -> Words | None:
    """Return the words of a run and those right behind; None where they cannot all be read."""
    try:
        return np.frombuffer(memory.read_many([(run.address, run.size + run.above)]), dtype=np.uint64)
    except KernelError:
        return None


def _readable_parts(memory: ProcessMemory, run: _Run) -> Iterator[_Run]:
    """Yield what can be read of a run that guard pages are in; nothing where it was unmapped meanwhile."""
    if procfs.find_mapping(procfs.read_maps(memory.pid), run.address) is None:
        return
    end = run.address + run.size
    for low, high in _readable(memory, run.address, end + run.above):
        if low < end:
            yield _Run(low, min(high, end) - low, max(high - end, 0))


def _readable(memory: ProcessMemory, start: int, end: int) -> list[tuple[int, int]]:
    """Return the ranges of pages between two addresses that can be read, each as long as it is."""
    if memory.try_read(start, end - start) is not None:
        return [(start, end)]
    if end - start <= PAGE_BYTES:
        return []
    middle = start + (end - start) // 2 // PAGE_BYTES * PAGE_BYTES
    below, above = _readable(memory, start, middle), _readable(memory, middle, end)
    if below and above and below[-1][1] == above[0][0]:
        return [*below[:-1], (below[-1][0], above[0][1]), *above[1:]]
    return below + above


def _is_looked_at(mapping: Mapping) -> bool:
    """Tell whether it is anonymous memory of the process's own, also with a name that the process gave it (`prctl`)."""
    named = mapping.path in ("", "[heap]") or mapping.path.startswith("[anon:")
    return mapping.private_writable and not mapping.inode and named


def _follows_call(memory: ProcessMemory, address: int) -> bool:
    """Tell whether a call instruction can end at `address`: `e8 rel32`, or `ff /2` of 2 to 7 bytes."""
    before = memory.try_read(address - 7, 7)
    if before is None:
        return False
    if before[2] == 0xE8:
        return True
    return any(before[7 - length] == 0xFF and before[8 - length] >> 3 & 7 == 2 for length in range(2, 8))


@dataclass(frozen=True, slots=True)
class Suspects:
    """What to look for.

    Attributes:
        forbidden: functions that change.
        homes: `(start, end)` of the images and shadows they belong to.
        restorers: from `stacks.find_restorers`.
        frame_bytes: distance from the stack pointer at a PC to the canonical frame address; None where uncertain.
    """

    forbidden: Forbidden
    homes: tuple[tuple[int, int], ...]
    restorers: tuple[int, ...]
    frame_bytes: Callable[[int], int | None]


@dataclass(frozen=True, slots=True)
class ContextStacks:
    """Stacks made by `makecontext`, as of the look.

    Attributes:
        starts: addresses of the code that a coroutine's first function returns to.
        stacks: `(lowest address to look at, place of that return address)` of each.
    """

    starts: frozenset[int] = frozenset()
    stacks: tuple[tuple[int, int], ...] = ()

    def hits(self, memory: ProcessMemory, forbidden: Forbidden, limit: float) -> list[Hit]:
        """Return where coroutines that live now keep return addresses into `forbidden`; all threads are stopped.

        Args:
            memory: of the process.
            forbidden: functions that change.
            limit: `time.perf_counter()` after which what is left counts as a hit.
        """
        found = []
        for lowest, slot in self.stacks:
            if time.perf_counter() > limit:
                return [Hit(memory.pid, "coroutines that there was no time to look at", "coroutine")]
            raw = memory.try_read(slot, 8)
            if raw is None or int.from_bytes(raw, "little") not in self.starts:
                continue  # it has ended
            stack = memory.try_read(lowest, slot - lowest)
            if stack is None:
                found.append(Hit(memory.pid, f"an unreadable coroutine at {slot:#x}", "coroutine"))
                continue
            words: Words = np.frombuffer(stack, dtype=np.uint64)
            for word, name in forbidden.matches(words):
                if _follows_call(memory, int(words[word])):
                    what = f"{forbidden.names[name]} in a coroutine, at {lowest + 8 * word:#x}"
                    found.append(Hit(memory.pid, what, "coroutine"))
        return found


def context_starts(memory: ProcessMemory, maps: tuple[Mapping, ...]) -> frozenset[int]:
    """Return where the code begins that the first function of a coroutine of `makecontext` returns to (glibc)."""
    libraries = (m for m in maps if m.executable and Path(m.path).name.startswith(("libc.so", "libc-")))
    return frozenset(
        place
        for mapping in libraries
        for place in places_of(_START_CONTEXT_BEGINS, memory, mapping)
        if _START_CONTEXT.fullmatch(memory.try_read(place, _START_CONTEXT_BYTES) or b"")
    )


def suspended_frames(
    memory: ProcessMemory, maps: tuple[Mapping, ...], suspects: Suspects
) -> tuple[list[str], ContextStacks]:
    """Return descriptions of return addresses into changing functions found outside of stacks; at most a few.

    Also the stacks of `makecontext` that were seen; all of them, where there is no such address.
    """
    found: list[str] = []
    code = _runnable(maps)
    starts = context_starts(memory, maps)
    stacks: list[tuple[int, int]] = []
    stacks_of_threads = functools.cache(partial(_stacks_of_threads, memory))

    def is_threads(mapping: Mapping, place: int) -> bool:
        return any(start <= place < end for start, end in stacks_of_threads(mapping))

    for mapping in filter(_is_looked_at, maps):
        for run, words in _contents(memory, mapping):
            for slot in _slots(words[: run.size // 8], run.address, starts):
                if not is_threads(mapping, slot):
                    stacks.append((max(mapping.start, slot - _STACK_BYTES_MAX), slot))
            frames = _frames_in(memory, run, words, suspects, code)
            found.extend(text for place, text in frames if not is_threads(mapping, place))
            if len(found) >= _FOUND_MAX:
                return found, ContextStacks()
    return found, ContextStacks(starts, tuple(stacks))


def _stacks_of_threads(memory: ProcessMemory, mapping: Mapping) -> tuple[tuple[int, int], ...]:
    """Return the threads' stacks `[start, end)` in a mapping, living or kept by the C library for later threads."""
    found: list[tuple[int, int]] = []
    for run, words in _contents(memory, mapping):
        found.extend(thread_stacks_in(words.tobytes(), run.address))
    return tuple(found)


def _slots(words: Words, address: int, starts: frozenset[int]) -> Iterator[int]:
    """Yield where the return address of a coroutine's first function stands, or stood before the coroutine ended."""
    for start in starts:
        for value in (start, start + _START_CONTEXT_BYTES):
            yield from (address + 8 * int(word) for word in np.flatnonzero(words == np.uint64(value)))


def _runnable(maps: tuple[Mapping, ...]) -> tuple[Words, Words]:
    """Return starts and ends of executable mappings."""
    code = [m for m in maps if m.executable and m.end <= _USER_END]  # not [vsyscall]
    return (
        np.array([m.start for m in code], dtype=np.uint64),
        np.array([m.end for m in code], dtype=np.uint64),
    )


def _frames_in(
    memory: ProcessMemory, run: _Run, words: Words, suspects: Suspects, code: tuple[Words, Words]
) -> Iterator[tuple[int, str]]:
    """Yield the return addresses in one run of pages: where each stands, and a description."""
    for word, name in suspects.forbidden.matches(words[: run.size // 8]):
        back, slot = int(words[word]), run.address + 8 * word
        if not _follows_call(memory, back):
            continue
        above = words[word + 1 : word + _NEAR_WORDS]
        if any(alternate_stacks(above.tobytes(), slot + 8, suspects.restorers)):
            continue
        returns = _returns(memory, slot, suspects.frame_bytes, code)
        if returns is None:
            handled = np.any(np.isin(above, np.array(suspects.restorers, dtype=np.uint64)))
            returns = not handled and _is_called_from(memory, above, suspects.homes, code)
        if returns:
            yield slot, f"{suspects.forbidden.names[name]}: {back:#x} at {slot:#x}"


def _returns(
    memory: ProcessMemory, slot: int, frame_bytes: Callable[[int], int | None], code: tuple[Words, Words]
) -> bool | None:
    """Tell whether somebody may return to the return address at `slot`, as the frames above it show; None if unsure.

    Nobody does where they lead to the end of a coroutine of `makecontext`, or where one of them would return to
    something else than code that the first frame of no coroutine has there.
    """
    for _ in range(_FRAMES_MAX):
        raw = memory.try_read(slot, 8)
        if raw is None:
            return None
        back = int.from_bytes(raw, "little")
        if not _in_code(np.array([back], dtype=np.uint64), code).any():
            return back in _OUTERMOST
        if _START_CONTEXT.fullmatch(memory.try_read(back - _START_CONTEXT_BYTES, _START_CONTEXT_BYTES) or b""):
            return False
        if not _follows_call(memory, back):
            return True  # code that a library of coroutines has its first function return to
        # behind the call the stack pointer is slot + 8; the caller's return address ends at the frame address
        size = frame_bytes(back - 1)
        if size is None or size < 8 or size % 8:
            return None
        slot += size
    return None


def _is_called_from(
    memory: ProcessMemory, above: Words, homes: tuple[tuple[int, int], ...], code: tuple[Words, Words]
) -> bool:
    """Tell whether a word is the return address of a call that can have led into `homes`."""
    inside = np.unique(above[_in_code(above, code)])
    if inside.size > _CANDIDATES_MAX:
        return True
    return any(_leads_to(memory, int(value), homes) for value in inside)


def _in_code(words: Words, code: tuple[Words, Words]) -> npt.NDArray[np.bool_]:
    """Tell for each word whether it is an address in an executable mapping."""
    starts, ends = code
    index = np.searchsorted(starts, words, side="right") - 1
    inside: npt.NDArray[np.bool_] = (index >= 0) & (words < ends[np.maximum(index, 0)])
    return inside


def _leads_to(memory: ProcessMemory, address: int, homes: tuple[tuple[int, int], ...]) -> bool:
    """Tell whether a call that returns to `address` can have led into `homes`."""
    if not _follows_call(memory, address):
        return False
    before = memory.try_read(address - 5, 5)
    if before is None or before[0] != 0xE8:
        return True  # indirect
    target = address + int.from_bytes(before[1:], "little", signed=True)
    if any(start <= target < end for start, end in homes):
        return True
    stub = (memory.try_read(target, 8) or b"").removeprefix(_ENDBR64).removeprefix(b"\xf2")
    return stub.startswith(b"\xff\x25")
