"""Relocation of a hotpatch for one process: pure arithmetic, nothing is read or written here.

`relocate` is the reference. `hotmend.live` decides where the shadow goes, which stub form it uses and what an
import resolves to; it calls this with the answers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from hotmend.model.addresses import Extent, LoadAddress
from hotmend.model.errors import HotmendError
from hotmend.model.hotpatch import (
    GateTarget,
    Hotpatch,
    ImportTarget,
    OldTarget,
    Relocation,
    RelocationKind,
    ShadowTarget,
    Target,
)

_LAYOUTS = {
    RelocationKind.PC32: struct.Struct("<i"),
    RelocationKind.ABS32S: struct.Struct("<i"),
    RelocationKind.ABS32: struct.Struct("<I"),
    RelocationKind.ABS64: struct.Struct("<Q"),
}


class RelocationOverflowError(HotmendError):
    """A field is too narrow for the distance or address it has to hold."""


class StubForm(StrEnum):
    """Which of its two stubs a redirection uses in one process."""

    NEAR = "near"
    FAR = "far"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where everything is in one process.

    Attributes:
        shadow_bias: load address of link address 0 of the new image.
        old_bias: load address of link address 0 of the old image.
        gate: load address of the gate byte.
        stubs: the form in use; relocations of the other form's stubs are skipped.
    """

    shadow_bias: int
    old_bias: int
    gate: LoadAddress
    stubs: StubForm


@dataclass(frozen=True, slots=True)
class LoadedSegment:
    """One segment as it has to stand in memory. `size` may exceed `len(content)`; the rest is zero."""

    address: LoadAddress
    size: int
    permissions: str
    content: bytes


def relocate(
    hotpatch: Hotpatch, placement: Placement, resolve: Callable[[ImportTarget], LoadAddress]
) -> list[LoadedSegment]:
    """Return the segments with all fields filled in, in the order of their addresses.

    Raises:
        RelocationOverflowError: a field cannot hold its value with this placement.
        Whatever `resolve` raises.
    """
    relocations = list(_used_relocations(hotpatch, placement.stubs))
    number = 0
    loaded = []
    for segment in hotpatch.segments:
        content = bytearray(segment.content)
        start = segment.extent.start
        while number < len(relocations) and relocations[number].address < segment.extent.end:
            relocation = relocations[number]
            symbol = _symbol_value(relocation.target, placement, resolve)
            _LAYOUTS[relocation.kind].pack_into(
                content, relocation.address - start, _field_value(relocation, symbol, placement)
            )
            number += 1
        address = LoadAddress(start + placement.shadow_bias)
        loaded.append(LoadedSegment(address, segment.extent.size, segment.permissions, bytes(content)))
    return loaded


def _used_relocations(hotpatch: Hotpatch, form: StubForm) -> Iterator[Relocation]:
    """Leave out the stubs of the other form: theirs may not even fit."""
    unused = sorted(
        (r.far_stub if form is StubForm.NEAR else r.near_stub for r in hotpatch.redirections),
        key=lambda extent: extent.start,
    )
    skip: Iterator[Extent] = iter(unused)
    current = next(skip, None)
    for relocation in hotpatch.relocations:
        while current is not None and current.end <= relocation.address:
            current = next(skip, None)
        if current is None or relocation.address not in current:
            yield relocation


def _symbol_value(
    target: Target, placement: Placement, resolve: Callable[[ImportTarget], LoadAddress]
) -> int:
    match target:
        case OldTarget(address):
            return placement.old_bias + address
        case ShadowTarget(address):
            return placement.shadow_bias + address
        case ImportTarget():
            return resolve(target)
        case GateTarget():
            return placement.gate


def _field_value(relocation: Relocation, symbol: int, placement: Placement) -> int:
    """Return the number for the field, or raise if the field cannot hold it."""
    value = symbol + relocation.addend
    match relocation.kind:
        case RelocationKind.PC32:
            value -= placement.shadow_bias + relocation.address
            fits = -(1 << 31) <= value < 1 << 31
        case RelocationKind.ABS32S:
            fits = -(1 << 31) <= value < 1 << 31
        case RelocationKind.ABS32:
            fits = 0 <= value < 1 << 32
        case RelocationKind.ABS64:
            value &= (1 << 64) - 1
            fits = True
    if not fits:
        where = f"{relocation.kind} at link address {relocation.address:#x}"
        raise RelocationOverflowError(
            f"{where} cannot hold {value:#x}: {_describe(relocation.target)} is out of reach",
            "the shadow has to lie within 2 GiB of the old image and of what the new code refers to",
        )
    return value


def _describe(target: Target) -> str:
    match target:
        case OldTarget(address):
            return f"old image+{address:#x}"
        case ShadowTarget(address):
            return f"shadow+{address:#x}"
        case ImportTarget(name, version, _):
            return f"{name}@{version}" if version else name
        case GateTarget():
            return "the gate"
