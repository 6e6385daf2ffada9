"""Making a shadow in a process: map it by remote calls, fill it, check it. Nothing reaches it yet."""

from __future__ import annotations

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.remote import SYS_MMAP, SYS_MPROTECT, Call, RemoteCaller
from hotmend.live.gate import PLACED_OFFSET, RegionRecord, write_header
from hotmend.live.needs import Refusal
from hotmend.live.plan import Placement
from hotmend.model.addresses import PAGE_BYTES

_PROTECTIONS = {"r--": 1, "rw-": 3, "r-x": 5}
_MAP_PRIVATE_ANONYMOUS_FIXED_NOREPLACE = 0x02 | 0x20 | 0x100000
_NO_FILE = -1


def _is_mapped(pid: int, start: int, end: int, permissions: str) -> bool:
    """Tell whether all of `[start, end)` is anonymous private memory with these permissions."""
    position = start
    for mapping in procfs.read_maps(pid):
        if mapping.start <= position < mapping.end:
            if mapping.permissions[:3] != permissions or not mapping.anonymous:
                return False
            position = mapping.end
            if position >= end:
                return True
    return False


def _map_span(caller: RemoteCaller, placement: Placement, deadline: float) -> None:
    """Map the whole shadow readable and executable, where nothing is mapped."""
    record, pid = placement.record, caller.memory.pid
    call = Call(
        SYS_MMAP,
        (
            record.start,
            record.end - record.start,
            _PROTECTIONS["r-x"],
            _MAP_PRIVATE_ANONYMOUS_FIXED_NOREPLACE,
            _NO_FILE,
        ),
    )
    reason = caller.call(call, lambda: _is_mapped(pid, record.start, record.end, "r-x"), deadline)
    if reason is not None:
        raise Refusal(reason)


def _protect(caller: RemoteCaller, region: RegionRecord, deadline: float) -> None:
    """Give one run of pages its permissions."""
    pid = caller.memory.pid
    call = Call(SYS_MPROTECT, (region.start, region.end - region.start, _PROTECTIONS[region.permissions]))
    reason = caller.call(call, lambda: _is_mapped(pid, region.start, region.end, region.permissions), deadline)
    if reason is not None:
        raise Refusal(reason)


def place(caller: RemoteCaller, placement: Placement, deadline: float) -> None:
    """Make one shadow: pages, contents, header, and last the placed byte.

    Raises:
        Refusal: the process did not get the memory.
        MemoryWriteError: what was written is not there.
    """
    memory = caller.memory
    _map_span(caller, placement, deadline)
    _write_contents(memory, placement)
    write_header(memory, placement.record)
    for region in placement.record.regions:
        if region.permissions != "r-x":
            _protect(caller, region, deadline)
    memory.write_checked(placement.record.header + PLACED_OFFSET, b"\1")


def _write_contents(memory: ProcessMemory, placement: Placement) -> None:
    """Write the segments, page by page, leaving out pages of zeros (they are zero already)."""
    for address, content in placement.contents:
        position = 0
        while position < len(content):
            size = min(PAGE_BYTES - (address + position) % PAGE_BYTES, len(content) - position)
            part = content[position : position + size]
            if any(part):
                memory.write_checked(address + position, part)
            position += size
