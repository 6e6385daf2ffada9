"""The objects that `inspect --json` prints: all that is in a hotpatch."""

from __future__ import annotations

import msgspec

from hotmend.cli.shapes import (
    CountShape,
    FunctionCountsShape,
    ReasonShape,
    function_counts,
    reason_shapes,
    reference_counts,
)
from hotmend.model.addresses import JUMP_BYTES
from hotmend.model.hotpatch import (
    AddedVariable,
    GateTarget,
    Hotpatch,
    ImportTarget,
    Lazy,
    OldTarget,
    Port,
    Relocation,
    ShadowTarget,
    UnwindTable,
)


class ExtentShape(msgspec.Struct, frozen=True):
    """A range of link addresses."""

    address: int
    size: int


class FunctionShape(msgspec.Struct, frozen=True):
    """`inspect`: a function of the new code. `old` is None when the new build added it."""

    name: str
    new: ExtentShape
    old: ExtentShape | None


class ReplacedShape(msgspec.Struct, frozen=True):
    """`inspect`: an old function that no thread may be inside when the code is switched."""

    name: str
    old: ExtentShape
    sha256: str


class RedirectionShape(msgspec.Struct, frozen=True):
    """`inspect`: an old entry that will lead to new code."""

    name: str
    old: int
    new: int
    entry: str


class SegmentShape(msgspec.Struct, frozen=True):
    """`inspect`: a run of bytes of the shadow."""

    section: str
    address: int
    size: int
    file_bytes: int
    permissions: str


class RelocationShape(msgspec.Struct, frozen=True):
    """`inspect`: a field of the shadow. `symbol` is old_image, new_image, hotmend_gate or `name@VERSION`."""

    address: int
    kind: str
    symbol: str
    target: int | None
    addend: int
    evidence: str
    votes: int


def relocation_shape(relocation: Relocation) -> RelocationShape:
    """Return the relocation as it is printed."""
    target = None
    match relocation.target:
        case OldTarget(address):
            symbol, target = "old_image", int(address)
        case ShadowTarget(address):
            symbol, target = "new_image", int(address)
        case ImportTarget(name, version, _):
            symbol = f"{name}@{version}" if version else name
        case GateTarget():
            symbol = "hotmend_gate"
    return RelocationShape(
        int(relocation.address),
        relocation.kind.value,
        symbol,
        target,
        relocation.addend,
        relocation.evidence,
        relocation.votes,
    )


class UnwindingShape(msgspec.Struct, frozen=True):
    """`inspect`: the table by which the process's unwinder finds the new functions' frames."""

    address: int
    functions: int
    needed: bool


class AddedShape(msgspec.Struct, frozen=True):
    """`inspect`: a variable that the new build added, or the jump that stands for an added function elsewhere.

    By its `marks` a later hotpatch of the same old build knows it again; `function` is what the jump leads to.
    """

    name: str
    address: int
    size: int
    function: int | None
    marks: tuple[str, ...]


class LazyShape(msgspec.Struct, frozen=True):
    """`inspect`: whether old invocations may go on in old code, what shows it, and what is in the way."""

    proven: bool
    evidence: tuple[str, ...]
    obstacles: tuple[ReasonShape, ...]


class InspectShape(msgspec.Struct, frozen=True):
    """`inspect`: everything in the hotpatch of one image."""

    name: str
    path: str
    package: str
    old_version: str
    new_version: str
    old_build_id: str
    new_build_id: str
    verdict: str
    cves: tuple[str, ...]
    reasons: tuple[ReasonShape, ...]
    update_bytes: int
    functions: FunctionCountsShape
    types: str
    references: tuple[CountShape, ...]
    segments: tuple[SegmentShape, ...]
    new_functions: tuple[FunctionShape, ...]
    replaced: tuple[ReplacedShape, ...]
    redirections: tuple[RedirectionShape, ...]
    relocations: tuple[RelocationShape, ...]
    unwinding: UnwindingShape | None
    variables: tuple[AddedShape, ...] | None
    ports: tuple[AddedShape, ...]
    lazy: LazyShape | None


def inspect_shape(hotpatch: Hotpatch) -> InspectShape:
    """Return the hotpatch as it is printed."""
    return InspectShape(
        name=hotpatch.name,
        path=hotpatch.path,
        package=hotpatch.package,
        old_version=hotpatch.versions[0],
        new_version=hotpatch.versions[1],
        old_build_id=str(hotpatch.old_build_id),
        new_build_id=str(hotpatch.new_build_id),
        verdict=hotpatch.verdict.value,
        cves=hotpatch.cves,
        reasons=reason_shapes(hotpatch.reasons),
        update_bytes=hotpatch.update_bytes,
        functions=function_counts(hotpatch.statistics),
        types=hotpatch.statistics.types.value,
        references=reference_counts(hotpatch.statistics),
        segments=tuple(
            SegmentShape(s.section, s.extent.start, s.extent.size, len(s.content), s.permissions)
            for s in hotpatch.segments
        ),
        new_functions=tuple(
            FunctionShape(
                f.name,
                ExtentShape(f.new.start, f.new.size),
                ExtentShape(f.old.start, f.old.size) if f.old.size else None,
            )
            for f in hotpatch.functions
        ),
        replaced=tuple(
            ReplacedShape(r.name, ExtentShape(r.old.start, r.old.size), r.sha256) for r in hotpatch.replaced
        ),
        redirections=tuple(RedirectionShape(r.name, r.old, r.new, r.entry.hex()) for r in hotpatch.redirections),
        relocations=tuple(map(relocation_shape, hotpatch.relocations)),
        unwinding=_unwinding_shape(hotpatch.unwinding),
        variables=None if hotpatch.variables is None else tuple(map(_variable_shape, hotpatch.variables)),
        ports=tuple(map(_port_shape, hotpatch.ports)),
        lazy=_lazy_shape(hotpatch.lazy),
    )


def _lazy_shape(lazy: Lazy | None) -> LazyShape | None:
    return None if lazy is None else LazyShape(lazy.proven, lazy.evidence, reason_shapes(lazy.obstacles))


def _variable_shape(variable: AddedVariable) -> AddedShape:
    marks = tuple(mark.text for mark in variable.marks)
    return AddedShape(variable.name, variable.extent.start, variable.extent.size, None, marks)


def _port_shape(port: Port) -> AddedShape:
    return AddedShape(port.name, port.address, JUMP_BYTES, port.function, tuple(mark.text for mark in port.marks))


def _unwinding_shape(table: UnwindTable | None) -> UnwindingShape | None:
    return UnwindingShape(table.extent.start, table.functions, table.needed) if table is not None else None
