"""Whether new memory of a process would be locked, and more than it may lock (`mlockall(MCL_FUTURE)`).

The kernel does not show that future memory will be locked, only that some is. So a process that has locked memory, and
may not lock as much again as its new code takes, is not asked to map it: the call would fail inside of it.
"""

from __future__ import annotations

import os

from hotmend.linux import procfs

_CAP_IPC_LOCK = 1 << 14
_STATUS_BYTES_MAX = 1 << 16


def locked_memory_objection(pid: int, wanted: int) -> str:
    """Return why the process could not lock `wanted` bytes more; "" where it has locked nothing, or may."""
    locked = procfs.memory_size(pid, "VmLck")
    limit = procfs.soft_limit(pid, "Max locked memory")
    if not wanted or not locked or limit is None or locked + wanted <= limit or _may_lock_all(pid):
        return ""
    return (
        f"process {pid} may lock {limit} bytes (RLIMIT_MEMLOCK) and has locked {locked}; the new code takes {wanted} "
        f"more, which may be locked too (mlockall); raise the limit: prlimit --pid {pid} --memlock={locked + wanted}"
    )


def _may_lock_all(pid: int) -> bool:
    """Tell whether CAP_IPC_LOCK holds for it: that of the first user namespace, which ours stands for."""
    if os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"):
        return False
    text = procfs.read_text(pid, "status", _STATUS_BYTES_MAX)
    rows = (row.removeprefix("CapEff:") for row in procfs.rows(text) if row.startswith("CapEff:"))
    return bool(int(next(rows, "0"), 16) & _CAP_IPC_LOCK)
