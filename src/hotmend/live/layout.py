"""Where a shadow goes, and the bytes it gets: pure functions over a hotpatch and the free address space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hotmend.linux.procfs import Mapping
from hotmend.live.gate import RegionRecord
from hotmend.model.addresses import PAGE_BYTES, page_ceil, page_floor
from hotmend.model.hotpatch import (
    GateTarget,
    Hotpatch,
    ImportTarget,
    OldTarget,
    Relocation,
    RelocationKind,
    Segment,
    ShadowTarget,
)

NEAR_STUB_SECTION, FAR_STUB_SECTION = ".text.stub", ".text.stub.far"
ADDRESS_MIN = 0x10000
ADDRESS_MAX = 0x7FFF_FFFF_F000
_REACH = 1 << 31
_FIELD_BYTES = {RelocationKind.PC32: 4, RelocationKind.ABS64: 8, RelocationKind.ABS32: 4, RelocationKind.ABS32S: 4}
Imports = dict[ImportTarget, int]
"""Resolved imports: load addresses."""


class RelocationError(ValueError):
    """A field of the shadow cannot be computed or its value does not fit."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A variable of the shadow, link addresses `[start, end)`, whose live copy stands at load address `to`."""

    start: int
    end: int
    to: int


@dataclass(frozen=True, slots=True)
class Place:
    """What relocation needs to know; load addresses and biases in bytes."""

    old_bias: int
    shadow_bias: int
    gate: int
    imports: Imports
    moved: tuple[Moved, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """Link addresses a shadow covers, header and guards not counted; whole pages."""

    start: int
    end: int


def span_of(hotpatch: Hotpatch) -> Span:
    """Return the pages that the segments cover."""
    first, last = hotpatch.segments[0].extent, max(segment.extent.end for segment in hotpatch.segments)
    return Span(page_floor(first.start), page_ceil(last))


def regions_of(hotpatch: Hotpatch, shadow_bias: int, header: int) -> tuple[RegionRecord, ...]:
    """Return the permission runs of the shadow, the header's first; segments of one permission share a run."""
    runs: list[RegionRecord] = [RegionRecord(header, shadow_bias + span_of(hotpatch).start, "r--")]
    for segment in hotpatch.segments:
        start = shadow_bias + page_floor(segment.extent.start)
        end = shadow_bias + page_ceil(segment.extent.end)
        last = runs[-1]
        if last.permissions == segment.permissions and (len(runs) > 1 or start <= last.end):
            runs[-1] = RegionRecord(last.start, max(end, last.end), last.permissions)
        else:
            runs.append(RegionRecord(start, end, segment.permissions))
    return tuple(runs)


def _unused_stub_section(*, near: bool) -> str:
    return FAR_STUB_SECTION if near else NEAR_STUB_SECTION


def _section_index(hotpatch: Hotpatch) -> Callable[[int], Segment]:
    """Return a lookup of the segment that holds a link address (both are sorted, so it walks along)."""
    segments, position = hotpatch.segments, 0

    def find(address: int) -> Segment:
        nonlocal position
        if address < segments[position].extent.start:
            position = 0
        while position < len(segments) - 1 and address >= segments[position].extent.end:
            position += 1
        if address not in segments[position].extent:
            raise RelocationError(f"relocation at {address:#x} is outside of the shadow")
        return segments[position]

    return find


def bias_range(
    hotpatch: Hotpatch, old_bias: int, imports: Imports, moved: Sequence[Moved] = (), further: Sequence[int] = ()
) -> tuple[int, int]:
    """Return the lowest and the highest shadow bias with which every field and every entry jump fits.

    Args:
        hotpatch: what to place.
        old_bias: of the old image.
        imports: resolved.
        moved: variables that live elsewhere.
        further: more values d for which `d - bias` has to fit into 32 bits with sign.
    """
    low, high = ADDRESS_MIN - (1 << 47), ADDRESS_MAX
    near: list[int] = [*further]  # values d with -2^31 <= d - bias < 2^31
    for relocation in hotpatch.relocations:
        target, sum_ = relocation.target, relocation.addend
        if relocation.kind is RelocationKind.PC32:
            if isinstance(target, OldTarget):
                near.append(old_bias + target.address + sum_ - relocation.address)
            elif isinstance(target, ImportTarget):
                near.append(imports[target] + sum_ - relocation.address)
            elif isinstance(target, ShadowTarget) and (place := moved_to(target.address, moved)) is not None:
                near.append(place + sum_ - relocation.address)
        elif relocation.kind is not RelocationKind.ABS64 and isinstance(target, ShadowTarget):
            if moved_to(target.address, moved) is not None:
                continue
            limit = _REACH if relocation.kind is RelocationKind.ABS32S else 2 * _REACH
            low = max(low, -(target.address + sum_))
            high = min(high, limit - 1 - (target.address + sum_))
    for entry in hotpatch.redirections:
        for goal in (entry.new, entry.near_stub.start, entry.far_stub.start):
            # jump: bias + goal - (old_bias + old + 5), the same bound with the sign turned
            near.append(old_bias + entry.old + 5 - goal)
    if near:
        low = max(low, max(near) - _REACH + 1)
        high = min(high, min(near) + _REACH - 1)
    return low, high


def choose_start(maps: Sequence[Mapping], size: int, low: int, high: int, wish: int) -> int | None:
    """Return a free address for `size` bytes (guards included) in `[low, high]`, close to `wish`; None if none.

    The gap above the heap is the heap's to grow into and is used only at its far end, when nothing else is left;
    the gap below the main stack is never used. One page stays free on both sides.
    """
    best: tuple[bool, int, int] | None = None
    floor, grows = ADDRESS_MIN, False
    for mapping in (*maps, None):
        ceiling = mapping.start if mapping is not None else ADDRESS_MAX
        first, last = max(floor + PAGE_BYTES, page_ceil(low)), min(ceiling - size - PAGE_BYTES, page_floor(high))
        if first <= last and not (mapping is not None and mapping.path == "[stack]") and floor < ADDRESS_MAX:
            start = last if grows else min(max(first, page_floor(wish)), last)
            candidate = (grows, abs(start - wish), start)
            best = candidate if best is None else min(best, candidate)
        if mapping is not None:
            floor, grows = mapping.end, mapping.path == "[heap]"
    return best[2] if best is not None else None


def near_stubs_reach(hotpatch: Hotpatch, place: Place) -> bool:
    """Tell whether every gate test of the near stubs reaches the gate."""
    for relocation in hotpatch.relocations:
        if isinstance(relocation.target, GateTarget) and relocation.kind is RelocationKind.PC32:
            value = place.gate + relocation.addend - (place.shadow_bias + relocation.address)
            if not -_REACH <= value < _REACH:
                return False
    return True


def moved_to(address: int, moved: Sequence[Moved]) -> int | None:
    """Return the load address at which link address `address` of the shadow lives, if it is one of `moved`."""
    return next((m.to + address - m.start for m in moved if m.start <= address < m.end), None)


def target_value(relocation: Relocation, place: Place) -> int:
    """Return S, a load address (or the value of a weak import: 0)."""
    target = relocation.target
    if isinstance(target, OldTarget):
        return place.old_bias + target.address
    if isinstance(target, ShadowTarget):
        moved = moved_to(target.address, place.moved)
        return place.shadow_bias + target.address if moved is None else moved
    if isinstance(target, GateTarget):
        return place.gate
    return place.imports[target]


def field_bytes(relocation: Relocation, place: Place) -> bytes:
    """Return the bytes of one relocated field; raise `RelocationError` where they do not fit."""
    value = target_value(relocation, place) + relocation.addend
    kind = relocation.kind
    try:
        if kind is RelocationKind.PC32:
            return (value - (place.shadow_bias + relocation.address)).to_bytes(4, "little", signed=True)
        if kind is RelocationKind.ABS32S:
            return value.to_bytes(4, "little", signed=True)
        return value.to_bytes(_FIELD_BYTES[kind], "little")
    except OverflowError as error:
        raise RelocationError(f"the field at {relocation.address:#x} does not reach its target") from error


def relocate(hotpatch: Hotpatch, place: Place, *, near: bool) -> tuple[tuple[int, bytes], ...]:
    """Return `(load address, bytes)` of every segment, relocated.

    Args:
        hotpatch: what to place.
        place: where things are.
        near: which stubs are in use; fields of the others that do not fit stay zero.
    """
    unused, find = _unused_stub_section(near=near), _section_index(hotpatch)
    contents = {segment.extent.start: bytearray(segment.content) for segment in hotpatch.segments}
    for relocation in hotpatch.relocations:
        segment = find(relocation.address)
        content, offset = contents[segment.extent.start], relocation.address - segment.extent.start
        try:
            field = field_bytes(relocation, place)
        except RelocationError:
            if segment.section != unused:
                raise
            field = bytes(_FIELD_BYTES[relocation.kind])
        if offset + len(field) > len(content):
            raise RelocationError(f"relocation at {relocation.address:#x} is outside of its segment")
        content[offset : offset + len(field)] = field
    return tuple((place.shadow_bias + start, bytes(content)) for start, content in contents.items())
