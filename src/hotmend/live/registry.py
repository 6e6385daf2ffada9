"""What is applied in a process, read from its memory alone."""

from __future__ import annotations

import re
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import process_images
from hotmend.live.gate import LOST, STAGED_OFFSET, EntryRecord, HeaderRecord, Shadow, find_shadows
from hotmend.live.machine import Observation, State, state_of
from hotmend.model.addresses import JUMP_BYTES, PAGE_BYTES
from hotmend.model.errors import HotmendError

_ANONYMOUS_LINE = re.compile(rb"^[0-9a-f]+-[0-9a-f]+ r-.. [0-9a-f]+ \S+ 0 *$", re.MULTILINE)
"""What a shadow has in /proc/PID/maps, and few other processes."""

_READINGS_MAX, _READING_PAUSE_SECONDS = 50, 0.002


@dataclass(frozen=True, slots=True)
class AppliedFunction:
    """A redirected function; load addresses. `live` tells whether calls reach the new code."""

    name: str
    old: int
    new: int
    live: bool


@dataclass(frozen=True, slots=True)
class AppliedHotpatch:
    """One image's hotpatch in one process.

    Attributes:
        pid, comm: process.
        id: `hotpatch_id`.
        update: ids of all hotpatches that share its gate.
        name, path, old_build_id, new_build_id, versions, cves, package: as in the hotpatch.
        state: `placed` (taken back, or never switched), `staged` (half-done, old code runs), `switched`,
            `settled`, `replaced`, `damaged`, or `empty` (its image is no longer loaded, or the shadow is incomplete).
        functions: what is redirected.
        applied_at: seconds since 1970, UTC.
        header: load address of the header.
        bytes_mapped: address space of the shadow.
        replaced_by: `hotpatch_id` of the one whose code runs instead, where the state is `replaced`.
        part: it leaves functions that changed for the baseline.
        bias: load address minus link address of the old image.
    """

    pid: int
    comm: str
    id: str
    update: tuple[str, ...]
    name: str
    path: str
    old_build_id: str
    new_build_id: str
    state: State
    functions: tuple[AppliedFunction, ...]
    versions: tuple[str, str]
    cves: tuple[str, ...]
    package: str
    applied_at: float
    header: int
    bytes_mapped: int
    replaced_by: str = ""
    part: bool = False
    bias: int = 0

    @property
    def active(self) -> bool:
        """Whether the new code runs."""
        return self.state.active


def observe_entry(entry: EntryRecord, content: bytes) -> str:
    """Return which of the bytes it may hold an entry holds: `old`, `stub`, `new` or `other`."""
    if content == entry.old_bytes:
        return "old"
    if content == entry.jump_to_stub:
        return "stub"
    return "new" if content == entry.jump_to_new else "other"


def read_entries(memory: ProcessMemory, entries: Sequence[EntryRecord]) -> list[bytes]:
    """Return the bytes of every entry, in one system call per thousand."""
    content = bytes(memory.read_many([(entry.address, JUMP_BYTES) for entry in entries]))
    return [content[i : i + JUMP_BYTES] for i in range(0, len(content), JUMP_BYTES)]


def observe(
    memory: ProcessMemory, records: Sequence[HeaderRecord], *, placed: bool, shadows: Sequence[Shadow] = ()
) -> Observation:
    """Return what memory shows of an update.

    Args:
        memory: of the process.
        records: headers that share one gate.
        placed: whether all shadows are complete.
        shadows: all of the process. An entry that leads into one of them, of another update, is not damaged: for an
            update that was taken back, or never got further than being placed, it is as good as old; for one that
            the other takes over from, as good as new.
    """
    if not placed:
        return Observation(placed=False, gate=False, old=0, stub=0, new=0, other=0)
    entries = [entry for record in records for entry in record.entries]
    own = records[0].gate
    later = gates_above(own, shadows)
    gates, contents = _read_gates_and_entries(memory, [own, *later], entries)
    counts = {"old": 0, "stub": 0, "new": 0, "other": 0}
    others = _jumps_of_others(own, shadows)
    for entry, content in zip(entries, contents, strict=True):
        kind = observe_entry(entry, content)
        if kind == "other":
            leads_to = others.get((entry.address, content), set())
            if gates[0] == b"\1" and leads_to & later:
                kind = "new"
            elif leads_to or content == entry.build_bytes:
                kind = "old"
        counts[kind] += 1
    known = gates[0] in (b"\0", b"\1")
    return Observation(
        placed=True,
        gate=gates[0] == b"\1",
        old=counts["old"],
        stub=counts["stub"],
        new=counts["new"],
        other=counts["other"] + (not known),
        replaced=b"\1" in gates[1:],
    )


def gates_above(gate: int, shadows: Sequence[Shadow]) -> set[int]:
    """Return the gates of all updates that take over from that of `gate`, directly or over others between them."""
    found: set[int] = set()
    while more := {s.record.gate for s in shadows if s.placed and s.record.over in {gate, *found}} - found:
        found |= more
    return found


def _jumps_of_others(gate: int, shadows: Sequence[Shadow]) -> dict[tuple[int, bytes], set[int]]:
    """Return what entries hold when an update with another gate has them: (address, bytes) -> gates."""
    found: dict[tuple[int, bytes], set[int]] = {}
    for shadow in shadows:
        if shadow.placed and shadow.record.gate != gate:
            for entry in shadow.record.entries:
                for content in (entry.jump_to_stub, entry.jump_to_new):
                    found.setdefault((entry.address, content), set()).add(shadow.record.gate)
    return found


