"""The scan on hand-made maps: where a thread's stack ends, and whether it is the thread's own."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import Mapping
from hotmend.linux.stacks import stack_of_block
from hotmend.linux.stop import Stopped, StoppedThread
from hotmend.linux.sys import Registers
from hotmend.live import safety
from hotmend.live.gate import FunctionRecord
from hotmend.live.safety import STACK_BYTES_MAX, Forbidden, Hit, Scanner, Surroundings, confirmed_hits

PAGE = 4096
STACK_PAGES = 16
ZERO = Registers(*[0] * 27)
CHANGED = FunctionRecord("changed", 0x5000_0000, 64)
RESTORER = 0x4000_0000


class Stack:
    """Memory of this very process that looks like a thread's stack with the thread's block on top."""

    def __init__(self) -> None:
        self._memory = ctypes.create_string_buffer((STACK_PAGES + 2) * PAGE)
        self.start = ctypes.addressof(self._memory) + PAGE - 1 & -PAGE
        self.size = STACK_PAGES * PAGE
        self.fs_base = self.start + self.size - 2048
        self.sp = self.fs_base - 1024
        self.put(self.fs_base, self.fs_base)
        self.put(self.fs_base + 16, self.fs_base)
        self.put(self.fs_base + 0x690, self.start)
        self.put(self.fs_base + 0x698, self.size)

    def put(self, address: int, value: int) -> None:
        """Write one word."""
        ctypes.memmove(address, struct.pack("<Q", value), 8)

    def block(self) -> bytes:
        """Return the thread block."""
        return ctypes.string_at(self.fs_base, 2048)

    def hits(self, *, more_bytes: int = 0, leader: bool = False, path: str = "") -> list[Hit]:
        """Scan a thread on this stack, whose mapping is shown `more_bytes` longer than it is, with the name `path`."""
        maps = (Mapping(self.start, self.start + self.size + more_bytes, "rw-p", 0, "00:00", 0, path),)
        pid = os.getpid()
        tid = pid if leader else pid + 1
        thread = StoppedThread(tid, pid, ZERO._replace(rsp=self.sp, fs_base=self.fs_base), 0)
        with ProcessMemory(pid) as memory:
            scanner = Scanner(memory, Surroundings(maps, ()), Forbidden([CHANGED]))
            return scanner.scan(Stopped({tid: thread}, 0.0))


def test_thread_stack() -> None:
    stack = Stack()
    assert stack_of_block(stack.block(), stack.fs_base) == (stack.start, stack.fs_base)
    assert stack_of_block(stack.block(), stack.fs_base + 8) is None  # not the block of that address
    assert stack_of_block(stack.block()[:16], stack.fs_base) is None
    stack.put(stack.fs_base + 0x690, 0)  # as in a main thread
    assert stack_of_block(stack.block(), stack.fs_base) is None
    stack.put(stack.fs_base + 0x690, stack.fs_base & -PAGE)
    stack.put(stack.fs_base + 0x698, 0)
    assert stack_of_block(stack.block(), stack.fs_base) is None


def test_a_clean_and_an_active_thread() -> None:
    stack = Stack()
    assert stack.hits() == []
    stack.put(stack.sp + 64, CHANGED.address + 8)
    assert [(h.function, h.where) for h in stack.hits()] == [("changed", "stack")]


def test_stack_merged_with_what_lies_above() -> None:
    """Older kernels show neighbours as one mapping: the thread's block is where the stack ends."""
    stack = Stack()
    assert stack.hits(more_bytes=2 * STACK_BYTES_MAX) == []
    stack.put(stack.fs_base - 8, CHANGED.address + 8)
    assert [h.where for h in stack.hits(more_bytes=2 * STACK_BYTES_MAX)] == ["stack"]
    stack.put(stack.fs_base, 0)
    assert "coroutine" in [h.where for h in stack.hits(more_bytes=2 * STACK_BYTES_MAX)]


def test_below_a_block_that_does_not_name_itself() -> None:
    """What `fs` leads to is no thread's block, as every program has one that keeps to the psABI."""
    stack = Stack()
    stack.put(stack.fs_base, stack.fs_base + 8)
    assert [h.where for h in stack.hits()] == ["coroutine"]


def test_leader_on_a_stack_of_its_own() -> None:
    """The leader of a child that another thread forked; but a main thread's block vouches for nothing."""
    stack = Stack()
    assert stack.hits(leader=True) == []
    stack.put(stack.fs_base + 0x690, 0)
    assert [h.where for h in stack.hits(leader=True)] == ["coroutine"]


def test_above_the_thread_s_own_stack() -> None:
    """A stack in the same mapping, above the block; and `[stack]`, on which only the main thread is at home."""
    stack = Stack()
    stack.sp = stack.fs_base + 1024
    assert [h.where for h in stack.hits()] == ["coroutine"]
    assert [h.where for h in stack.hits(path="[stack]")] == ["coroutine"]
    assert stack.hits(path="[stack]", leader=True) == []


