"""Looking for code in processes: what is known of a file, and of each process its own pages, against reading it all."""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hotmend.linux import search
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import Mapping, read_maps
from hotmend.linux.search import places_of
from hotmend.model.addresses import PAGE_BYTES

pytestmark = pytest.mark.live
PATTERN = bytes.fromhex("90c3cc0f05c3")
"""In no code of `cat` and its libraries."""


@pytest.fixture
def sleepers() -> Iterator[list[int]]:
    """Three processes of one program, of the same pages."""
    running = [subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for process in running:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()  # it has all its libraries
    yield [process.pid for process in running]
    for process in running:
        process.kill()
        process.communicate()


def library_of(pid: int) -> Mapping:
    return next(m for m in read_maps(pid) if m.executable and m.path.endswith("/libc.so.6"))


def read_all(pattern: bytes, memory: ProcessMemory, mapping: Mapping) -> tuple[int, ...]:
    """Read the whole mapping, as places_of once did."""
    code = memory.read(mapping.start, mapping.end - mapping.start)
    found = []
    at = code.find(pattern)
    while at >= 0:
        found.append(mapping.start + at)
        at = code.find(pattern, at + 1)
    return tuple(found)


@pytest.mark.parametrize("seed", range(8))
def test_it_finds_what_reading_it_all_finds(sleepers: list[int], seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own pages in the one that is looked at first, in the next, in both; and what crosses into and out of them."""
    monkeypatch.setattr(search, "_cache", {})
    chance = random.Random(seed)
    wanted = (PATTERN, bytes.fromhex("0f05c3"), bytes.fromhex("90c3"))
    for number, pid in enumerate(chance.sample(sleepers, 3)):
        mapping = library_of(pid)
        pages = (mapping.end - mapping.start) // PAGE_BYTES
        with ProcessMemory(pid, writable=True) as memory:
            for _ in range(chance.randrange(4) + number):
                edge = mapping.start + chance.randrange(1, pages) * PAGE_BYTES
                memory.write(edge - chance.randrange(len(PATTERN) + 1), PATTERN)
            memory.write(mapping.start, PATTERN[: chance.randrange(len(PATTERN) + 1)])
            memory.write(mapping.end - len(PATTERN), PATTERN)
            for pattern in wanted:
                expected = read_all(pattern, memory, mapping)
                assert expected
                assert places_of(pattern, memory, mapping) == expected
                assert places_of(pattern, memory, mapping) == expected


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what was read."""
    found: list[int] = []
    plain = ProcessMemory.read

    def watched(memory: ProcessMemory, address: int, size: int) -> bytes:
        found.append(size)
        return plain(memory, address, size)

    monkeypatch.setattr(ProcessMemory, "read", watched)
    return found


def test_of_memory_without_a_file_what_was_written_is_read(read: list[int]) -> None:
    """Where a pattern begins in what was written, ends in it, and lies in it; the rest was never touched."""
    size = 64 * PAGE_BYTES
    at = [3 * PAGE_BYTES - 100, 10 * PAGE_BYTES - len(PATTERN) - 1, 20 * PAGE_BYTES]
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made, ProcessMemory(os.getpid()) as memory:
        start = ctypes.addressof(ctypes.c_char.from_buffer(made))
        whole = next(m for m in read_maps(os.getpid()) if m.start <= start < m.end)
        assert (whole.path, whole.inode) == ("", 0)
        mapping = replace(whole, start=start, end=start + size)
        for offset in at:
            made[offset : offset + len(PATTERN)] = PATTERN
        patterns = PATTERN + bytes(3), bytes(2) + PATTERN + bytes(3)
        found = [places_of(pattern, memory, mapping) for pattern in patterns]
        assert 0 < sum(read) < size / 4
        assert found == [tuple(start + offset for offset in at), tuple(start + offset - 2 for offset in at)]
        assert found == [read_all(pattern, memory, mapping) for pattern in patterns]


def test_of_a_process_with_own_pages_only_these_are_read(
    sleepers: list[int], read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = sleepers
    monkeypatch.setattr(search, "_cache", {})
    with ProcessMemory(first) as memory:
        assert places_of(PATTERN, memory, library_of(first)) == ()
    mapping = library_of(second)
    assert sum(read) >= mapping.end - mapping.start
    read.clear()
    with ProcessMemory(second, writable=True) as memory:
        at = mapping.start + 5 * PAGE_BYTES + 100
        memory.write(at, PATTERN)
        assert places_of(PATTERN, memory, mapping) == (at,)
    assert read == [PAGE_BYTES + 2 * (len(PATTERN) - 1)]
