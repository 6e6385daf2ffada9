"""Threads in the middle of a transfer that a stop would cut short.

A blocking `write` or `send` that has moved some bytes, and a `recv` with MSG_WAITALL, return the number of these bytes
when they are interrupted. Nobody can make up for that afterwards; what can be done is to stop at another moment.
"""

from __future__ import annotations

import contextlib

from hotmend.linux import procfs
from hotmend.model.errors import HotmendError

_WRITES = frozenset({1, 20, 40, 44, 46, 275, 278, 307, 326})
"""write, writev, sendfile, sendto, sendmsg, splice, vmsplice, sendmmsg, copy_file_range"""

_RECEIVES = {45: 3, 47: 2}
"""recvfrom, recvmsg, and which of their arguments has the flags."""

_MSG_WAITALL = 0x100
_LINE_BYTES_MAX = 512


def in_transfer(pid: int) -> bool:
    """Tell whether some thread of a process waits in such a call now; where that is not known, it is no."""
    with contextlib.suppress(HotmendError):
        for tid in procfs.list_threads(pid):
            with contextlib.suppress(HotmendError, OSError, ValueError):
                if _is_transfer(procfs.read_text(pid, f"task/{tid}/syscall", _LINE_BYTES_MAX)):
                    return True
    return False


def _is_transfer(line: str) -> bool:
    """Tell it from /proc/PID/task/TID/syscall: the call's number and its arguments, of a thread that waits."""
    words = line.split()
    if len(words) < 7:  # "running", or in no call
        return False
    number = int(words[0])
    flags = int(words[1 + _RECEIVES[number]], 16) if number in _RECEIVES else 0
    return number in _WRITES or bool(flags & _MSG_WAITALL)
