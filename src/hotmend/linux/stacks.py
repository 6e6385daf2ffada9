"""Whose memory lies below a thread's stack pointer: what may be written there, before it makes a system call for us.

A stack is a thread's own down to the lowest address of `[stack]` (the main thread), or of the memory that the C library
mapped, or was given, for it (any other one). A stack on the heap has the heap around it; one of a coroutine, or an
alternate one for signal handlers, may lie anywhere, in the thread's own stack too: below them is somebody's data.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import Mapping
from hotmend.linux.search import places_of
from hotmend.linux.sys import Registers
from hotmend.model.addresses import PAGE_BYTES

RESTORER: Final = b"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05"  # mov $15,%rax; syscall
_THREAD_BLOCK_BYTES: Final = 4096
_THREAD_STACK_BYTES_MAX: Final = 1 << 32
_HANDLER_BYTES_MAX: Final = 256 << 10
"""So far above the stack pointer the signal frame is looked for that a handler would return to."""
_SIGNAL_STACK: Final = struct.Struct("<24x Q 8x Q")
"""Of a signal frame: begin and size of the alternate stack that the thread has."""


def find_restorers(memory: ProcessMemory, maps: tuple[Mapping, ...]) -> tuple[int, ...]:
    """Return every place in executable memory that can be a signal frame's return address."""
    runnable = (m for m in maps if m.executable and m.readable)
    return tuple(place for mapping in runnable for place in places_of(RESTORER, memory, mapping))


def thread_stack(memory: ProcessMemory, maps: tuple[Mapping, ...], fs_base: int) -> tuple[int, int] | None:
    """Return the stack `[start, end)` that the C library has for a thread, as the thread's own block says."""
    mapping = procfs.find_mapping(maps, fs_base)
    if mapping is None or fs_base % 8:
        return None
    raw = memory.try_read(fs_base, min(_THREAD_BLOCK_BYTES, mapping.end - fs_base & -8))
    if raw is None:  # right above may be the guard page of another stack, which cuts no mapping
        raw = memory.try_read(fs_base, -fs_base % PAGE_BYTES)
    return None if raw is None else stack_of_block(raw, fs_base)


def stack_of_block(block: bytes, fs_base: int) -> tuple[int, int] | None:
    """Return the stack `[start, end)` that a glibc thread block names; None for a main thread, or if unsure.

    The block names itself in its first and third word. Further on it has start and size of the memory that was mapped
    for stack and block together; their place differs from version to version, their meaning is checked instead.

    Args:
        block: memory from `fs_base` on.
        fs_base: address of the block.
    """
    words = struct.unpack(f"<{len(block) // 8}Q", block[: len(block) & -8])
    if len(words) < 3 or words[0] != fs_base or words[2] != fs_base:
        return None
    for start, size in itertools.pairwise(words):
        aligned = not start % PAGE_BYTES and not size % PAGE_BYTES
        if aligned and 0 < start < fs_base < start + size and size <= _THREAD_STACK_BYTES_MAX:
            return start, fs_base
    return None


def thread_stacks_in(content: bytes, address: int) -> Iterator[tuple[int, int]]:
    """Yield the stacks `[start, end)` that glibc thread blocks in a piece of memory name.

    Args:
        content: the memory.
        address: its load address, a multiple of 8.
    """
    words = np.frombuffer(content, dtype=np.uint64)
    own = np.arange(address, address + len(content), 8, dtype=np.uint64)
    for block in np.flatnonzero((words[:-2] == own[:-2]) & (words[2:] == own[:-2])).tolist():
        at = 8 * block
        if (stack := stack_of_block(content[at : at + _THREAD_BLOCK_BYTES], address + at)) is not None:
            yield stack


def lowest_own(
    memory: ProcessMemory, maps: tuple[Mapping, ...], registers: Registers, restorers: Sequence[int], *, leader: bool
) -> int | None:
    """Return the lowest address from which on memory below a stopped thread's stack pointer is its own stack.

    Args:
        memory: of the process.
        maps: its mappings.
        registers: of the thread.
        restorers: from `find_restorers`.
        leader: it is the process's first thread.

    Returns:
        None where the stack is not known for the thread's own.
    """
    sp = registers.rsp
    mapping = procfs.find_mapping(maps, sp)
    if mapping is None or not mapping.private_writable:
        return None
    if leader and mapping.path == "[stack]":
        low, high = mapping.start, mapping.end
    elif (own := thread_stack(memory, maps, registers.fs_base)) is not None and own[0] <= sp < own[1]:
        low, high = max(own[0], mapping.start), min(own[1], mapping.end)
    else:
        return None
    above = memory.try_read(sp, min(high - sp, _HANDLER_BYTES_MAX) & -8)
    if above is None:
        return None
    return max(low, max(alternate_stacks(above, sp, restorers), default=low))


def alternate_stacks(above: bytes, sp: int, restorers: Sequence[int]) -> Iterator[int]:
    """Yield where alternate stacks that hold `sp` begin: what signal frames above it say their thread had.

    Args:
        above: memory from `sp` on.
        sp: its load address.
        restorers: from `find_restorers`.
    """
    for restorer in restorers:
        word, position = struct.pack("<Q", restorer), -1
        while (position := above.find(word, position + 1)) >= 0:
            if position + _SIGNAL_STACK.size > len(above):
                break
            begin, size = _SIGNAL_STACK.unpack_from(above, position)
            if begin <= sp < begin + size:
                yield begin
