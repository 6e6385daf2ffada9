"""What is to be done in one process, decided and checked completely before anything is written."""

from __future__ import annotations

import time
from collections.abc import Mapping as Mapping_
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import MappedImage
from hotmend.linux.procfs import Mapping
from hotmend.live.code import check_code
from hotmend.live.core_header import core_header
from hotmend.live.crossing import (
    FAR_TEST_BYTES,
    NEAR_TEST_BYTES,
    code_after,
    code_before,
    crossing_bytes,
    crossing_code,
    crossing_entries,
    reaches,
)
from hotmend.live.gate import (
    GATE_OFFSET,
    EntryRecord,
    FramesRecord,
    FunctionRecord,
    HeaderRecord,
    RegionRecord,
    Shadow,
    find_shadows,
    header_bytes,
    hotpatch_id,
)
from hotmend.live.layout import (
    Imports,
    Place,
    RelocationError,
    bias_range,
    choose_start,
    near_stubs_reach,
    regions_of,
    relocate,
    span_of,
)
from hotmend.live.needs import Needs, Refusal, Target, resolve_imports
from hotmend.live.ranges import Room, ranges_room
from hotmend.live.registry import is_of_this_load
from hotmend.live.takeover import Takeover, port_records, take_over, variable_records
from hotmend.model.addresses import JUMP_BYTES, PAGE_BYTES
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import refusal

_WORST_ADDRESS = 0x7FFF_FFFF_0000
NO_ROOM = Room()


@dataclass(frozen=True, slots=True)
class Placement:
    """One shadow to make: its header, and the bytes of its segments by load address."""

    record: HeaderRecord
    contents: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do in one process.

    Attributes:
        records: headers of the update, the first has the gate.
        placements: shadows still to make; () where all exist.
    """

    records: tuple[HeaderRecord, ...]
    placements: tuple[Placement, ...]


def find_targets(hotpatches: Sequence[Hotpatch], images: Sequence[MappedImage]) -> tuple[Target, ...]:
    """Return which hotpatch goes with which image; an image mapped twice is a refusal."""
    targets = []
    for hotpatch in hotpatches:
        found = [image for image in images if image.build_id and image.build_id == hotpatch.old_build_id]
        if len(found) > 1:
            raise Refusal(refusal("mapped-twice", f"{hotpatch.name} is loaded {len(found)} times in the process"))
        if found:
            targets.append(Target(hotpatch, hotpatch_id(hotpatch), found[0]))
    return tuple(targets)


def place_all(
    targets: Sequence[Target],
    needs: Sequence[Needs],
    update: tuple[str, ...],
    maps: tuple[Mapping, ...],
    ranges: Room = NO_ROOM,
    takeovers: Mapping_[str, Takeover] = MappingProxyType({}),
) -> tuple[Placement, ...]:
    """Place every target, those that others import from first; the first one placed has the gate.

    Args:
        targets: hotpatches and images.
        needs: their imports.
        update: ids of all hotpatches that share the gate.
        maps: of the process.
        ranges: room that each shadow has for the list of images the unwinder looks into.
        takeovers: by id of the target.
    """
    room, waiting = list(maps), list(zip(targets, needs, strict=True))
    placed: dict[str, Placement] = {}
    gate = 0
    while waiting:
        ready = next((w for w in waiting if all(id_ in placed for id_, _ in w[1].added.values())), None)
        if ready is None:
            names = sorted({name.name for _, need in waiting for name in need.added})
            raise Refusal(
                refusal("import-cycle", "images of the update need added functions of each other; restart", *names)
            )
        target, need = ready
        values = dict(need.values)
        for name, (id_, address) in need.added.items():
            values[name] = placed[id_].record.shadow_bias + address
        placed[target.id] = place_target(target, update, gate, values, room, ranges, takeovers.get(target.id))
        gate = placed[target.id].record.gate
        waiting.remove(ready)
    return tuple(placed.values())


def _functions(target: Target, shadow_bias: int) -> tuple[FunctionRecord, ...]:
    return tuple(FunctionRecord(f.name, shadow_bias + f.new.start, f.new.size) for f in target.hotpatch.functions)


def _record(
    target: Target,
    update: tuple[str, ...],
    start: int,
    shadow_bias: int,
    gate: int,
    ranges: Room,
    takeover: Takeover | None,
) -> HeaderRecord:
    """Return the header of a shadow whose mapping starts at `start`; entries use near stubs for now."""
    h, bias = target.hotpatch, target.image.bias
    header, end = start + PAGE_BYTES, shadow_bias + span_of(h).end
    regions, entries = regions_of(h, shadow_bias, header), _entries(target, shadow_bias, gate, takeover, near=True)
    if takeover is not None and takeover.crossed:
        regions = (*regions, RegionRecord(end, end + crossing_bytes(takeover.crossed), "r-x"))
        end = regions[-1].end
    return HeaderRecord(
        hotpatch_id=target.id,
        update=update,
        name=h.name,
        path=h.path,
        old_build_id=h.old_build_id,
        new_build_id=h.new_build_id,
        versions=h.versions,
        cves=h.cves,
        package=h.package,
        old_bias=bias,
        shadow_bias=shadow_bias,
        header=header,
        gate=gate,
        start=start,
        end=end + PAGE_BYTES,
        regions=regions,
        entries=entries,
        replaced=tuple(FunctionRecord(f.name, bias + f.old.start, f.old.size) for f in h.replaced),
        functions=_functions(target, shadow_bias),
        applied_at=time.time(),
        frames=_frames(h, shadow_bias, ranges),
        over=takeover.active.gate if takeover else 0,
        before=code_before(takeover.active) if takeover else (),
        after=code_after(takeover.active, entries) if takeover else (),
        variables=variable_records(h, shadow_bias, takeover),
        ports=port_records(h, shadow_bias, takeover),
        compared=h.compared,
        part=h.part,
    )


def _frames(hotpatch: Hotpatch, shadow_bias: int, ranges: Room) -> FramesRecord | None:
    """Return where descriptions are; the room for the list of the process's unwinder lies between header and code."""
    if hotpatch.unwinding is None:
        return None
    span = span_of(hotpatch)
    return FramesRecord(
        start=shadow_bias + span.start,
        end=shadow_bias + span.end,
        table=shadow_bias + hotpatch.unwinding.extent.start,
        needed=hotpatch.unwinding.needed,
        ranges=shadow_bias + span.start - ranges.size,
        ranges_bytes=ranges.size,
        words=ranges.words,
    )


