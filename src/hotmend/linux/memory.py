"""Memory of another process: bulk reads, and writes that reach read-only and executable pages.

Where the kernel was booted with `proc_mem.force_override=never` (or `ptrace`), /proc/PID/mem does not reach such pages
(any more). What it refuses then goes through PTRACE_POKEDATA, eight bytes at a time: through the thread that a stop
holds anyway, else through one that is stopped for it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from hotmend.linux import sys
from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.errors import KernelError, PermissionRefusedError, ProcessGoneError

_POKE_BYTES = 512
"""So much is written while one thread is stopped for it, which takes as long as stopping it."""


class MemoryWriteError(KernelError):
    """A write did not arrive, or what was read back differs."""


class Readable(Protocol):
    """Memory of a process, or of one that has ended."""

    def try_read(self, address: int, size: int) -> bytes | None:
        """Read `size` bytes, or return None where any of them is not there."""


def translate(error: OSError, pid: int) -> Exception:
    """Return the project's error for a failed access to process `pid`; the caller raises it."""
    if error.errno in (errno.ESRCH, errno.ENOENT):
        return ProcessGoneError(f"process {pid} is gone")
    if error.errno in (errno.EPERM, errno.EACCES):
        return PermissionRefusedError(
            f"not allowed to access the memory of process {pid}", "run as root or with CAP_SYS_PTRACE"
        )
    return KernelError(f"memory of process {pid}: {error.strerror}")


class ProcessMemory:
    """An open /proc/PID/mem. The descriptor stays bound to the address space, also if the pid is reused.

    Attributes:
        pid: process.
        tracee: a thread of it that the calling thread holds stopped; None outside of stops.
        stop_one: stops one for the block, and yields it; None: nobody may be stopped for a write.
        poked: whether anything had to be written through a thread.
    """

    def __init__(self, pid: int, *, writable: bool = False) -> None:
        self.pid = pid
        self.tracee: int | None = None
        self.stop_one: Callable[[], AbstractContextManager[int]] | None = None
        self.poked = False
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        try:
            self._descriptor = os.open(f"/proc/{pid}/mem", flags)
        except OSError as error:
            raise translate(error, pid) from error

    def __enter__(self) -> ProcessMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def lock(self) -> bool:
        """Lock the file until it is closed; return whether nobody else who may open it has locked it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def read(self, address: int, size: int) -> bytes:
        """Read exactly `size` bytes; raise `KernelError` if they are not all mapped."""
        parts = []
        while size > 0:
            try:
                part = os.pread(self._descriptor, size, address)
            except OSError as error:
                raise translate(error, self.pid) from error
            except OverflowError as error:  # the process's own memory said that something is there
                raise KernelError(f"process {self.pid} has no memory at {address:#x}") from error
            if not part:
                raise ProcessGoneError(f"process {self.pid} is gone")
            parts.append(part)
            address += len(part)
            size -= len(part)
        return b"".join(parts)

    def try_read(self, address: int, size: int) -> bytes | None:
        """Read `size` bytes, or return None where any of them is not mapped."""
        try:
            return self.read(address, size)
        except KernelError:
            return None

    def read_many(self, ranges: Sequence[tuple[int, int]]) -> bytearray:
        """Read `(address, bytes)` ranges end to end in as few system calls as possible."""
        try:
            return sys.read_ranges(self.pid, ranges)
        except OSError as error:
            raise translate(error, self.pid) from error

    def write(self, address: int, content: bytes) -> None:
        """Write `content`, also to pages the process may not write, without reading back."""
        done = 0
        while done < len(content):
            try:
                count = os.pwrite(self._descriptor, content[done:], address + done)
            except OSError as error:
                if error.errno != errno.EIO or (self.tracee is None and self.stop_one is None):
                    raise translate(error, self.pid) from error
                self._poke(address + done, content[done:])
                return
            if count <= 0:
                raise MemoryWriteError(f"process {self.pid}: write at {address + done:#x} did not arrive")
            done += count

    def _poke(self, address: int, content: bytes) -> None:
        """Write `content` through a stopped thread: up to eight bytes in one page are there at once, or not at all.

        One that is stopped for it goes on, and is stopped again, every few words.
        """
        self.read(address, len(content))  # where nothing is mapped, nobody is stopped for it
        if self.stop_one is None or self.tracee:
            self._poke_words(self.tracee or self.pid, address, content)
        else:
            for done in range(0, len(content), _POKE_BYTES):
                with self.stop_one() as tid:
                    self._poke_words(tid, address + done, content[done : done + _POKE_BYTES])
        self.poked = True

    def _poke_words(self, tid: int, address: int, content: bytes) -> None:
        """Write through a thread that is stopped."""
        while content:
            start = min(address, (address | (PAGE_BYTES - 1)) - 7)
            skipped = address - start
            part, content = content[: 8 - skipped], content[8 - skipped :]
            word = self.read(start, 8) if len(part) < 8 else b""
            try:
                sys.poke(tid, start, word[:skipped] + part + word[skipped + len(part) :])
            except OSError as error:
                raise translate(error, self.pid) from error
            address += len(part)

    def write_checked(self, address: int, content: bytes) -> None:
        """Write `content` and read it back; raise `MemoryWriteError` where they differ."""
        self.write(address, content)
        if self.read(address, len(content)) != content:
            raise MemoryWriteError(f"process {self.pid}: memory at {address:#x} is not what was written")

    def take_faults(self, addresses: Iterable[int]) -> None:
        """Write each address's own byte back, so that its page is private before a stop begins."""
        for address in addresses:
            self.write(address, self.read(address, 1))
