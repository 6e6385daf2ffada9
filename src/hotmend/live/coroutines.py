"""Suspended coroutines: return addresses into replaced functions that stand outside of every thread's stack.

Looked at before the stop: anonymous private writable memory that is in core, threads' stacks left out. A word counts
only if it points behind a call instruction inside one of the functions, and stands on what looks like a stack: other
return addresses are near. With a signal frame above it, it belongs to a signal handler on an alternate stack: a
running one is found by the scan of the stopped threads, and one that has ended does not matter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import Mapping
from hotmend.live.safety import Forbidden, Words
from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.errors import KernelError

_CHUNK_PAGES = 4096
_PRESENT_OR_SWAPPED = np.uint64(3 << 62)
_TOP_BYTES = 16 << 10
_FOUND_MAX = 16
_NEAR_WORDS = 8192
_CANDIDATES_MAX = 4096


def _present_runs(pid: int, mapping: Mapping) -> Iterator[tuple[int, int]]:
    """Yield `(address, bytes)` of runs of pages that exist, at most `_CHUNK_PAGES` each."""
    pages = (mapping.end - mapping.start) // PAGE_BYTES
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        descriptor = file.fileno()
        for first in range(0, pages, _CHUNK_PAGES):
            count = min(_CHUNK_PAGES, pages - first)
            raw = os.pread(descriptor, 8 * count, (mapping.start // PAGE_BYTES + first) * 8)
            there = (np.frombuffer(raw, dtype=np.uint64) & _PRESENT_OR_SWAPPED) != 0
            edges = np.flatnonzero(np.diff(np.concatenate(([False], there, [False])).astype(np.int8)))
            for low, high in zip(edges[::2], edges[1::2], strict=True):
                yield mapping.start + (first + int(low)) * PAGE_BYTES, int(high - low) * PAGE_BYTES


def _is_thread_stack(memory: ProcessMemory, mapping: Mapping) -> bool:
    """Tell whether a glibc thread block tops the mapping: a word, and the one 16 bytes on, that name its address.

    That holds for the stacks of living threads (the stop scans those) and for stacks kept for later threads.
    """
    size = min(_TOP_BYTES, mapping.end - mapping.start)
    raw = memory.try_read(mapping.end - size, size)
    if raw is None:
        return False
    words: Words = np.frombuffer(raw, dtype=np.uint64)
    own = np.arange(mapping.end - size, mapping.end, 8, dtype=np.uint64)
    return bool(np.any((words[:-2] == own[:-2]) & (words[2:] == own[:-2])))


def _follows_call(memory: ProcessMemory, address: int) -> bool:
    """Tell whether a call instruction can end at `address`: `e8 rel32`, or `ff /2` of 2 to 7 bytes."""
    before = memory.try_read(address - 7, 7)
    if before is None:
        return False
    if before[2] == 0xE8:
        return True
    return any(before[7 - length] == 0xFF and before[8 - length] >> 3 & 7 == 2 for length in range(2, 8))


def suspended_frames(
    memory: ProcessMemory, maps: tuple[Mapping, ...], forbidden: Forbidden, restorers: tuple[int, ...]
) -> list[str]:
    """Return descriptions of return addresses into `forbidden` found outside of stacks; at most a few."""
    found: list[str] = []
    code = _runnable(maps)
    for mapping in maps:
        if not mapping.private_writable or mapping.inode or mapping.path not in ("", "[heap]"):
            continue
        if mapping.path == "" and _is_thread_stack(memory, mapping):
            continue
        for address, size in _present_runs(memory.pid, mapping):
            found.extend(_frames_in(memory, address, size, forbidden, restorers, code))
            if len(found) >= _FOUND_MAX:
                return found
    return found


def _runnable(maps: tuple[Mapping, ...]) -> tuple[Words, Words]:
    """Return starts and ends of executable mappings."""
    code = [m for m in maps if m.executable]
    return (
        np.array([m.start for m in code], dtype=np.uint64),
        np.array([m.end for m in code], dtype=np.uint64),
    )


def _frames_in(
    memory: ProcessMemory,
    address: int,
    size: int,
    forbidden: Forbidden,
    restorers: tuple[int, ...],
    code: tuple[Words, Words],
) -> Iterator[str]:
    """Yield the return addresses in one run of pages."""
    try:
        words: Words = np.frombuffer(memory.read_many([(address, size)]), dtype=np.uint64)
    except KernelError:  # unmapped meanwhile
        return
    for word, name in forbidden.matches(words):
        if not _follows_call(memory, int(words[word])):
            continue
        if np.any(np.isin(words[word : word + _NEAR_WORDS], np.array(restorers, dtype=np.uint64))):
            continue
        if _is_on_stack(memory, words[max(0, word - _NEAR_WORDS) : word + _NEAR_WORDS], code):
            yield f"{forbidden.names[name]}: {int(words[word]):#x} at {address + 8 * word:#x}"


def _is_on_stack(memory: ProcessMemory, near: Words, code: tuple[Words, Words]) -> bool:
    """Tell whether at least two different return addresses are among words that stand near each other."""
    starts, ends = code
    index = np.searchsorted(starts, near, side="right") - 1
    inside = near[(index >= 0) & (near < ends[np.maximum(index, 0)])]
    returns = 0
    for value in np.unique(inside)[:_CANDIDATES_MAX]:
        returns += _follows_call(memory, int(value))
        if returns >= 2:
            return True
    return False
