"""Where a shadow goes and what its fields become; the header's own format; the scan's matching rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.linux.procfs import Mapping
from hotmend.live.gate import FunctionRecord, jump
from hotmend.live.layout import Place, RelocationError, choose_start, field_bytes
from hotmend.live.safety import Forbidden
from hotmend.model.addresses import LinkAddress
from hotmend.model.hotpatch import GateTarget, OldTarget, Relocation, RelocationKind, ShadowTarget

PAGE = 4096
PLACE = Place(old_bias=0x5000_0000_0000, shadow_bias=0x5000_4000_0000, gate=0x5000_3FFF_F040, imports={})


def mapping(start: int, end: int, path: str = "") -> Mapping:
    """Return a mapping of whole pages."""
    return Mapping(start, end, "r-xp", 0, "00:00", 0, path)


def relocation(kind: RelocationKind, target: OldTarget | ShadowTarget | GateTarget, addend: int = 0) -> Relocation:
    """Return a relocation at shadow address 0x1000."""
    return Relocation(LinkAddress(0x1000), kind, target, addend, "votes")


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=20),
    st.integers(1, 30),
    st.integers(0, 2000),
)
def test_the_chosen_place_is_free(shape: list[tuple[int, int]], pages: int, wish: int) -> None:
    maps, position = [], 0x10
    for gap, size in shape:
        maps.append(mapping((position + gap) * PAGE, (position + gap + size) * PAGE))
        position += gap + size
    low, high = 0x10000, 0x10000 + 3000 * PAGE
    start = choose_start(maps, pages * PAGE, low, high, wish * PAGE)
    assert start is not None
    assert low <= start <= high
    assert all(m.end < start or m.start > start + pages * PAGE for m in maps)


def test_no_room_and_places_to_leave_alone() -> None:
    full = [mapping(0x10000, 0x7FFF_FFFF_F000)]
    assert choose_start(full, PAGE, 0, 1 << 47, 0) is None
    heap = [
        mapping(0x10000, 0x400000),
        mapping(0x400000, 0x500000, "[heap]"),
        mapping(0x7000_0000_0000, 0x7FFF_FFFF_F000),
    ]
    start = choose_start(heap, PAGE, 0, 0x7FFF_0000, 0x400000)
    assert start == 0x7FFF_0000, "only the far end of the heap's gap"
    stack = [mapping(0x10000, 0x400000), mapping(0x7FFF_0000_0000, 0x7FFF_FFFF_F000, "[stack]")]
    assert choose_start(stack, PAGE, 0, 1 << 47, 0x500000) is None


def test_fields() -> None:
    old = OldTarget(LinkAddress(0x2000))
    value = int.from_bytes(field_bytes(relocation(RelocationKind.PC32, old, -4), PLACE), "little", signed=True)
    assert value == 0x2000 - 4 - 0x4000_1000
    assert field_bytes(relocation(RelocationKind.ABS64, GateTarget()), PLACE) == PLACE.gate.to_bytes(8, "little")
    with pytest.raises(RelocationError):
        field_bytes(relocation(RelocationKind.ABS32S, ShadowTarget(LinkAddress(0))), PLACE)
    far = Place(old_bias=0, shadow_bias=1 << 40, gate=0, imports={})
    with pytest.raises(RelocationError):
        field_bytes(relocation(RelocationKind.PC32, old), far)


@given(st.integers(0, 1 << 40), st.integers(-(1 << 31), (1 << 31) - 1))
def test_jump(source: int, distance: int) -> None:
    code = jump(source, source + 5 + distance)
    assert code[0] == 0xE9
    assert int.from_bytes(code[1:], "little", signed=True) == distance


def test_jump_out_of_reach() -> None:
    with pytest.raises(OverflowError):
        jump(0, 1 << 33)


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 50)), max_size=20),
    st.lists(st.integers(0, 6000), max_size=50),
)
def test_matching_rule(ranges: list[tuple[int, int]], words: list[int]) -> None:
    """`start < w <= end`, against the rule written down plainly (ranges made disjoint first)."""
    functions: list[FunctionRecord] = []
    last = 0
    for gap, size in ranges:
        functions.append(FunctionRecord(str(len(functions)), last + gap % 60, size))
        last = functions[-1].address + size
    found = {word for word, _ in Forbidden(functions).matches(np.array(words, dtype=np.uint64))}
    plain = {i for i, w in enumerate(words) if any(f.address < w <= f.address + f.size for f in functions)}
    assert found == plain


def test_interiors_leave_the_entry_itself() -> None:
    inner = Forbidden.interiors([("f", 0x1000)])
    assert [inner.name_at(0x1000 + i) for i in range(6)] == [None, "f", "f", "f", "f", None]
