"""What changed in data alone, where code and everything around it are the same, on small pairs of libraries."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from hotmend.diff.compare import _aligned_anew
from hotmend.diff.objects import Objects
from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.image.references import survey
from hotmend.model.hotpatch import Outcome
from hotmend.model.verdict import Severity, Verdict

_PATCHED = (Verdict.HOTPATCH, Verdict.HOTPATCH_WITH_NOTES)
_HEAD = """
#include <stdio.h>
#include <string.h>
#define KEEP __attribute__((noinline))
static int counter;
KEEP int count(int x) { counter += x; return printf("%d\\n", x); }
KEEP int measure(const char *text) { return count(counter += strlen(text)) + 2; }
"""


@cache
def _build(source: str, compiler: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "contents.c")
        path.write_text(_HEAD + source)
        library = path.with_suffix(".so")
        command = [compiler, "-O2", "-fPIC", "-shared", "-fno-builtin", "-Wl,--build-id", "-o", str(library), str(path)]
        subprocess.run(command, check=True)
        subprocess.run(["strip", str(library)], check=True)
        return read_image(library)


def _compare(source: str, old: str, new: str, compiler: str = "gcc") -> Outcome:
    before, after = (_build(source.replace("CHANGE", change), compiler) for change in (old, new))
    return compare(before, after)


def _redirected(outcome: Outcome) -> set[str]:
    assert outcome.verdict in _PATCHED, (outcome.verdict, outcome.reasons)
    assert outcome.hotpatch is not None
    return {r.name for r in outcome.hotpatch.redirections}


_POINTERS = """
static const char *const more[] = {"x", "y", 0};
static const char *const bad[] = {"a", "b" CHANGE};
"""
_LAST_POINTERS = """
static const char *const bad[] = {"a", "b", "c", "d" CHANGE};
static const char *const more[] = {"x", "y", "z", 0};
"""
_BAD = """
int is_bad(char x)
{
    char text[2] = {x, 0};
    for (const char *const *p = bad; *p; p++) if (!strcmp(*p, text)) return 1;
    return count(1) * 0;
}
"""
_MORE = """
int is_more(const char *text)
{
    for (const char *const *p = more; *p; p++) if (!strcmp(*p, text)) return 1;
    return count(1) * 0 + 4;
}
"""
_NUMBERS = """
static const short ids[] = {3, 5, 9, 11, 13, 15, 17, 19 CHANGE};
static const short others[] = {77, 78, 79, 80, 81, 82, 0};
int is_bad(int x) { for (const short *p = ids; *p; p++) if (*p == x) return 1; return count(x) * 0; }
int is_more(int x) { for (const short *p = others; *p; p++) if (*p == x) return 1; return count(x) * 0 + 2; }
"""


@pytest.mark.parametrize("source", [_POINTERS + _MORE + _BAD, _LAST_POINTERS + _BAD + _MORE, _NUMBERS])
def test_an_end_that_was_missing_in_a_list_is_no_padding(source: str) -> None:
    assert _redirected(_compare(source, "", ", 0")) == {"is_bad"}


@pytest.mark.parametrize(
    ("next_old", "end", "next_new", "another", "moved"),
    [
        (0x1010, 0x1014, 0x1018, False, True),  # 16 bytes from 0x1000, now from 0x1004: padding up to the next eight
        (0x1020, 0x1010, 0x1020, False, True),
        (0x1010, 0x1010, 0x1020, False, False),  # both builds have it at a multiple of 16: it grew
        (0x1010, 0x1014, 0x1028, False, False),  # more than padding explains
        (0x1014, 0x1014, 0x1018, False, False),  # the next one was never aligned
        (0x1014, 0x1014, 0x1018, True, True),  # another one follows
        (0x1014, 0x1014, 0x1020, True, True),
    ],
)
def test_zeros_are_padding_where_alignment_asks_for_them(
    next_old: int, end: int, next_new: int, another: bool, moved: bool
) -> None:
    assert _aligned_anew(next_old, end, next_new, another=another) is moved


_FROM_WITHIN = """
struct kind { const char *name; long limit; };
static const struct kind kinds[3] = { { "one", CHANGE }, { "two", 7 }, { "three", 9 } };
long limit(long i) { return i < -1 || i > 1 ? 0 : (&kinds[1])[i].limit; }
"""


def test_what_stands_before_the_first_reference_into_a_table_is_compared() -> None:
    """It stands at the beginning of its section, behind nothing."""
    outcome = _compare(_FROM_WITHIN, "1000", "100")
    assert {r.code for r in outcome.reasons if r.severity is Severity.REFUSAL} == {"unexplained-data-change"}


_NAMES = """
static const char *const names[] = { "alpha", "beta", ODD, "delta", "CHANGE", "zeta" };
const char *name(unsigned i) { return i < 6 ? names[i] : "none"; }
"""


@pytest.mark.parametrize("odd", ['""', '"a"'])
def test_a_table_of_distances_to_texts_goes_on_behind_an_empty_or_a_shared_one(odd: str) -> None:
    """The linker lets "a" be the end of "beta"; every entry and every text has to come along."""
    outcome = _compare(_NAMES.replace("ODD", odd), "epsilon", "new epsilon", "clang")
    assert _redirected(outcome) == {"name"}
    assert outcome.hotpatch is not None
    new = _build(_NAMES.replace("ODD", odd).replace("CHANGE", "new epsilon"), "clang")
    objects = Objects(survey(new))
    (table,) = (address for address in objects.taken if objects.text_table(address))
    shadow = {s.extent.start + n: byte for s in outcome.hotpatch.segments for n, byte in enumerate(s.content)}
    for start in (table, *objects.text_table(table)):
        content = new.read(start, 24 if start == table else len(objects.string(start) or b"\0"))
        assert bytes(shadow.get(start + n, 0xFF) for n in range(len(content))) == content


_ROWS = """
struct row { long a, b, c, d, e; };
static const struct row first = { 1, 2, 3, 4, 5 }, second = { 4, 5, 6, 7, 8 }, third = { 7, 8, CHANGE, 10, 11 };
static const struct row *const rows[] = { &first, &second, &third, &first };
long look(unsigned i) { EXTRA return i < 4 ? rows[i]->c : -1; }
KEEP long sum(const struct row *r) { return r->a + r->b + r->c + r->d + r->e + counter; }
long one(long i) { return sum(&third) * i; }
long two(long i) { return sum(&first) - sum(&second) * i; }
"""


def test_a_table_of_distances_to_a_changed_object_is_a_changed_one_and_does_not_come_along() -> None:
    outcome = _compare(_ROWS.replace("EXTRA", ""), "9", "10", "clang")
    assert {r.code for r in outcome.reasons if r.severity is Severity.REFUSAL} == {"unmapped-reference"}


def test_a_function_that_changed_goes_on_using_the_old_table_of_distances() -> None:
    source = _ROWS.replace("CHANGE", "9").replace("EXTRA", "CHANGE")
    assert _redirected(_compare(source, "", "if (i == 9) return 99;", "clang")) == {"look"}


_SWITCH = """
#include <stdlib.h>
KEEP int other(int x) { return CHANGE; }
__attribute__((cold, noreturn)) void die(int);
int pick(int x)
{
    switch (x & 7) {
    case 0: die(counter);
    case 1: return count(3);
    case 2: return count(4) * 2;
    case 3: return count(5) * 4;
    case 4: return count(7) - 1;
    case 5: return count(6) * 3;
    case 6: return counter;
    }
    return x;
}
"""


def test_a_jump_table_whose_first_entry_leads_into_a_cold_part_is_one() -> None:
    longer = "x > 1000 ? -1 : x * 3 + counter + count(x) * count(x * 2)"
    assert _redirected(_compare(_SWITCH, "x * 3", longer)) == {"other"}


_BOTH_WAYS = """
extern const int limits[8] __attribute__((visibility("hidden")));
__asm__(".section .rodata\\n.globl limits\\n.hidden limits\\n.align 32\\n"
        "limits: .long 3, 4, 5, 6, CHANGE, 8, 9, 10\\n.text\\n");
