"""Timed waits that a stop makes begin anew: whoever stops a thread in one again and again keeps it from ever ending.

Most timed waits go on for what is left of their time (`poll`, `nanosleep`, `futex`, `select`). A few calls return
-EINTR where they were interrupted, keep no account of the time that has passed, and are made again with all of it
(`window.restarted`). How long that is stands in a register, or behind one; for a socket with SO_RCVTIMEO or
SO_SNDTIMEO it stands in the kernel alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hotmend.linux.memory import Readable
from hotmend.linux.sys import Registers
from hotmend.linux.window import ERESTARTNOHAND, Table

UNKNOWN_SECONDS = 1.0
"""Taken for a socket's own limit, and for a time that could not be read."""

_MASK64 = (1 << 64) - 1
_MILLISECONDS = {232: "r10", 281: "r10"}  # epoll_wait, epoll_pwait
_TIMESPECS = {441: "r10", 128: "rdx", 208: "r8", 333: "r8", 220: "r10"}
"""epoll_pwait2, rt_sigtimedwait, io_getevents, io_pgetevents, semtimedop: a pointer, 0 for no limit."""

_IO_URING_ENTER, _EXT_ARG, _EXT_ARG_TIME_OFFSET = 426, 1 << 3, 16
_SOCKET_CALLS = frozenset({0, 1, 19, 20, 42, 43, 44, 45, 46, 47, 288, 299, 307})
"""read, write, connect, accept, send*, recv* and their variants: -EINTR there means that the socket has a limit."""

_INFINITE = 1 << 31


def restarted_waits(tables: Iterable[Table], memory: Readable) -> list[float]:
    """Return the whole times, in seconds, of the waits that the last stop of these threads made begin anew."""
    found = []
    for table in tables:
        for index in table.restarted():
            seconds = wait_seconds(table.registers(index), memory)
            if seconds is not None:
                found.append(seconds)
    return found


def wait_seconds(registers: Registers, memory: Readable) -> float | None:
    """Return for how long at most a call waits that was made to begin anew; None where it is not such a wait."""
    number = registers.orig_rax
    if registers.rax != ERESTARTNOHAND & _MASK64:
        return None
    if (name := _MILLISECONDS.get(number)) is not None:
        milliseconds: int = getattr(registers, name) & 0xFFFFFFFF
        return None if milliseconds >= _INFINITE else milliseconds / 1000
    if (name := _TIMESPECS.get(number)) is not None:
        return _timespec(memory, getattr(registers, name))
    if number == _IO_URING_ENTER:
        if not registers.r10 & _EXT_ARG:
            return None
        raw = memory.try_read(registers.r8 + _EXT_ARG_TIME_OFFSET, 8)
        return UNKNOWN_SECONDS if raw is None else _timespec(memory, int.from_bytes(raw, "little"))
    return UNKNOWN_SECONDS if number in _SOCKET_CALLS else None


def _timespec(memory: Readable, address: int) -> float | None:
    """Return the time at `address` in seconds; None for no limit."""
    if address == 0:
        return None
    raw = memory.try_read(address, 16)
    if raw is None:
        return UNKNOWN_SECONDS
    seconds, nanoseconds = struct.unpack("<qq", raw)
    return float(max(0.0, seconds + nanoseconds / 1e9))
