"""The two stubs of each redirected entry, and the segments that hold them.

    near:  cmpb $0, gate(%rip) ; jne new ; displaced instructions ; jmp entry + k
    far:   push %rax ; movabs $gate, %rax ; cmpb $0, (%rax) ; pop %rax ; jne new ; displaced ; jmp entry + k

While the gate is 0 a stub means exactly the old code, while it is 1 the new function. Both clobber nothing but
flags: other registers may be live at the entry of a function that only its own image calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hotmend.image.entry import Displaced
from hotmend.model.addresses import JUMP_BYTES, Extent, LinkAddress, page_ceil
from hotmend.model.hotpatch import GateTarget, OldTarget, Port, Redirection, Relocation, RelocationKind, Segment

_ALIGN = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """An old entry that is to lead to new code."""

    name: str
    old: LinkAddress
    new: LinkAddress
    text: bytes
    displaced: Displaced


class _Writer:
    """Lays stubs out one behind the other."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.code = bytearray()
        self.relocations: list[Relocation] = []

    @property
    def here(self) -> LinkAddress:
        return LinkAddress(self.start + len(self.code))

    def relocate(self, kind: RelocationKind, target: OldTarget | GateTarget, addend: int, size: int) -> None:
        self.relocations.append(Relocation(self.here, kind, target, addend, "stub"))
        self.code += bytes(size)

    def add(self, entry: Entry, *, far: bool) -> Extent:
        self.code += bytes(-len(self.code) % _ALIGN)
        start = self.here
        if far:
            self.code += b"\x50\x48\xb8"
            self.relocate(RelocationKind.ABS64, GateTarget(), 0, 8)
            self.code += b"\x80\x38\x00\x58"
        else:
            self.code += b"\x80\x3d"
            self.relocate(RelocationKind.PC32, GateTarget(), -5, 4)
            self.code += b"\x00"
        self.code += b"\x0f\x85"
        self.code += (entry.new - self.here - 4).to_bytes(4, "little", signed=True)
        self._displaced(entry)
        return Extent(start, self.here - start)

    def _displaced(self, entry: Entry) -> None:
        d = entry.displaced
        base: int = self.here
        self.code += d.code
        literal: list[LinkAddress] = []
        for f in d.fields:
            at = LinkAddress(base + f.offset)
            if f.target is None:
                literal.append(at)
            else:
                self.relocations.append(Relocation(at, RelocationKind.PC32, OldTarget(f.target), -f.tail, "stub"))
        if d.continues:
            self.code += b"\xe9"
            self.relocate(RelocationKind.PC32, OldTarget(LinkAddress(entry.old + d.size)), -4, 4)
        for at in literal:
            place = at - self.start
            self.code[place : place + 4] = (self.here - at - 4).to_bytes(4, "little", signed=True)
            self.relocate(RelocationKind.ABS64, OldTarget(d.returns_to or LinkAddress(0)), 0, 8)


def make_stubs(
    entries: list[Entry], behind: int
) -> tuple[tuple[Segment, ...], tuple[Relocation, ...], tuple[Redirection, ...]]:
    """Return segments, relocations and redirections for `entries`; stubs stand on pages from `behind` on."""
    if not entries:
        return (), (), ()
    near = _Writer(page_ceil(behind))
    near_extents = [near.add(e, far=False) for e in entries]
    far = _Writer(near.here + (-near.here % _ALIGN))
    far_extents = [far.add(e, far=True) for e in entries]
    redirections = tuple(
        Redirection(e.name, e.old, e.new, e.text[: e.displaced.size], n, f)
        for e, n, f in zip(entries, near_extents, far_extents, strict=True)
    )
    segments = tuple(
        Segment(Extent(LinkAddress(w.start), len(w.code)), "r-x", bytes(w.code), name)
        for w, name in ((near, ".text.stub"), (far, ".text.stub.far"))
    )
    relocations = tuple(sorted((*near.relocations, *far.relocations), key=lambda r: r.address))
    return segments, relocations, redirections


def make_ports(ports: Sequence[Port]) -> tuple[Segment, ...]:
    """Return the segment of the jumps that stand for functions whose addresses are handed out; () without any."""
    if not ports:
        return ()
    start = ports[0].address
    code = bytearray(ports[-1].address + JUMP_BYTES - start)
    for port in ports:
        at = port.address - start
        code[at : at + JUMP_BYTES] = b"\xe9" + (port.function - port.address - JUMP_BYTES).to_bytes(
            4, "little", signed=True
        )
    return (Segment(Extent(start, len(code)), "r-x", bytes(code), ".text.port"),)
