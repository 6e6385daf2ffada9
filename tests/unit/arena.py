"""Machine code that really runs: memory of this process in which old code, stubs and new code stand."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import subprocess
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from hotmend.diff.stubs import Entry, make_stubs
from hotmend.image.entry import displace
from hotmend.model.addresses import LinkAddress
from hotmend.model.hotpatch import GateTarget, OldTarget, Redirection, Relocation, RelocationKind

ENTRY, CALLEE, NEW, WORDS, STUBS, GATE = 0x1000, 0x2000, 0x3000, 0x4000, 0x6000, 0x5000
_REGISTERS_AT = 0x5800
REGISTERS = ("rax", "rbx", "rcx", "rdx", "rbp", "r8", "r9", "r10", "r12", "r13", "r14", "r15", "rdi", "rsi")

_CALLER = """
    .globl run
run:
    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
    push %rdi
    push %rsi
    mov %rsi, %r11
    LOADS
    call *8(%rsp)
    mov (%rsp), %r11
    STORES
    add $16, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
    ret
    .section .note.GNU-stack,"",@progbits
"""


@cache
def _caller() -> ctypes.CDLL:
    """Return a library whose `run(code, registers)` calls code with all registers set and keeps what they became."""
    loads = "; ".join(f"mov {8 * n}(%r11), %{name}" for n, name in enumerate(REGISTERS))
    stores = "; ".join(f"mov %{name}, {8 * n}(%r11)" for n, name in enumerate(REGISTERS))
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "run.s"), Path(folder, "run.so")
        source.write_text(_CALLER.replace("LOADS", loads).replace("STORES", stores))
        subprocess.run(["gcc", "-shared", "-nostdlib", "-o", library, source], check=True)
        return ctypes.CDLL(str(library))


class Arena:
    """A page of each: the entry, a function it may call, the new function, words, the gate, and stubs."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1 << 16, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._view = ctypes.c_char.from_buffer(self._memory)
        self.base = ctypes.addressof(self._view)

    def write(self, at: int, content: bytes) -> None:
        """Write at an offset of the arena."""
        self._memory[at : at + len(content)] = content

    def read(self, at: int, size: int) -> bytes:
        """Read at an offset of the arena."""
        return self._memory[at : at + size]

    def word(self, at: int) -> int:
        """Return 8 bytes at an offset as a number."""
        return int(struct.unpack("<Q", self.read(at, 8))[0])

    def call(self, at: int, registers: Mapping[str, int]) -> dict[str, int]:
        """Call the code at an offset in a child; return what all registers hold when it returns.

        The arena is shared with the child, so that what the code writes stays; a crash is the child's alone.
        """
        values = [registers.get(r, 0x1111 * n) for n, r in enumerate(REGISTERS)]
        self.write(_REGISTERS_AT, struct.pack(f"<{len(values)}Q", *values))
        run = _caller().run
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child does nothing but this call
            child = os.fork()
        if not child:
            run(ctypes.c_void_p(self.base + at), ctypes.c_void_p(self.base + _REGISTERS_AT))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == 0, f"the code ended with {status}"
        found = struct.unpack(f"<{len(values)}Q", self.read(_REGISTERS_AT, 8 * len(values)))
        return dict(zip(REGISTERS, found, strict=True))

    def redirect(self, text: bytes, *, far: bool, branch_targets: Sequence[int] = ()) -> Redirection:
        """Make stubs for the entry, put the one asked for into place and let the entry jump to it."""
        old, new = LinkAddress(self.base + ENTRY), LinkAddress(self.base + NEW)
        displaced = displace(text, old, set(branch_targets))
        entry = Entry("entry", old, new, text, displaced)
        segments, relocations, (redirection,) = make_stubs([entry], self.base + STUBS)
        for segment in segments:
            self.write(segment.extent.start - self.base, segment.content)
        for relocation in relocations:
            self._relocate(relocation)
        stub = redirection.far_stub if far else redirection.near_stub
        self.write(ENTRY, b"\xe9" + struct.pack("<i", stub.start - old - 5))
        return redirection

    def _relocate(self, r: Relocation) -> None:
        match r.target:
            case OldTarget(address):
                value = address + r.addend
            case GateTarget():
                value = self.base + GATE + r.addend
            case _:
                raise AssertionError(r.target)
        if r.kind is RelocationKind.PC32:
            self.write(r.address - self.base, struct.pack("<i", value - r.address))
        else:
            assert r.kind is RelocationKind.ABS64
            self.write(r.address - self.base, struct.pack("<Q", value))
