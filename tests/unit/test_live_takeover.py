"""Which variable of one hotpatch is which of another, what stands between the two, and what cannot be taken over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotmend.linux.process import MappedImage
from hotmend.live.crossing import STUB_BYTES, Crossing, crossing_entries, stub_code
from hotmend.live.gate import EntryRecord, HeaderRecord, PortRecord, VariableRecord, jump
from hotmend.live.layout import Moved
from hotmend.live.needs import Refusal, Target
from hotmend.live.takeover import port_records, take_over, variable_records
from hotmend.model.addresses import BuildId, Extent, LinkAddress
from hotmend.model.hotpatch import AddedVariable, Mark, Port
from tests.hotpatches import sample
from tests.unit.test_live_registry import record

ZERO, ONE = "0" * 64, "1" * 64
IMAGE = MappedImage(1, "x", "/x", BuildId("ab" * 20), 0x10_0000, 0x10_0000, 0x10_8000, False, None, 0)


def ours(name: str, start: int, *marks: tuple[str, int], size: int = 8, sha256: str = ZERO) -> AddedVariable:
    return AddedVariable(name, Extent(LinkAddress(start), size), sha256, tuple(Mark(*mark) for mark in marks))


def theirs(name: str, address: int, *marks: tuple[str, int], size: int = 8, sha256: str = ZERO) -> VariableRecord:
    return VariableRecord(name, address, size, sha256, tuple(Mark(*mark) for mark in marks))


def active(*variables: VariableRecord) -> HeaderRecord:
    entry = EntryRecord("f", 0x1000, b"\x90" * 5, 0x2100, 18, 0x2200, original=0x210D, original_size=5)
    return replace(record(0x2000), entries=(entry,), variables=variables)


def target(*variables: AddedVariable) -> Target:
    hotpatch = replace(sample(), variables=variables)
    return Target(hotpatch, "b", IMAGE)


def moved(later: Target, earlier: HeaderRecord) -> tuple[Moved, ...]:
    return take_over(later, earlier).moved


def refused(later: Target, earlier: HeaderRecord) -> str:
    with pytest.raises(Refusal) as error:
        take_over(later, earlier)
    return error.value.reasons[0].code


def test_marks_that_agree_make_one_variable() -> None:
    earlier = active(theirs("x", 0x3000, ("use:1:0", 0), ("use:2:3", 4)), theirs("y", 0x3100, ("use:1:1", 0)))
    later = target(ours("q", 0x5000, ("use:1:1", 0)), ours("p", 0x6000, ("use:2:3", 4), ("use:9:9", 0)))
    assert moved(later, earlier) == (Moved(0x5000, 0x5008, 0x3100), Moved(0x6000, 0x6008, 0x3000))
    records = variable_records(later.hotpatch, 0x7000_0000, take_over(later, earlier))
    assert records is not None
    assert [(r.name, r.address) for r in records] == [("q", 0x3100), ("p", 0x3000)]


def test_a_part_of_a_variable_is_found_inside_of_it() -> None:
    earlier = active(theirs("x", 0x3000, ("use:1:0", 16), size=32))
    later = target(ours("p", 0x6000, ("use:1:0", 0)))
    assert moved(later, earlier) == (Moved(0x6000, 0x6008, 0x3010),)
    (kept,) = take_over(later, earlier).kept
    assert (kept.address, kept.size, kept.marks) == (0x3000, 32, (Mark("use:1:0", 16),))


def test_new_ones_begin_anew_and_gone_ones_stay_behind() -> None:
    same = ("use:1:0", 0)
    later = target(ours("p", 0x5000, same), ours("new", 0x6000, ("use:3:0", 0)))
    assert moved(later, active(theirs("x", 0x3000, same))) == (Moved(0x5000, 0x5008, 0x3000),)
    earlier = active(theirs("x", 0x3000, same), theirs("gone", 0x3100, ("use:4:0", 0)))
    assert moved(target(ours("p", 0x5000, same)), earlier) == (Moved(0x5000, 0x5008, 0x3000),)
    assert refused(later, earlier) == "added-variable-unknown"


def test_marks_of_two_places_do_not_count() -> None:
    twice = active(theirs("x", 0x3000, ("use:1:0", 0)), theirs("y", 0x3100, ("use:1:0", 0)))
    assert refused(target(ours("p", 0x5000, ("use:1:0", 0))), twice) == "added-variable-unknown"


@pytest.mark.parametrize(
    "later",
    [
        ours("x", 0x5000, ("use:1:0", 0), ("use:2:0", 0)),
        ours("x", 0x5000, ("use:1:0", 4), size=12),
        ours("x", 0x5000, ("use:1:0", 0), size=9),
        ours("x", 0x5000, ("use:1:0", 0), sha256=ONE),
        ours("z", 0x5000, ("use:1:0", 0), ("name:z", 0)),
    ],
    ids=["marks disagree", "begins before it", "grew", "other value", "other name"],
)
def test_what_contradicts_itself_is_refused(later: AddedVariable) -> None:
    earlier = active(
        theirs("x", 0x3000, ("use:1:0", 0), ("name:x", 0)),
        theirs("y", 0x3100, ("use:2:0", 0), ("name:y", 0)),
    )
    assert refused(target(later), earlier) == "added-variable-differs"


def test_two_variables_never_become_one() -> None:
    earlier = active(theirs("x", 0x3000, ("use:1:0", 0), ("use:2:0", 0)))
    later = target(ours("p", 0x5000, ("use:1:0", 0)), ours("q", 0x6000, ("use:2:0", 0)))
    assert refused(later, earlier) == "added-variable-differs"


def test_what_is_not_told_is_refused() -> None:
    later = target()
    assert refused(replace(later, hotpatch=replace(later.hotpatch, variables=None)), active()) == (
        "added-variable-unknown"
    )
    assert refused(later, replace(active(), variables=None)) == "added-variable-unknown"
    assert refused(later, replace(active(), compared=("EMPTY",))) == "added-object-compared"
    old_header = replace(active(), entries=record(0x2000).entries)
    assert refused(later, old_header) == "cannot-take-over"


def port(name: str, address: int, function: int, *marks: str) -> Port:
    return Port(name, LinkAddress(address), LinkAddress(function), tuple(Mark(text, 0) for text in marks))


def test_addresses_that_were_handed_out_lead_to_the_later_function() -> None:
    """The place stays, for both hotpatches; where it leads is an entry like any other."""
    kept = PortRecord("callback", 0x2300, 0x2400, (Mark("use:1:0", 0), Mark("name:callback", 0)))
    earlier = replace(active(), ports=(kept,))
    later = replace(target(), hotpatch=replace(target().hotpatch, ports=(port("c", 0x9100, 0x1100, "use:1:0"),)))
    taken = take_over(later, earlier)
    assert taken.moved == (Moved(0x9100, 0x9105, 0x2300),)
    assert [(p.address, p.function) for p in port_records(later.hotpatch, 0x7000, taken)] == [(0x2300, 0x8100)]
    assert [(p.address, p.function) for p in port_records(later.hotpatch, 0x7000, None)] == [(0x10100, 0x8100)]
    entry = crossing_entries(taken.crossed, 0x7000, 0x2040)[-1]
    assert (entry.address, entry.old_bytes) == (0x2300, jump(0x2300, 0x2400))
    assert (entry.new, entry.original, entry.restores) == (0x8100, 0x2400, False)
    other = replace(later, hotpatch=replace(later.hotpatch, ports=(port("d", 0x9100, 0x1100, "use:2:0"),)))
    assert refused(other, earlier) == "added-function-kept"
    assert refused(replace(later, hotpatch=replace(later.hotpatch, ports=())), earlier) == "added-function-kept"


@pytest.mark.parametrize("gate", [0x7000_1040, 0x7F00_0000_0040])
def test_stubs_between_two_hotpatches(gate: int) -> None:
    """No two shadows want the same bytes in an entry, or a gate that says nothing of one could mean the other."""
    (entry,) = active().entries
    crossed, bias = Crossing(entry, 0x9000, "f", None), 0x7000_0000
    code = stub_code(crossed, bias, gate)
    assert len(code) <= STUB_BYTES
    (later,) = crossing_entries([crossed], bias, gate)
    assert (later.stub, later.stub_size, later.restores) == (bias + 0x9000, len(code), True)
    assert (later.old_bytes, later.build_bytes) == (entry.jump_to_new, entry.old_bytes)
    end = later.stub + len(code)
    assert code.endswith(jump(end - 10, entry.new) + jump(end - 5, entry.original))
    assert later.new == end - 5
    (again,) = crossing_entries([Crossing(later, 0xA000, "f", None)], bias, gate)
    assert again.old_bytes == later.jump_to_new != again.jump_to_new
    assert (again.original, again.build_bytes) == (entry.original, entry.old_bytes)
