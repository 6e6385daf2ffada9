"""Making a shadow in a process: map it by remote calls, fill it, check it. Nothing reaches it yet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.procfs import Mapping
from hotmend.linux.remote import CALLS_MAX, SYS_MMAP, SYS_MPROTECT, Call, RemoteCaller
from hotmend.live.gate import PLACED_OFFSET, HeaderRecord, RegionRecord, write_header
from hotmend.live.needs import Refusal
from hotmend.live.plan import Placement
from hotmend.model.addresses import PAGE_BYTES
from hotmend.model.verdict import refusal

_PROTECTIONS = {"r--": 1, "rw-": 3, "r-x": 5}
_MAP_PRIVATE_ANONYMOUS_FIXED_NOREPLACE = 0x02 | 0x20 | 0x100000
_NO_FILE = -1
_OTHER_PAGES = 64
"""Page tables, a thread's stack below a call, and that the kernel charges a group of processes in advance."""


class PlaceTakenError(Refusal):
    """The process did not get the memory of a shadow.

    It may have mapped something there itself, even for a moment only: the C library maps twice what a thread's heap
    needs, and gives back what is not aligned.
    """


def _is_mapped(maps: tuple[Mapping, ...], start: int, end: int, permissions: str) -> bool:
    """Tell whether all of `[start, end)` is anonymous private memory with these permissions."""
    position = start
    for mapping in maps:
        if mapping.start <= position < mapping.end:
            if mapping.permissions[:3] != permissions or not mapping.anonymous:
                return False
            position = mapping.end
            if position >= end:
                return True
    return False


def placing_calls(placement: Placement) -> tuple[Call, ...]:
    """Return the system calls that make the pages of a shadow, in order: all of it, then what is not code."""
    return (map_call(placement.record), *map(_protect_call, _protected(placement.record)))


def map_call(record: HeaderRecord) -> Call:
    """Return the call that maps the whole shadow readable and executable, where nothing is mapped."""
    size, flags = record.end - record.start, _MAP_PRIVATE_ANONYMOUS_FIXED_NOREPLACE
    return Call(SYS_MMAP, (record.start, size, _PROTECTIONS["r-x"], flags, _NO_FILE))


def _protect_call(region: RegionRecord) -> Call:
    """Return the call that gives one run of pages its permissions."""
    return Call(SYS_MPROTECT, (region.start, region.end - region.start, _PROTECTIONS[region.permissions]))


def _protected(record: HeaderRecord) -> tuple[RegionRecord, ...]:
    """Return the runs of pages that are not code."""
    return tuple(region for region in record.regions if region.permissions != "r-x")


def _are_mapped(pid: int, runs: Sequence[tuple[int, int, str]]) -> bool:
    """Tell the same of several runs of pages at one moment."""
    maps = procfs.read_maps(pid)
    return all(_is_mapped(maps, start, end, permissions) for start, end, permissions in runs)


def _is_in_use(memory: ProcessMemory, record: HeaderRecord) -> bool:
    """Tell whether anything stands in the pages: then it was not the call that mapped them, but somebody else."""
    pages = range(record.start, record.end, PAGE_BYTES)
    there = procfs.private_pages(memory.pid, pages)
    return any(used and any(memory.read(page, PAGE_BYTES)) for page, used in zip(pages, there, strict=True))


def place(caller: RemoteCaller, placement: Placement, deadline: float) -> None:
    """Make one shadow: pages, contents, header, and last the placed byte.

    The pages that are not code get their permissions by one way of calls through the process, once it is seen that all
    of them are the shadow's: at any other address they would be taken from somebody else.

    Raises:
        PlaceTakenError: the process did not get the memory.
        Refusal: it did not get the permissions.
        MemoryWriteError: what was written is not there.
    """
    memory, record = caller.memory, placement.record
    whole = [(record.start, record.end, "r-x")]
    reason = caller.call([map_call(record)], partial(_are_mapped, memory.pid, whole), deadline)
    if reason is None and _is_in_use(memory, record):
        text = f"process {memory.pid} has mapped code of its own where the new code was to be"
        reason = refusal("remote-call-failed", text, f"{record.start:#x}-{record.end:#x}")
    if reason is not None:
        raise PlaceTakenError(reason)
    _write_contents(caller, placement)
    write_header(memory, record)
    protected = _protected(record)
    for first in range(0, len(protected), CALLS_MAX):
        regions = protected[first : first + CALLS_MAX]
        wanted = [(region.start, region.end, region.permissions) for region in regions]
        calls = [_protect_call(region) for region in regions]
        reason = caller.call(calls, partial(_are_mapped, memory.pid, wanted), deadline)
        if reason is not None:
            raise Refusal(reason)
    memory.write_checked(placement.record.header + PLACED_OFFSET, b"\1")


def written_bytes(placements: Sequence[Placement]) -> int:
    """Return how much memory of its own a process has more, at most, once the shadows stand and entries lead there.

    A page of zeros stays as it is; each entry has its page copied.
    """
    pages = set()
    for placement in placements:
        record = placement.record
        for address, content in placement.contents:
            for position in range(-(address % PAGE_BYTES), len(content), PAGE_BYTES):
                if any(content[max(position, 0) : position + PAGE_BYTES]):
                    pages.add((address + position) // PAGE_BYTES)
        for region in record.regions:
            if region.start <= record.header < region.end:
                pages.update(range(record.header // PAGE_BYTES, region.end // PAGE_BYTES))
        pages.update(entry.address // PAGE_BYTES for entry in record.entries)
    return (len(pages) + _OTHER_PAGES) * PAGE_BYTES


def _write_contents(caller: RemoteCaller, placement: Placement) -> None:
    """Write the segments, page by page, leaving out pages of zeros (they are zero already); late threads go on."""
    for address, content in placement.contents:
        position = 0
        while position < len(content):
            size = min(PAGE_BYTES - (address + position) % PAGE_BYTES, len(content) - position)
            part = content[position : position + size]
            if any(part):
                caller.stopper.release_late()
                caller.memory.write_checked(address + position, part)
            position += size