def test_registers() -> None:
    stack = Stack()
    pid = os.getpid()
    maps = (Mapping(stack.start, stack.start + stack.size, "rw-p", 0, "00:00", 0, "[stack]"),)
    inside = CHANGED.address + 1
    with ProcessMemory(pid) as memory:
        for field, expected in (("rip", "pc"), ("r15", "register"), ("rdi", "register")):
            registers = ZERO._replace(rsp=stack.sp, **{field: inside})
            scanner = Scanner(memory, Surroundings(maps, ()), Forbidden([CHANGED]))
            scanner.rehearse()
            hits = scanner.scan(Stopped({pid: StoppedThread(pid, pid, registers, 0)}, 0.0))
            assert [h.where for h in hits] == [expected], field


def test_entries_beside_functions() -> None:
    """The bytes behind an entry count where no function has them; ranges across each other are refused."""
    both = Forbidden.with_interiors([CHANGED], [("changed", CHANGED.address), ("other", 0x6000_0000)])
    assert both is not None
    assert both.names == ["changed", "other"]
    assert [both.name_at(0x6000_0000 + n) for n in range(6)] == [None, *["other"] * 4, None]
    end = CHANGED.address + CHANGED.size
    assert Forbidden.with_interiors([CHANGED], [("across", end - 2)]) is None
    beside = Forbidden.with_interiors([CHANGED], [("next", end)])
    assert beside is not None
    assert [beside.name_at(end), beside.name_at(end + 1)] == ["changed", "next"]
    assert Forbidden.with_interiors([CHANGED, FunctionRecord("inside", CHANGED.address + 8, 8)], []) is None


def test_stacks_are_read_in_pieces_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a word stands, and wherever a signal frame begins, it is found."""
    stack, interrupted, pid = Stack(), Stack(), os.getpid()
    interrupted.put(interrupted.sp + 64, CHANGED.address + 8)
    maps = tuple(
        Mapping(s.start, s.start + s.size, "rw-p", 0, "00:00", 0, "")
        for s in sorted((stack, interrupted), key=lambda s: s.start)
    )
    monkeypatch.setattr(safety, "_PIECE_BYTES", 512)
    with ProcessMemory(pid) as memory:

        def where() -> list[str]:
            registers = ZERO._replace(rsp=stack.sp, fs_base=stack.fs_base)
            scanner = Scanner(memory, Surroundings(maps, (RESTORER,)), Forbidden([CHANGED]))
            return [h.where for h in scanner.scan(Stopped({pid + 1: StoppedThread(pid + 1, pid, registers, 0)}, 0.0))]

        assert where() == []
        for word in range(stack.sp, stack.fs_base - 184, 8):
            stack.put(word, CHANGED.address + 8)
            assert set(where()) == {"stack"}, word - stack.sp
            stack.put(word, RESTORER)
            stack.put(word + 168, interrupted.sp)
            assert set(where()) == {"stack"}, word - stack.sp
            stack.put(word, 0)
            stack.put(word + 168, 0)


def test_no_more_is_read_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece takes a second here: what it shows is kept, and the thread is not taken for safe, nor for strange."""
    stack, pid, read = Stack(), os.getpid(), [0]
    stack.sp -= 2048
    real_read = ProcessMemory.read_many

    def read_many(self: ProcessMemory, ranges: Sequence[tuple[int, int]]) -> bytearray:
        read.append(sum(size for _, size in ranges))
        return real_read(self, ranges)

    monkeypatch.setattr(ProcessMemory, "read_many", read_many)
    monkeypatch.setattr(safety, "time", SimpleNamespace(perf_counter=lambda: float(len(read))))
    monkeypatch.setattr(safety, "_PIECE_BYTES", 512)
    maps = (Mapping(stack.start, stack.start + stack.size, "rw-p", 0, "00:00", 0, ""),)
    registers = ZERO._replace(rsp=stack.sp, fs_base=stack.fs_base)
    stopped = Stopped({pid + 1: StoppedThread(pid + 1, pid, registers, 0)}, 0.0)
    stack.put(stack.sp + 64, CHANGED.address + 8)
    with ProcessMemory(pid) as memory:
        hits = Scanner(memory, Surroundings(maps, ()), Forbidden([CHANGED])).scan(stopped, 3.0)
    assert [h.where for h in hits] == ["stack", "unknown"]
    assert read == [0, 512, 512, 512]


def test_unwinding_that_had_no_time_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither that a thread is inside, nor that it is not."""
    clock = [0.0]
    monkeypatch.setattr(safety, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    hits = [Hit(tid, "changed", "stack") for tid in (1, 2, 3)]
    stopped = Stopped({tid: StoppedThread(tid, 1, ZERO, 0) for tid in (1, 2, 3)}, 0.0)

    def frames(tid: int, limit: float) -> list[int] | None:
        clock[0] += 2.0
        return [0x1000] if clock[0] < limit else None

    left = confirmed_hits(hits, stopped, Forbidden([CHANGED]), frames, 3.0)
    assert [(hit.tid, hit.where) for hit in left] == [(2, "unknown"), (3, "unknown")]
