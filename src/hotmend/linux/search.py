"""Where a few bytes of code stand in the executable memory of a process.

Every process that maps the C library has the same pages of it. Pages that are not the process's own show what the file
holds: they are searched once for all processes, and of the next one only its own pages are read, such as a hotpatch
makes. Of memory without a file only what was written is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import OF_FILE, PRESENT, SWAPPED, Mapping
from hotmend.linux.sys import find_bytes
from hotmend.model.addresses import PAGE_BYTES

_CACHE_MAX = 4096
_READ_BYTES = 1 << 18
_File = tuple[str | int, ...]
_Pages = npt.NDArray[np.bool_]

_cache: dict[tuple[_File, bytes, bytes], tuple[int, ...]] = {}
"""(file and what is shown of it, pattern, own pages) -> offsets at which it begins outside these pages."""


def places_of(pattern: bytes, memory: ProcessMemory, mapping: Mapping) -> tuple[int, ...]:
    """Return the load addresses at which `pattern` begins in a mapping, overlaps too; what is unreadable holds none."""
    if not mapping.path and not mapping.inode:
        return _places_anonymous(pattern, memory, mapping)
    file = _file_of(memory.pid, mapping) if mapping.inode else None
    own = None if file is None else _own_pages(memory.pid, mapping)
    known = None if file is None or own is None else _known(file, pattern, own)
    if own is not None and known is not None:
        offsets = {offset for offset in known if not _touches(own, offset, len(pattern))}
        offsets.update(_offsets_at(pattern, memory, mapping, own))
        return tuple(mapping.start + offset for offset in sorted(offsets))
    size = mapping.end - mapping.start
    found = tuple(_offsets_between(pattern, memory, mapping.start, 0, size))
    if file is not None and own is not None and file == _file_of(memory.pid, mapping):
        again = _own_pages(memory.pid, mapping)
        if again is not None and (again == own).all():
            if len(_cache) >= _CACHE_MAX:
                _cache.clear()
            outside = tuple(offset for offset in found if not _touches(own, offset, len(pattern)))
            _cache[file, pattern, own.tobytes()] = outside
    return tuple(mapping.start + offset for offset in found)


def _places_anonymous(pattern: bytes, memory: ProcessMemory, mapping: Mapping) -> tuple[int, ...]:
    """Return what `places_of` does: where nothing was ever written, as in most of a shadow, there are zeros."""
    own = _own_pages(memory.pid, mapping)
    if own is None or not any(pattern):
        offsets = _offsets_between(pattern, memory, mapping.start, 0, mapping.end - mapping.start)
    else:
        offsets = _offsets_at(pattern, memory, mapping, own)
    return tuple(mapping.start + offset for offset in sorted(set(offsets)))


def _known(file: _File, pattern: bytes, own: _Pages) -> tuple[int, ...] | None:
    """Return what another process has shown that had no own pages there, or the same ones."""
    for pages in (np.zeros_like(own), own):
        if (found := _cache.get((file, pattern, pages.tobytes()))) is not None:
            return found
    return None


def _offsets_at(pattern: bytes, memory: ProcessMemory, mapping: Mapping, own: _Pages) -> Iterator[int]:
    """Yield the offsets at which a pattern begins that may touch an own page."""
    for first, end in _runs(own):
        low = max(first * PAGE_BYTES - len(pattern) + 1, 0)  # what begins before an own page may end in it
        high = min(end * PAGE_BYTES + len(pattern) - 1, mapping.end - mapping.start)
        yield from _offsets_between(pattern, memory, mapping.start, low, high)


def _offsets_between(pattern: bytes, memory: ProcessMemory, start: int, low: int, high: int) -> Iterator[int]:
    """Yield the offsets at which a pattern begins in `[start + low, start + high)`; what is unreadable holds none."""
    for at in range(low, high, _READ_BYTES):  # what is read at once stays in the processor's cache while it is searched
        end = min(at + _READ_BYTES + len(pattern) - 1, high)
        yield from (at + offset for offset in find_bytes(pattern, memory.try_read(start + at, end - at) or b""))


def _touches(own: _Pages, offset: int, size: int) -> bool:
    """Tell whether any byte of `[offset, offset + size)` is on an own page."""
    return bool(own[offset // PAGE_BYTES : (offset + size - 1) // PAGE_BYTES + 1].any())


def _runs(own: _Pages) -> Iterator[tuple[int, int]]:
    """Yield `[first, end)`, numbers of own pages that follow each other."""
    if own.any():
        edges = np.flatnonzero(np.diff(own.astype(np.int8), prepend=0, append=0)).tolist()
        yield from zip(edges[::2], edges[1::2], strict=True)


def _file_of(pid: int, mapping: Mapping) -> _File | None:
    """Return what file a mapping shows, as it is now, and which part of it; None where that cannot be told.

    On an overlay the path is that of the copy on top; the mapping's own numbers are those of the file that it shows.
    """
    try:
        file = os.stat(f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}")
    except OSError:
        return None
    size = mapping.end - mapping.start
    shown = mapping.device, mapping.inode, mapping.offset, size
    return *shown, file.st_dev, file.st_ino, file.st_mtime_ns, file.st_ctime_ns


def _own_pages(pid: int, mapping: Mapping) -> _Pages | None:
    """Return for each page of a file mapping whether it is the process's own; None where that cannot be told."""
    pages = (mapping.end - mapping.start) // PAGE_BYTES
    try:
        descriptor = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            raw = os.pread(descriptor, 8 * pages, mapping.start // PAGE_BYTES * 8)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    words = np.frombuffer(raw, dtype=np.uint64)
    if len(words) != pages:
        return None
    present, swapped, of_file = ((words & np.uint64(bit)) != 0 for bit in (PRESENT, SWAPPED, OF_FILE))
    own: _Pages = swapped | (present & ~of_file)
    return own
