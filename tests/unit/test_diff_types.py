"""What the types of two builds say about them: changes that machine code alone does not show."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from hotmend.diff.options import Options
from hotmend.diff.pipeline import compare
from hotmend.diff.rules.enumerations import compare_enumerations
from hotmend.diff.rules.types import matched
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.model.hotpatch import Outcome, TypeCoverage
from hotmend.model.types import Enumeration, TypePair, Types
from hotmend.model.verdict import Verdict
from tests.unit.debug import read_types_of

_PATCHED = (Verdict.HOTPATCH, Verdict.HOTPATCH_WITH_NOTES)
_HEAD = """
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#define KEEP __attribute__((noinline))
"""
_COMPILERS = {
    "gcc": ["gcc", "-g"],
    "clang": ["clang", "-g"],
    "DWARF 4": ["gcc", "-gdwarf-4"],
    "LTO": ["gcc", "-g", "-flto"],
}


@cache
def _build(source: str, compiler: tuple[str, ...], suffix: str = ".c") -> tuple[Image, Types]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"unit{suffix}")
        path.write_text(_HEAD + source)
        library = path.with_suffix(".so")
        flags = ["-O2", "-fPIC", "-shared", "-fno-builtin", "-Wl,--build-id"]
        subprocess.run([*compiler, *flags, "-o", library, path], check=True)
        return read_image(library), read_types_of(library)


def _compare(source: str, old: str, new: str, compiler: str = "gcc", suffix: str = ".c") -> Outcome:
    command = _COMPILERS[compiler]
    if suffix == ".cc":
        command = [{"gcc": "g++", "clang": "clang++"}[command[0]], *command[1:]]
    before = _build(source.replace("CHANGE", old), tuple(command), suffix)
    after = _build(source.replace("CHANGE", new), tuple(command), suffix)
    return compare(before[0], after[0], options=Options(types=TypePair(before[1], after[1])))


def _subjects(outcome: Outcome, code: str) -> str:
    return "; ".join(subject for r in outcome.reasons if r.code == code for subject in r.subjects)


# The new build of each also prints something else, so that there is a function to patch.
_USERS = """
KEEP int show(struct thing *t) { printf("%d VERSION\\n", t->first); return t->first; }
KEEP void fill(struct thing *t) { memset(t, 0, sizeof *t); t->first = 3; }
struct thing *make(void) { struct thing *t = malloc(256); if (t) fill(t); return t; }
"""
_STRUCTURE = "struct thing { int first; CHANGE };" + _USERS
_UNION = "union two { int a; char text[CHANGE]; }; struct thing { int first; union two u; char room[64]; };" + _USERS
_PADDING = "struct thing { int first; CHANGE long last; };" + _USERS
_BITS = "struct thing { int first; CHANGE };" + _USERS
_ENUM = "enum state { CHANGE }; struct thing { int first; enum state state; };" + _USERS.replace("= 3", "= READY")
_UNNAMED = "enum { CHANGE }; struct thing { int first; int state; };" + _USERS.replace("= 3", "= READY")
_PACKED = "enum CHANGE small { LOW = 1, HIGH = 2 }; struct thing { int first; enum small s; };" + _USERS.replace(
    "t->first = 3;", "t->first = 3; t->s = HIGH;"
)
_SIGNATURE = "struct thing { int first; }; int take(int x CHANGE) { return x * 7; }" + _USERS
_BOUND = "struct thing { int first; }; static int list[CHANGE]; int *at(int i) { return list + i; }" + _USERS
_POINTER = "struct a { int x; }; struct b { int y; }; struct thing { int first; CHANGE *next; };" + _USERS
_ALIAS = "typedef struct { CHANGE int y; } pair_t; struct thing { int first; pair_t *pair; };" + _USERS.replace(
    "t->first = 3;", "t->first = 3; t->pair = malloc(64);"
)

# name: (source, old, new, code, a subject that tells it)
_DANGEROUS = {
    "member added at the end": (_STRUCTURE, "int a;", "int a; int b;", "structure-layout-changed",
                                "struct thing: member b added at 0x8"),
    "member added before": (_STRUCTURE, "int a;", "long z; int a;", "structure-layout-changed",
                            "struct thing: member a moved 0x4 -> 0x10"),
    "members reordered": (_STRUCTURE, "int a; int b;", "int b; int a;", "structure-layout-changed",
                          "struct thing: member a moved 0x4 -> 0x8"),
    "member removed": (_STRUCTURE, "int a; int b;", "int a;", "structure-layout-changed", "member b removed from 0x8"),
    "member resized": (_STRUCTURE, "int a;", "long a;", "structure-layout-changed", "changed its type int32 -> int64"),
    "member in old padding": (_PADDING, "", "int fresh;", "structure-layout-changed", "member fresh added at 0x4"),
    "bit-field moved": (_BITS, "int a:3, b:5;", "int b:5, a:3;", "structure-layout-changed", "a moved 0x4 bit 0"),
    "bit-field resized": (_BITS, "int a:3;", "int a:4;", "structure-layout-changed", "a resized 3 -> 4 bits"),
    "union grown": (_UNION, "8", "12", "structure-layout-changed", "union two: size 8 -> 12 bytes"),
    "alignment": (_STRUCTURE, "int a;", "_Alignas(16) int a;", "structure-layout-changed", "member a moved"),
    "kind of the pointed to": (_POINTER, "struct a", "struct b", "structure-layout-changed", "* -> struct b *"),
    "unnamed structure": (_ALIAS, "", "int x;", "structure-layout-changed", "struct pair_t: member x added at 0x0"),
    "float for an integer": (_STRUCTURE, "int a;", "float a;", "structure-layout-changed", "int32 -> float32"),
    "enumerator inserted": (_ENUM, "IDLE, READY", "IDLE, WAIT, READY", "enumeration-changed", "READY = 1 -> 2"),
    "enumerators swapped": (_ENUM, "IDLE, READY", "READY, IDLE", "enumeration-changed", "enum state: IDLE = 0 -> 1"),
    "enumerator removed": (_ENUM, "IDLE, GONE, READY=5", "IDLE, READY=5", "enumeration-changed", "GONE = 1 removed"),
    "unnamed enumerator": (_UNNAMED, "IDLE, READY", "IDLE, WAIT, READY", "enumeration-changed", "READY = 1 -> 2"),
    "enumeration resized": (_PACKED, "__attribute__((packed))", "", "enumeration-changed",
                            "enum small: size 1 -> 4 bytes"),
    "parameter added": (_SIGNATURE, "", ", long more", "function-type-changed",
                        "take: int32 (int32) -> int32 (int32, int64)"),
    "array bound": (_BOUND, "64", "128", "variable-type-changed", "list: int32 [64] -> int32 [128]"),
}  # fmt: skip
_HARMLESS = {
    "another name of a type": (_STRUCTURE, "int a;", "signed int a;"),
    "a qualifier": (_POINTER, "struct a", "const struct a"),
    "unsigned for signed": (_STRUCTURE, "int a;", "unsigned a;"),
    "an enumerator added": (_ENUM, "IDLE, READY", "IDLE, READY, LATER"),
    "a number for a type of its own": (_BOUND, "64", "0x40"),
}


def _versions(case: tuple[str, ...], compiler: str) -> Outcome:
    source, old, new = case[:3]
    # Both builds differ in a function as well: the version is part of what CHANGE is replaced by.
    before = _build(source.replace("CHANGE", old).replace("VERSION", "old text"), tuple(_COMPILERS[compiler]))
    after = _build(source.replace("CHANGE", new).replace("VERSION", "new text"), tuple(_COMPILERS[compiler]))
    return compare(before[0], after[0], options=Options(types=TypePair(before[1], after[1])))


@pytest.mark.parametrize("compiler", list(_COMPILERS))
@pytest.mark.parametrize("name", list(_DANGEROUS))
def test_a_changed_layout_is_refused_and_named(name: str, compiler: str) -> None:
    case = _DANGEROUS[name]
    outcome = _versions(case, compiler)
    assert outcome.verdict is Verdict.BASELINE_REQUIRED
    assert case[4] in _subjects(outcome, case[3]), outcome.reasons


@pytest.mark.parametrize("compiler", list(_COMPILERS))
@pytest.mark.parametrize("name", list(_HARMLESS))
def test_what_looks_the_same_in_memory_is_not_refused(name: str, compiler: str) -> None:
    outcome = _versions(_HARMLESS[name], compiler)
    assert outcome.verdict in _PATCHED, outcome.reasons
    assert outcome.statistics.types is TypeCoverage.COMPLETE


@pytest.mark.parametrize("name", list(_DANGEROUS))
def test_the_same_types_have_no_reason(name: str) -> None:
    source, old, *_ = _DANGEROUS[name]
    outcome = _versions((source, old, old), "gcc")
    assert outcome.verdict is Verdict.HOTPATCH, outcome.reasons


_COUNTED = "enum state { IDLE, CHANGE STATE_MAX }; struct thing { int first; enum state state; };" + _USERS


def test_a_count_that_grew_is_a_note() -> None:
    outcome = _versions((_COUNTED, "READY,", "READY, LATER,"), "gcc")
    assert outcome.verdict is Verdict.HOTPATCH_WITH_NOTES
    assert "STATE_MAX = 2 -> 3" in _subjects(outcome, "enumeration-grew")


_ANOTHER_MEMBER = """
struct thing { long state, limit, count; };
long get_state(struct thing *s) { puts("state"); return s->state * 3; }
long choose(struct thing *s, int x) { if (x > CHANGE + x; }
"""


def test_types_disprove_a_guess_from_displacements() -> None:
    old, new = '5) puts("large"); return s->limit', '9) puts("large"); return s->count'
    outcome = _compare(_ANOTHER_MEMBER, old, new)
    assert outcome.verdict is Verdict.HOTPATCH
    assert outcome.reasons == ()
    assert outcome.statistics.types is TypeCoverage.COMPLETE


def test_without_types_or_with_a_new_structure_the_guess_stays() -> None:
    old, new = '5) puts("large"); return s->limit', '9) puts("large"); return s->count'
    more = "struct fresh { long a, b, c; }; struct fresh *fresh_one(void) { return calloc(1, sizeof(struct fresh)); }"
    before = _build(_ANOTHER_MEMBER.replace("CHANGE", old), ("gcc", "-g"))
    after = _build(_ANOTHER_MEMBER.replace("CHANGE", new), ("gcc", "-g"))
    fresh = _build(_ANOTHER_MEMBER.replace("CHANGE", new) + more, ("gcc", "-g"))
    for image, types in (
        (after[0], None),
        (fresh[0], TypePair(before[1], fresh[1])),
        (after[0], TypePair(before[1], _without_code(after[1]))),
    ):
        outcome = compare(before[0], image, options=Options(types=types))
        assert "displacement-changed" in {r.code for r in outcome.reasons}


def _without_code(types: Types) -> Types:
    return replace(types, covered=())


_VIRTUAL = """
struct shape { virtual int area() { return 3; } CHANGE virtual int last() { return 4; } int x; };
extern "C" KEEP int show(shape *s) { puts("VERSION"); return s->last() + s->area(); }
extern "C" shape *make() { return new shape; }
"""


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_virtual_function_between_others_is_refused(compiler: str) -> None:
    outcome = _compare(_VIRTUAL, "", "virtual int middle() { return 5; }", compiler, ".cc")
    assert outcome.verdict is Verdict.BASELINE_REQUIRED
    subjects = _subjects(outcome, "virtual-table-changed")
    assert "_ZN5shape6middleEv added at place 1" in subjects
    assert "_ZN5shape4lastEv moved from place 1 to 2" in subjects


def _pairs(old: list[tuple[str, str, int]], new: list[tuple[str, str, int]]) -> list[tuple[int, int]]:
    """Compare (name, file, content)."""
    found = matched(old, new, lambda d: (d[0], d[1]), lambda d: d[2])
    return [(a[2], b[2]) for a, b in found]


@pytest.mark.parametrize(
    ("old", "new", "pairs"),
    [
        ([("s", "a.h", 1)], [("s", "a.h", 1)], []),
        ([("s", "a.h", 1)], [("s", "a.h", 2)], [(1, 2)]),
        ([("s", "a.h", 1)], [("t", "a.h", 2)], []),
        # the same name in two files: each with its own
        ([("s", "a.c", 1), ("s", "b.c", 2)], [("s", "a.c", 1), ("s", "b.c", 3)], [(2, 3)]),
        ([("s", "a.c", 1), ("s", "b.c", 2)], [("s", "a.c", 2), ("s", "b.c", 1)], [(1, 2), (2, 1)]),
        # one unit keeps the old definition, another one has a changed one in the same file
        ([("s", "a.h", 1)], [("s", "a.h", 1), ("s", "a.h", 2)], [(1, 2)]),
        ([("s", "a.h", 1), ("s", "a.h", 2)], [("s", "a.h", 1)], [(2, 1)]),
        # moved to another file, changed or not
        ([("s", "a.h", 1)], [("s", "b.h", 1)], []),
        ([("s", "a.h", 1)], [("s", "b.h", 2)], [(1, 2)]),
        # a private type of a new unit is no change
        ([("s", "a.c", 1)], [("s", "a.c", 1), ("s", "b.c", 2)], []),
        ([("s", "a.c", 1), ("s", "b.c", 2)], [("s", "a.c", 1)], []),
    ],
)
def test_definitions_of_one_name_are_told_apart_by_their_files(
    old: list[tuple[str, str, int]], new: list[tuple[str, str, int]], pairs: list[tuple[int, int]]
) -> None:
    assert _pairs(old, new) == pairs


def _enumeration(name: str, file: str = "a.c", **values: int) -> Enumeration:
    return Enumeration(name, file, 4, tuple(values.items()))


def test_an_enumeration_that_lost_its_name_is_known_by_its_enumerators() -> None:
    old, new = _enumeration("state", IDLE=0, READY=1), _enumeration("", IDLE=0, READY=2)
    assert compare_enumerations((old,), (new,))[0] == ["enum state: READY = 1 -> 2"]
    assert compare_enumerations((old,), (_enumeration("", OTHER=0),)) == ([], [])


def test_enumerators_of_two_units_are_told_apart_by_their_files() -> None:
    old = (_enumeration("", "a.c", X=1), _enumeration("", "b.c", X=2))
    assert compare_enumerations(old, old) == ([], [])
    swapped = (_enumeration("", "a.c", X=2), _enumeration("", "b.c", X=1))
    assert len(compare_enumerations(old, swapped)[0]) == 2


def test_a_count_has_to_stand_behind_all_others() -> None:
    old = _enumeration("e", A=0, B=1, E_MAX=2)
    assert compare_enumerations((old,), (_enumeration("e", A=0, B=1, C=2, E_MAX=3),))[1]
    for new in (_enumeration("e", A=0, B=1, C=3, E_MAX=3), _enumeration("e", A=0, B=1, E_MAX=9)):
        changed, counts = compare_enumerations((old,), (new,))
        assert changed
        assert not counts
