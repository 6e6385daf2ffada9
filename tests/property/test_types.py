"""Comparing types: laws that hold for any types, and reading any bytes."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotmend.debug.read import Reading
from hotmend.diff.rules.enumerations import compare_enumerations
from hotmend.diff.rules.records import compare_records, compare_slots
from hotmend.diff.rules.types import matched
from hotmend.image.elf import read_image
from hotmend.model.errors import InputError
from hotmend.model.types import Enumeration, Member, Record, Types

_NAMES = st.sampled_from(["a", "b", "c", ""])
_FILES = st.sampled_from(["x.h", "y.h", "z.c"])
_MEMBERS = st.builds(Member, _NAMES, st.integers(-1, 64), st.integers(0, 3), st.sampled_from(["int32", "int64"]))
_SLOTS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["f", "g", "h"])), max_size=3)
_RECORDS = st.builds(
    Record,
    st.sampled_from(["struct", "union"]),
    st.sampled_from(["s", "t"]),
    _FILES,
    st.integers(0, 64),
    st.sampled_from([0, 16]),
    st.lists(_MEMBERS, max_size=4).map(tuple),
    _SLOTS.map(sorted).map(tuple),
)
_ENUMERATIONS = st.builds(
    Enumeration,
    st.sampled_from(["e", "f", ""]),
    _FILES,
    st.sampled_from([1, 4]),
    st.dictionaries(st.sampled_from(["A", "B", "C", "E_MAX"]), st.integers(-2, 5), min_size=1).map(
        lambda values: tuple(values.items())
    ),
)


def _pairs(old: list[Record], new: list[Record]) -> list[tuple[Record, Record]]:
    return matched(old, new, lambda r: ((r.kind, r.name), r.file), lambda r: (r.size, r.alignment, r.members, r.slots))


@given(st.lists(_RECORDS, max_size=6))
def test_types_equal_themselves_in_any_order(records: list[Record]) -> None:
    assert _pairs(records, list(reversed(records))) == []


@given(st.lists(_ENUMERATIONS, max_size=5))
def test_enumerations_equal_themselves_in_any_order(enumerations: list[Enumeration]) -> None:
    assert compare_enumerations(tuple(enumerations), tuple(reversed(enumerations))) == ([], [])


@given(st.lists(_RECORDS, max_size=5), st.lists(_RECORDS, max_size=5))
def test_what_differs_one_way_differs_the_other_way(old: list[Record], new: list[Record]) -> None:
    def names(pairs: list[tuple[Record, Record]]) -> set[tuple[str, str]]:
        return {(a.kind, a.name) for a, _ in pairs}

    assert names(_pairs(old, new)) == names(_pairs(new, old))


@given(_RECORDS, _RECORDS)
def test_no_difference_goes_without_a_word(old: Record, new: Record) -> None:
    lines = [*compare_records(old, new), *compare_slots(old, new)]
    same = (old.size, old.alignment, old.members, old.slots) == (new.size, new.alignment, new.members, new.slots)
    assert bool(lines) != same


@given(st.lists(_RECORDS, min_size=1, max_size=6), st.data())
def test_a_changed_definition_is_never_lost(records: list[Record], data: st.DataObject) -> None:
    """Change the size of one of several definitions, in its own file: whatever else there is, it is reported."""
    index = data.draw(st.integers(0, len(records) - 1))
    old = records[index]
    changed = Record(old.kind, old.name, old.file, old.size + 1000, old.alignment, old.members, old.slots)
    found = _pairs(records, [*records[:index], changed, *records[index + 1 :]])
    still_there = any(r == old for n, r in enumerate(records) if n != index)
    assert any(changed in pair for pair in found) or still_there
    assert found


_SOURCE = """
struct node { struct node *next; int a : 3, b : 9; union { long l; char c[9]; } u; enum { X, Y = 7 } e; double d[3]; };
static struct node nodes[4]; int count;
int use(int i) { count += i; nodes[i & 3].a++; return nodes[i & 1].b + (int)nodes[i & 2].d[1]; }
"""


@cache
def _debug_file() -> tuple[bytes, int, int]:
    """A small file with debug information, and where that begins and ends."""
    with TemporaryDirectory() as folder:
        source, library = Path(folder, "n.c"), Path(folder, "n.so")
        source.write_text(_SOURCE)
        flags = ["-g", "-O2", "-fPIC", "-shared", "-Wl,--build-id"]
        subprocess.run(["gcc", *flags, "-o", library, source], check=True)
        sections = [s for s in read_image(library).sections if s.name.startswith(".debug_")]
        return library.read_bytes(), min(s.offset for s in sections), max(s.offset + s.size for s in sections)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6)
)
def test_damaged_debug_information_is_types_or_an_error(damage: list[tuple[float, bytes]]) -> None:
    data, low, high = _debug_file()
    broken = bytearray(data)
    for where, patch in damage:
        at = low + int(where * (high - low))
        broken[at : at + len(patch)] = patch
    with TemporaryDirectory() as folder:
        path = Path(folder, "broken")
        path.write_bytes(broken)
        try:
            assert isinstance(Reading(path, "broken", "").types(), Types)
        except InputError as error:
            assert "broken" in str(error)
