"""The rules of the verdict, each on a small pair of libraries with and without its cause."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from hotmend.diff.pipeline import compare
from hotmend.diff.rules import layout
from hotmend.diff.rules.layout import Shift, judge_thread_storage
from hotmend.diff.rules.room import _aligned_anew
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.model.hotpatch import Outcome
from hotmend.model.verdict import Verdict
from tests.unit.elf_maker import Library

_PATCHED = (Verdict.HOTPATCH, Verdict.HOTPATCH_WITH_NOTES)
_HEAD = """
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#define KEEP __attribute__((noinline))
"""


@cache
def _build(source: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rule.c")
        path.write_text(_HEAD + source)
        library = path.with_suffix(".so")
        command = ["gcc", "-O2", "-fPIC", "-shared", "-fno-builtin", "-Wl,--build-id", "-o", library, path]
        subprocess.run(command, check=True)  # type: ignore[arg-type]
        return read_image(library)


def _compare(source: str, old: str, new: str) -> Outcome:
    return compare(_build(source.replace("CHANGE", old)), _build(source.replace("CHANGE", new)))


def _codes(outcome: Outcome) -> set[str]:
    return {reason.code for reason in outcome.reasons}


_MEMBERS = """
struct session { CHANGE long state, limit, count; };
long get_state(struct session *s) { return s->state * 3; }
long get_limit(struct session *s) { return s->limit + 7; }
void add(struct session *s, long n) { s->count += n; }
int unrelated(int x) { return x * 3; }
"""
_OTHER_MEMBER = """
struct session { long state, limit, count; };
long get_state(struct session *s) { puts("state"); return s->state * 3; }
long choose(struct session *s, int x) { if (x > CHANGE + x; }
"""
_GROWN_SIZE = """
void *make(int kind) { char *p = malloc(CHANGE); if (p) p[0] = (char)kind; return p; }
"""
_ARRAY = """
static int table[CHANGE]; static int behind[4];
int get(unsigned n) { return n < CHANGE ? table[n] : behind[n & 3]; }
void set(unsigned n, int v) { if (n < CHANGE) table[n] = v; else behind[n & 3] = v; }
int *first(void) { return table; }
int *second(void) { return behind; }
"""
_THREAD = """
CHANGE __thread int mine = 3; int get(void) { return mine; } void set(int v) { mine = v; }
"""
_EXPORTED_DATA = "int shared[CHANGE] = {1}; int get(void) { return 4; }"
_EXPORTS = "int get(void) { return 4; } CHANGE"
_RAW = """
__asm__(".text\\n.globl raw\\n.hidden raw\\n.type raw, @function\\n"
        "raw: mov $CHANGE, %eax\\n ret\\n.size raw, .-raw\\n");
int raw(void);
KEEP int keep(int x) { return x * 5; }
int use(int x) { return raw() + keep(x) + CHANGE; }
"""
_CALLEE = """
KEEP static int one(int x) { puts("one"); return x * 3; }
KEEP static int two(int x) { puts("two"); return x * 5; }
int pick(int x) { return CHANGE(x) + 1; }
int both(int x) { return one(x) ^ two(x); }
"""
_GOTO = """
int step(const unsigned char *p)
{
    static const void *const labels[] = {&&halt, &&add, &&twice};
    int sum = 0;
    goto *labels[*p];
halt: return sum;
add: sum += CHANGE; goto *labels[*++p];
twice: sum *= 2; goto *labels[*++p];
}
"""
_SHORT = "int answer(void) { return CHANGE; }"
_STRING = 'const char *greet(void) { return "hello CHANGE"; } int get(void) { return 4; }'
_INITIAL = "static int level = CHANGE; int get(void) { return level; } void set(int v) { level = v; }"

# name: (source, old, new, code that must be among the reasons, verdicts that are right)
_RULES: dict[str, tuple[str, str, str, str, tuple[Verdict, ...]]] = {
    "a member inserted": (_MEMBERS, "", "long fresh;", "structure-layout-changed", (Verdict.BASELINE_REQUIRED,)),
    "another member used": (_OTHER_MEMBER, "5) puts(\"large\"); return s->limit", "9) puts(\"large\"); return s->count",
                            "displacement-changed", (Verdict.HOTPATCH_WITH_NOTES,)),
    "a larger allocation": (_GROWN_SIZE, "40", "48", "allocation-size-changed", (Verdict.BASELINE_REQUIRED,)),
    "an array grown": (_ARRAY, "16", "20", "object-grew", (Verdict.BASELINE_REQUIRED,)),
    "a thread variable added": (_THREAD, "", "__thread int more = 2;", "tls-layout-changed",
                                (Verdict.BASELINE_REQUIRED,)),
    "exported data grown": (_EXPORTED_DATA, "2", "4", "exported-data-changed", (Verdict.BASELINE_REQUIRED,)),
    "an export removed": (_EXPORTS, "int old(void) { return 9; }", "", "export-removed",
                          (Verdict.NO_CHANGE, Verdict.HOTPATCH_WITH_NOTES)),
    "code outside of frames changed": (_RAW, "1", "2", "code-outside-frames-changed", (Verdict.BASELINE_REQUIRED,)),
    "labels of a changed function": (_GOTO, "1", "3", "computed-goto", (Verdict.BASELINE_REQUIRED,)),
    "an initial value": (_INITIAL, "4", "5", "initial-value-changed", (Verdict.BASELINE_REQUIRED,)),
    "a version in a text": (_STRING, "1.2.3", "1.2.4", "version-text-kept", (Verdict.NO_CHANGE,)),
}  # fmt: skip
_CLEAN: dict[str, tuple[str, str, str, set[str]]] = {
    "another callee with equal bytes around it": (_CALLEE, "one", "two", {"pick"}),
    "a changed constant": (_SHORT, "1", "2", {"answer"}),
    "a changed text": (_STRING, "world", "there", {"greet"}),
}


@pytest.mark.parametrize("name", list(_RULES))
def test_a_cause_gives_its_reason(name: str) -> None:
    source, old, new, code, verdicts = _RULES[name]
    outcome = _compare(source, old, new)
    assert code in _codes(outcome), outcome.reasons
    assert outcome.verdict in verdicts, outcome.reasons


@pytest.mark.parametrize("name", list(_RULES))
@pytest.mark.parametrize("side", [1, 2])
def test_the_same_build_twice_has_no_reason(name: str, side: int) -> None:
    case = _RULES[name]
    outcome = _compare(case[0], str(case[side]), str(case[side]))
    assert (outcome.verdict, outcome.reasons) == (Verdict.NO_CHANGE, ())
    assert outcome.statistics.reconstructed == outcome.statistics.reconstructible > 0


@pytest.mark.parametrize("name", list(_CLEAN))
def test_a_small_change_is_hotpatched(name: str) -> None:
    source, old, new, functions = _CLEAN[name]
    outcome = _compare(source, old, new)
    assert outcome.verdict in _PATCHED, outcome.reasons
    assert outcome.hotpatch is not None
    assert {f.name for f in outcome.hotpatch.functions} == functions
    assert {r.name for r in outcome.hotpatch.redirections} == functions


def _shift(function: str, *, alone: bool = False) -> Shift:
    return Shift(0, function, 0x1000, 8, 16, 8, alone)


@pytest.mark.parametrize(
    ("group", "kept", "proves"),
    [
        ([_shift("f")], set(), False),
        ([_shift("f"), _shift("f")], set(), False),
        ([_shift("f", alone=True)], set(), True),
        ([_shift("f"), _shift("g")], set(), True),
        ([_shift("f"), _shift("g")], {"f", "g"}, True),
        ([_shift("f"), _shift("g")], {"h"}, True),
        ([_shift("f"), _shift("g")], {"h", "i"}, False),
        ([_shift("f", alone=True)], {"g", "h"}, True),
    ],
)
def test_a_moved_member_shows_in_several_functions_or_alone(group: list[Shift], kept: set[str], proves: bool) -> None:
    assert layout._proves(group, kept) is proves


@pytest.mark.parametrize(
    ("old", "new", "next_old", "next_new", "alignment", "moved"),
    [
        (0x1004, 0x1008, 0x1010, 0x1018, 8, True),  # 12 bytes before, 16 now: only other padding
        (0x1000, 0x1000, 0x1010, 0x1018, 8, False),  # both stood alike: it grew
        (0x1004, 0x1008, 0x1010, 0x1028, 8, False),  # more than padding explains
        (0x1004, 0x1008, 0x1014, 0x1018, 8, False),  # the next one was never aligned
    ],
)
def test_padding_in_front_of_an_aligned_object_is_no_growth(
    old: int, new: int, next_old: int, next_new: int, alignment: int, moved: bool
) -> None:
    assert _aligned_anew(old, new, next_old - old, next_old, next_new, alignment) is moved


def test_thread_storage_has_to_stay_as_it_is() -> None:
    image = read_image(Library(rodata=b"AAAABBBB").but())
    at = 0xC00
    one = replace(image, tls=(at, 4, 8, 4))
    assert judge_thread_storage(one, one) == []
    assert judge_thread_storage(one, replace(image, tls=(at, 4, 8, 4))) == []
    for tls in ((at, 4, 12, 4), (at, 8, 8, 4), (at, 4, 8, 16), (at + 4, 4, 8, 4), (0, 0, 0, 0)):
        (reason,) = judge_thread_storage(one, replace(image, tls=tls))
        assert reason.reason.code == "tls-layout-changed"


_VARIABLES = """
static int gone_a; static int counter; OTHER static int last;
KEEP int first(int x) { USE_A return x + counter; }
KEEP int second(int x) { USE_B return x * last; }
KEEP int third(int x) { counter += x; return second(x) + last; }
KEEP int fourth(int x) { last += x; return first(x) + counter; }
"""


@pytest.mark.parametrize(
    ("other", "use_a", "use_b", "taken"),
    [
        ("static int fresh;", "gone_a += x;", "fresh += x;", True),  # only added
        ("static int fresh;", "fresh += x;", "", False),  # the same user had one before: it may be that
    ],
)
def test_an_added_variable_is_no_lost_one(other: str, use_a: str, use_b: str, taken: bool) -> None:
    old = _VARIABLES.replace("OTHER", "").replace("USE_A", "gone_a += x;").replace("USE_B", "")
    new = _VARIABLES.replace("OTHER", other).replace("USE_A", use_a).replace("USE_B", use_b)
    outcome = compare(_build(old), _build(new))
    assert (outcome.verdict in _PATCHED) is taken, outcome.reasons