def _entries(
    target: Target, shadow_bias: int, gate: int, takeover: Takeover | None, *, near: bool
) -> tuple[EntryRecord, ...]:
    """Return the entries with the stubs in use; those of the hotpatch taken over from have stubs of another kind."""
    crossed = takeover.crossed if takeover else ()
    taken = {c.entry.address for c in crossed}
    records = list(crossing_entries(crossed, shadow_bias, gate))
    for r in target.hotpatch.redirections:
        stub, test = (r.near_stub, NEAR_TEST_BYTES) if near else (r.far_stub, FAR_TEST_BYTES)
        if target.image.bias + r.old in taken:
            continue
        records.append(
            EntryRecord(
                name=r.name,
                address=target.image.bias + r.old,
                old_bytes=r.entry[:JUMP_BYTES],
                stub=shadow_bias + stub.start,
                stub_size=stub.size,
                new=shadow_bias + r.new,
                original=shadow_bias + stub.start + test,
                original_size=stub.size - test,
            )
        )
    return tuple(records)


def place_target(
    target: Target,
    update: tuple[str, ...],
    gate: int,
    imports: Imports,
    maps: list[Mapping],
    ranges: Room = NO_ROOM,
    takeover: Takeover | None = None,
) -> Placement:
    """Choose where one shadow goes and relocate it in our own memory.

    Args:
        target: hotpatch and image.
        update: ids of all hotpatches that share the gate.
        gate: load address of the gate byte; 0: in this very shadow.
        imports: resolved.
        maps: of the process; the chosen mapping is added.
        ranges: room for the list of images the unwinder looks into.
        takeover: of the hotpatch that is active on the image.
    """
    span, worst = span_of(target.hotpatch), _WORST_ADDRESS
    crossed, moved = (takeover.crossed, takeover.moved) if takeover else ((), ())
    room = header_bytes(_record(target, update, worst, worst - span.end, worst, ranges, takeover))
    room += ranges.size + PAGE_BYTES
    low, high = bias_range(target.hotpatch, target.image.bias, imports, moved, reaches(crossed))
    offset = span.start - room
    size = span.end - span.start + crossing_bytes(crossed) + room + PAGE_BYTES
    start = choose_start(maps, size, low + offset, high + offset, target.image.start - size - PAGE_BYTES)
    if start is None:
        raise Refusal(
            refusal(
                "no-room",
                f"{target.hotpatch.name}: no free {size >> 10} KiB of address space within 2 GiB of the image; "
                "restart the process",
            )
        )
    shadow_bias = start - offset
    gate = gate or start + PAGE_BYTES + GATE_OFFSET
    place = Place(target.image.bias, shadow_bias, gate, imports, moved)
    near = near_stubs_reach(target.hotpatch, place)
    try:
        record = _record(target, update, start, shadow_bias, gate, ranges, takeover)
        record = replace(record, entries=_entries(target, shadow_bias, gate, takeover, near=near))
        contents = relocate(target.hotpatch, place, near=near)
        if crossed:
            contents += ((shadow_bias + span.end, crossing_code(crossed, shadow_bias, gate)),)
    except (RelocationError, OverflowError) as error:
        raise Refusal(refusal("does-not-fit", f"{target.hotpatch.name}: {error}")) from error
    maps.append(Mapping(record.start, record.end, "r-xp", 0, "00:00", 0, ""))
    maps.sort(key=lambda mapping: mapping.start)
    table = target.hotpatch.unwinding
    head = core_header(record, table.extent.size if table is not None else 0)
    return Placement(record, ((record.start, head), *contents))