def _read_gates_and_entries(
    memory: ProcessMemory, gates: Sequence[int], entries: Sequence[EntryRecord]
) -> tuple[list[bytes], list[bytes]]:
    """Return gate bytes and entries as they were at one moment.

    Somebody may be changing them: between two reads of ours any number of steps fit, and a gate from before with
    entries from after looks like damage that is not there. Two readings that are equal are taken for one moment's.
    """

    def read() -> tuple[list[bytes], list[bytes]]:
        return [memory.read(gate, 1) for gate in gates], read_entries(memory, entries)

    seen = read()
    for _ in range(_READINGS_MAX):
        again = read()
        if again == seen:
            break
        seen = again
        time.sleep(_READING_PAUSE_SECONDS)
    return seen


def is_of_this_load(memory: ProcessMemory, shadow: Shadow) -> bool:
    """Tell whether the image that a shadow was made for is still the one that is mapped at its place.

    A library that was closed and opened again has its file's pages, and data that begin anew, while the variables of
    the shadow have gone on: such a shadow is never used again.
    """
    if not shadow.staged or not shadow.record.entries:
        return not shadow.lost
    return all(procfs.private_pages(memory.pid, {entry.address & -PAGE_BYTES for entry in shadow.record.entries}))


def has_lost(memory: ProcessMemory) -> bool:
    """Tell whether a shadow's image was unmapped since, and nobody has noted that: it may be mapped anew."""
    shadows = find_shadows(memory, procfs.read_maps(memory.pid))
    return any(shadow.staged and not is_of_this_load(memory, shadow) for shadow in shadows)


def mark_lost(memory: ProcessMemory) -> None:
    """Note in the headers of shadows that their image was unmapped, before entries in its place are written again."""
    for shadow in find_shadows(memory, procfs.read_maps(memory.pid)):
        if shadow.staged and not is_of_this_load(memory, shadow):
            memory.write_checked(shadow.record.header + STAGED_OFFSET, bytes([LOST]))


def _describe(
    memory: ProcessMemory, shadow: Shadow, shadows: Sequence[Shadow], comm: str, *, loaded: bool
) -> AppliedHotpatch:
    """Return the status of one shadow."""
    record = shadow.record
    seen = observe(memory, (record,), placed=shadow.placed and loaded, shadows=shadows)
    contents = read_entries(memory, record.entries) if shadow.placed and loaded else []
    reached = {"old": False, "stub": seen.gate, "new": True, "other": False}
    live = [reached[observe_entry(e, c)] for e, c in zip(record.entries, contents, strict=False)]
    live += [False] * (len(record.entries) - len(live))
    state = state_of(seen)
    return AppliedHotpatch(
        pid=memory.pid,
        comm=comm,
        id=record.hotpatch_id,
        update=record.update,
        name=record.name,
        path=record.path,
        old_build_id=record.old_build_id,
        new_build_id=record.new_build_id,
        state=state,
        functions=tuple(
            AppliedFunction(e.name, e.address, e.new, alive)
            for e, alive in zip(record.entries, live, strict=True)
            if not e.restores
        ),
        versions=record.versions,
        cves=record.cves,
        package=record.package,
        applied_at=record.applied_at,
        header=record.header,
        bytes_mapped=record.end - record.start,
        replaced_by=replacing(memory, record, shadows) if state is State.REPLACED else "",
        part=record.part,
        bias=record.old_bias,
    )


def replacing(memory: ProcessMemory, record: HeaderRecord, shadows: Sequence[Shadow]) -> str:
    """Return the `hotpatch_id` of the active hotpatch that has taken over from `record`; "" where none has."""
    later = gates_above(record.gate, shadows)
    active = [
        s.record
        for s in shadows
        if s.placed and s.record.old_bias == record.old_bias and s.record.gate in later and _is_open(memory, s.record)
    ]
    covered = {r.over for r in active}
    return next((r.hotpatch_id for r in active if r.gate not in covered), "")


def _is_open(memory: ProcessMemory, record: HeaderRecord) -> bool:
    return memory.read(record.gate, 1) == b"\1"


def process_status(pid: int) -> list[AppliedHotpatch]:
    """Return every hotpatch whose shadow is in the process, active or not; see `AppliedHotpatch.state`.

    Raises:
        ProcessGoneError, PermissionRefusedError: as they say.
    """
    with ProcessMemory(pid) as memory:
        shadows = find_shadows(memory, procfs.read_maps(pid))
        if not shadows:
            return []
        process = process_images(pid, memory, disk=False)
        return describe_shadows(memory, shadows, process.comm, {(i.build_id, i.bias) for i in process.images})


def describe_shadows(
    memory: ProcessMemory, shadows: Sequence[Shadow], comm: str, here: Container[tuple[str, int]]
) -> list[AppliedHotpatch]:
    """Return the status of all shadows of a process.

    Args:
        memory: of the process.
        shadows: all that it has.
        comm: its name.
        here: build-id and bias of each image that it maps.
    """
    loaded = [(s.record.old_build_id, s.record.old_bias) in here and is_of_this_load(memory, s) for s in shadows]
    return [_describe(memory, s, shadows, comm, loaded=is_loaded) for s, is_loaded in zip(shadows, loaded, strict=True)]


def patched_processes() -> list[int]:
    """Return the pids of all processes that have a shadow; those that cannot be looked at are left out."""
    found = []
    for pid in procfs.list_processes():
        try:
            if not _ANONYMOUS_LINE.search(procfs.read_bytes(pid, "maps", procfs.MAPS_BYTES_MAX)):
                continue
            with ProcessMemory(pid) as memory:
                if find_shadows(memory, procfs.read_maps(pid)):
                    found.append(pid)
        except HotmendError:
            continue
    return found