int limit(unsigned i) { return limits[i & 7]; }
int checked(int x) { return x > limits[4] ? -1 : count(x); }
"""


def test_an_entry_that_one_function_reads_by_itself_changes_the_table_for_those_who_index_it() -> None:
    """As where another file has the table, so that the compiler does not know what stands there."""
    assert _redirected(_compare(_BOTH_WAYS, "1000", "100")) == {"limit", "checked"}


_ONE_OF_THEM = """
struct level { long good, lazy; const char *name; };
static const struct level levels[6] = {
    { 1, 2, "a" }, { 3, 4, "b" }, { 5, 6, "c" }, { 7, 8, "d" }, { 9, CHANGE, "e" }, { 11, 12, "f" },
};
__attribute__((noipa)) static long use(const struct level *l) { return l->good * 3 + l->lazy + counter; }
long one(unsigned i) { return i < 6 ? use(&levels[i]) : 0; }
long usual(void) { return use(&levels[USUAL]) * 7; }
"""


@pytest.mark.parametrize("usual", ["3", "4"])
def test_a_table_changes_behind_the_address_of_an_element_that_is_taken_by_itself(usual: str) -> None:
    """The addresses in the elements show that these go on there."""
    outcome = _compare(_ONE_OF_THEM.replace("USUAL", usual), "1000", "100")
    assert _redirected(outcome) == {"one", "usual"}