def make_plan(
    targets: Sequence[Target],
    images: Sequence[MappedImage],
    memory: ProcessMemory,
    maps: tuple[Mapping, ...],
    shadows: Sequence[Shadow],
    active: Mapping_[str, HeaderRecord] = MappingProxyType({}),
) -> Plan:
    """Check everything and return what to do; raise `Refusal` with all reasons.

    A shadow of the same update that is there already (applied before, or left by a patcher that died) is used again.

    Args:
        targets: hotpatches and images.
        images: of the process.
        memory: of the process.
        maps: of the process.
        shadows: of the process.
        active: by id of a target, the header of the hotpatch that is active on its image.
    """
    update = tuple(target.id for target in targets)
    reasons = [reason for target in targets for reason in check_code(target, memory, shadows)]
    if reasons:
        raise Refusal(*reasons)
    if (known := _placed_before(shadows, targets, update, active)) is not None:
        return Plan(known, ())
    takeovers = {target.id: take_over(target, active[target.id]) for target in targets if target.id in active}
    needs = resolve_imports(targets, images, memory, maps)
    placements = place_all(targets, needs, update, maps, ranges_room(targets, images, memory), takeovers)
    return Plan(tuple(placement.record for placement in placements), placements)


def _placed_before(
    shadows: Sequence[Shadow],
    targets: Sequence[Target],
    update: tuple[str, ...],
    active: Mapping_[str, HeaderRecord],
) -> tuple[HeaderRecord, ...] | None:
    """Return the headers of a complete set of shadows of this very update, the one with the gate first; else None.

    They have to take over from the very hotpatches that are active.

    A patcher that died between two images leaves some complete shadows of a set that is not: it is not used.
    """
    groups: dict[int, dict[str, HeaderRecord]] = {}
    for shadow in shadows:
        if shadow.record.update == update and shadow.placed and _fits(shadow, targets, active):
            groups.setdefault(shadow.record.gate, {})[shadow.record.hotpatch_id] = shadow.record
    for gate, group in groups.items():
        if len(group) == len(targets):
            return tuple(sorted(group.values(), key=lambda r: not r.header <= gate < r.header + PAGE_BYTES))
    return None


def _fits(shadow: Shadow, targets: Sequence[Target], active: Mapping_[str, HeaderRecord]) -> bool:
    """Tell whether a shadow belongs to one of the targets at its present place, over what is active there."""
    record = shadow.record
    if not any(t.id == record.hotpatch_id and t.image.bias == record.old_bias for t in targets):
        return False
    return record.over == (active[record.hotpatch_id].gate if record.hotpatch_id in active else 0)


def read_shadows(memory: ProcessMemory, images: Sequence[MappedImage]) -> tuple[Shadow, ...]:
    """Return the shadows whose old image is still mapped where it was, and was not unmapped in between."""
    here = {(image.build_id, image.bias) for image in images}
    found = find_shadows(memory, procfs.read_maps(memory.pid))
    placed = (s for s in found if (s.record.old_build_id, s.record.old_bias) in here)
    return tuple(s for s in placed if is_of_this_load(memory, s))
