"""Entries that lead to an earlier hotpatch's code: the stubs between that one and the one that takes over.

    near:  cmpb $0, gate(%rip) ; jne after ; jmp before ; jmp original
    far:   push %rax ; movabs $gate, %rax ; cmpb $0, (%rax) ; pop %rax ; jne after ; jmp before ; jmp original

While the gate is 0 the stub means the earlier hotpatch: its new function, or the old one where it restores that. While
it is 1 it means the later one: its new function, or the old function where only the earlier one redirects the entry.
For the latter *after* is the last jump, so that no two shadows want the same bytes in an entry. It leads to the old
function's displaced instructions, which a stub of the hotpatch that redirected it first has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hotmend.live.gate import EntryRecord, FunctionRecord, HeaderRecord, PortRecord, jump
from hotmend.live.layout import span_of
from hotmend.live.needs import Refusal, Target
from hotmend.model.addresses import JUMP_BYTES, page_ceil
from hotmend.model.hotpatch import Port
from hotmend.model.verdict import refusal

STUB_BYTES = 32
"""Room for one stub of either form."""
NEAR_TEST_BYTES, FAR_TEST_BYTES = 13, 21
"""Length of gate test and `jne` of a stub; behind it are the displaced instructions."""

_BRANCH_BYTES = 6


@dataclass(frozen=True, slots=True)
class Crossing:
    """An entry of the hotpatch that is active.

    Attributes:
        entry: as that hotpatch's header has it.
        stub: link address of the stub, in the later shadow.
        name: of the later hotpatch's function.
        new: its link address; None: the later hotpatch leaves the function as the old build has it.
    """

    entry: EntryRecord
    stub: int
    name: str
    new: int | None


def crossings(target: Target, active: HeaderRecord, ports: Mapping[int, Port]) -> tuple[Crossing, ...]:
    """Return all entries of the hotpatch that is active, with the room for their stubs: behind the later shadow.

    Args:
        target: the later hotpatch and its image.
        active: header of the active one.
        ports: load address of each port of the active one -> the later one's port for that function.

    Raises:
        Refusal: the two hotpatches do not go together.
    """
    later = {target.image.bias + r.old: (r.name, int(r.new)) for r in target.hotpatch.redirections}
    known = {entry.address for entry in active.entries}
    near = [a for a in later if a not in known and any(abs(a - b) < JUMP_BYTES for b in known)]
    if near or any(not entry.original for entry in active.entries):
        names = [later[a][0] for a in near] or [active.hotpatch_id]
        sentence = f"{target.hotpatch.name}: entries of the hotpatch that is applied are not of a form to build on"
        raise Refusal(refusal("cannot-take-over", f"{sentence}; revert it first", *names))
    first = span_of(target.hotpatch).end
    later |= {address: (port.name, int(port.function)) for address, port in ports.items()}
    entries = (*active.entries, *(_port_entry(p) for p in active.ports if p.address not in known))
    return tuple(
        Crossing(entry, first + STUB_BYTES * number, *later.get(entry.address, (entry.name, None)))
        for number, entry in enumerate(entries)
    )


def _port_entry(port: PortRecord) -> EntryRecord:
    """Return the entry that a port is: a settled one."""
    content = jump(port.address, port.function)
    return EntryRecord(
        port.name, port.address, content, port.address, JUMP_BYTES, port.function, original=port.function
    )


def crossing_bytes(crossed: Sequence[Crossing]) -> int:
    """Return the room that the stubs take: whole pages."""
    return page_ceil(STUB_BYTES * len(crossed))


def reaches(crossed: Sequence[Crossing]) -> list[int]:
    """Return the values d for which `d - shadow bias` has to fit into 32 bits, so that every jump fits."""
    values = []
    for c in crossed:
        goals = (c.entry.new, c.entry.original)
        values += [goal - c.stub - end for goal in goals for end in (0, STUB_BYTES)]
        values.append(c.entry.address + JUMP_BYTES - c.stub)
    return values


def crossing_entries(crossed: Sequence[Crossing], shadow_bias: int, gate: int) -> tuple[EntryRecord, ...]:
    """Return the entries as the later header has them."""
    return tuple(
        EntryRecord(
            name=c.name,
            address=c.entry.address,
            old_bytes=c.entry.jump_to_new,
            stub=shadow_bias + c.stub,
            stub_size=len(_gate_test(c, shadow_bias, gate)) + _BRANCH_BYTES + 2 * JUMP_BYTES,
            new=_after(c, shadow_bias, gate),
            original=c.entry.original,
            original_size=c.entry.original_size,
            original_bytes=c.entry.build_bytes,
            restores=c.new is None,
        )
        for c in crossed
    )


def crossing_code(crossed: Sequence[Crossing], shadow_bias: int, gate: int) -> bytes:
    """Return the code of all stubs, for the place behind the shadow."""
    return b"".join(stub_code(c, shadow_bias, gate).ljust(STUB_BYTES, b"\xcc") for c in crossed)


def stub_code(crossing: Crossing, shadow_bias: int, gate: int) -> bytes:
    """Return one stub; `OverflowError` if a jump does not reach its goal."""
    test = _gate_test(crossing, shadow_bias, gate)
    behind = shadow_bias + crossing.stub + len(test) + _BRANCH_BYTES
    distance = _after(crossing, shadow_bias, gate) - behind
    jumps = jump(behind, crossing.entry.new) + jump(behind + JUMP_BYTES, crossing.entry.original)
    return test + b"\x0f\x85" + distance.to_bytes(4, "little", signed=True) + jumps


def _after(crossing: Crossing, shadow_bias: int, gate: int) -> int:
    """Return the load address to which the entry leads once the gate is 1."""
    if crossing.new is not None:
        return shadow_bias + crossing.new
    return shadow_bias + crossing.stub + len(_gate_test(crossing, shadow_bias, gate)) + _BRANCH_BYTES + JUMP_BYTES


def _gate_test(crossing: Crossing, shadow_bias: int, gate: int) -> bytes:
    """Return the instructions that look at the gate, in the form that reaches it."""
    distance = gate - (shadow_bias + crossing.stub + NEAR_TEST_BYTES - _BRANCH_BYTES)
    if -(1 << 31) <= distance < 1 << 31:
        return b"\x80\x3d" + distance.to_bytes(4, "little", signed=True) + b"\0"
    return b"\x50\x48\xb8" + gate.to_bytes(8, "little") + b"\x80\x38\0\x58"


def code_before(active: HeaderRecord) -> tuple[FunctionRecord, ...]:
    """Return what may not be active when another hotpatch takes over: new functions, stubs, and restored beginnings."""
    stubs = (FunctionRecord(f"stub of {e.name}", e.stub, e.stub_size) for e in active.entries)
    return (*active.functions, *stubs, *_beginnings(active.entries))


def code_after(active: HeaderRecord, entries: Sequence[EntryRecord]) -> tuple[FunctionRecord, ...]:
    """Return what may not be active when the hotpatch with `entries` is taken back: what the other one replaces."""
    return (*active.replaced, *_beginnings(entries))


def _beginnings(entries: Sequence[EntryRecord]) -> tuple[FunctionRecord, ...]:
    """Return the displaced instructions by which restored old functions are reached."""
    return tuple(FunctionRecord(e.name, e.original, e.original_size) for e in entries if e.restores)
