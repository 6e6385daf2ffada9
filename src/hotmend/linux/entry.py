"""Holding a new program at its entry point: the dynamic linker has mapped everything, and no code of its own ran.

The process is traced from before execve until its entry point holds a jump to itself; from then on it is an ordinary
running process in which everything can be done that can be done in a server. Letting it go puts the bytes back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from hotmend.linux import procfs, sys
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stop import StopFailure, Stopper
from hotmend.model.errors import KernelError, ProcessGoneError

_LOOP = b"\xeb\xfe"
"""`jmp .`: whoever gets here stays here."""

_AT_ENTRY = 9
_PAIR = struct.Struct("<QQ")
_AUXV_BYTES_MAX = 1 << 14
_STOP_SECONDS = 0.5
_POLL_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Held:
    """A process that stands at its entry point.

    Attributes:
        pid: process.
        entry: load address of the entry point.
        original: the two bytes that belong there.
    """

    pid: int
    entry: int
    original: bytes

    def release(self) -> None:
        """Put the bytes back and let the program begin."""
        stopper = Stopper(self.pid)
        with ProcessMemory(self.pid, writable=True) as memory:
            for last in (False, False, True):
                try:
                    stopped = stopper.stop(_STOP_SECONDS)
                except StopFailure:
                    if last:
                        raise
                    continue
                try:
                    memory.write_checked(self.entry, self.original)
                finally:
                    stopper.release(stopped)
                return


def hold(pid: int, begin: Callable[[], None], seconds: float) -> Held:
    """Have process `pid`, which waits to call execve, begin, and hold the new program at its entry point.

    Args:
        pid: has not called execve yet.
        begin: makes it do so.
        seconds: how long the dynamic linker may take.

    Raises:
        ProcessGoneError: it ended before its entry point.
        KernelError: it did not get there in time.
    """
    deadline = time.monotonic() + seconds
    sys.seize(pid, sys.OPTION_EXEC | sys.OPTION_KILL)
    try:
        begin()
        _await_exec(pid, deadline)
        entry = _read_entry(pid)
        with ProcessMemory(pid, writable=True) as memory:
            original = memory.read(entry, len(_LOOP))
            memory.write_checked(entry, _LOOP)
        sys.detach(pid, 0)
    except BaseException:
        _end(pid)
        raise
    while not _arrived(pid, entry):
        if time.monotonic() > deadline:
            raise KernelError(f"process {pid} did not reach its entry point within {seconds:g} s")
        time.sleep(_POLL_SECONDS)
    return Held(pid, entry, original)


def _end(pid: int) -> None:
    """End a traced process and collect it: its parent would wait for that."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, sys.WALL)


def _await_exec(pid: int, deadline: float) -> None:
    """Wait until the traced process has become the new program; other stops are let pass."""
    while True:
        found, status = os.waitpid(pid, os.WNOHANG | sys.WALL)
        if found == 0:
            if time.monotonic() > deadline:
                raise KernelError(f"process {pid} did not become a program")
            time.sleep(_POLL_SECONDS)
            continue
        if not os.WIFSTOPPED(status):
            raise ProcessGoneError(f"process {pid} ended before it became a program")
        if status >> 16 == sys.EVENT_EXEC:
            return
        sys.resume(pid, 0 if status >> 16 else os.WSTOPSIG(status))


def _read_entry(pid: int) -> int:
    """Return the load address of the program's entry point, as the kernel told the dynamic linker."""
    auxv = procfs.read_bytes(pid, "auxv", _AUXV_BYTES_MAX)
    for kind, value in _PAIR.iter_unpack(auxv[: len(auxv) // _PAIR.size * _PAIR.size]):
        if kind == _AT_ENTRY:
            return int(value)
    raise KernelError(f"process {pid} has no entry point")


def _arrived(pid: int, entry: int) -> bool:
    """Tell whether the main thread is in the loop at the entry point."""
    if procfs.read_stat(pid).state in "ZX":
        raise ProcessGoneError(f"process {pid} ended before its entry point")
    stopper = Stopper(pid)
    try:
        stopped = stopper.stop(_STOP_SECONDS, only=pid)
    except StopFailure:
        return False
    try:
        return stopped.threads[pid].registers.rip == entry
    finally:
        stopper.release(stopped)
