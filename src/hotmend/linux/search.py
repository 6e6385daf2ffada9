"""Where a few bytes of code stand in the executable memory of a process.

Every process that maps the C library has the same pages of it. Where none of a mapping's pages is the process's own,
it holds what the file holds, and is searched once for all of them.
"""

from __future__ import annotations

import os

import numpy as np

from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import OF_FILE, PRESENT, SWAPPED, Mapping
from hotmend.model.addresses import PAGE_BYTES

_CACHE_MAX = 4096
_Key = tuple[int, int, int, int, int, int, bytes]

_cache: dict[_Key, tuple[int, ...]] = {}


def places_of(pattern: bytes, memory: ProcessMemory, mapping: Mapping) -> tuple[int, ...]:
    """Return the load addresses at which `pattern` begins in a mapping, overlaps too; () if it is unreadable."""
    key = _key(pattern, memory.pid, mapping)
    if key is not None and key in _cache:
        return tuple(mapping.start + offset for offset in _cache[key])
    code = memory.try_read(mapping.start, mapping.end - mapping.start)
    if code is None:
        return ()
    offsets = []
    position = code.find(pattern)
    while position >= 0:
        offsets.append(position)
        position = code.find(pattern, position + 1)
    if key is not None and key == _key(pattern, memory.pid, mapping):
        if len(_cache) >= _CACHE_MAX:
            _cache.clear()
        _cache[key] = tuple(offsets)
    return tuple(mapping.start + offset for offset in offsets)


def _key(pattern: bytes, pid: int, mapping: Mapping) -> _Key | None:
    """Return what file a mapping shows, and which part of it; None where it may hold anything else."""
    if not mapping.inode or not _is_as_in_file(pid, mapping):
        return None
    try:
        file = os.stat(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}")
    except OSError:
        return None
    size = mapping.end - mapping.start
    return file.st_dev, file.st_ino, file.st_mtime_ns, file.st_ctime_ns, mapping.offset, size, pattern


def _is_as_in_file(pid: int, mapping: Mapping) -> bool:
    """Tell whether none of a file mapping's pages is the process's own."""
    pages = (mapping.end - mapping.start) // PAGE_BYTES
    try:
        descriptor = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = os.pread(descriptor, 8 * pages, mapping.start // PAGE_BYTES * 8)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    words = np.frombuffer(raw, dtype=np.uint64)
    present, swapped, of_file = ((words & np.uint64(bit)) != 0 for bit in (PRESENT, SWAPPED, OF_FILE))
    return len(words) == pages and not (swapped | (present & ~of_file)).any()
