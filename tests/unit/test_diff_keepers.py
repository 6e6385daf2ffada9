"""Whether somebody in the process keeps the address of a table that changed, and so goes on with the old one."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from hotmend.diff.options import Options
from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.model.hotpatch import Outcome
from hotmend.model.verdict import Severity, Verdict

_LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")
_SOURCE = """
#include <stdlib.h>
#include <string.h>
#ifdef NEW
#define EITHER(old, new) new
#else
#define EITHER(old, new) old
#endif
#define KEEP __attribute__((noipa))
#define EXPORT __attribute__((noipa, visibility("default")))
struct kind {{ const char *name; long limit; long (*price)(long); }};
struct thing {{ const struct kind *kind; long size; }};
KEEP static long twice(long x) {{ return x * 2; }}
KEEP static long thrice(long x) {{ return x * 3; }}
{body}
EXPORT long price(const struct thing *t, long x) {{ return x > t->kind->limit ? -1 : t->kind->price(x); }}
"""
_TABLE = """
static const struct kind kinds[] = {
    { "one", EITHER(1000, 100), twice }, { "two", 7, thrice }, { "three", 9, twice },
};
"""
_MAKE = "EXPORT void make(struct thing *t, unsigned long i) { t->kind = &kinds[i % 3]; t->size = 0; }"
_SIZES = """
struct state { long a, b, c, d; EITHER(, long used;) };
struct method { long bytes; void (*add)(void *, long); };
KEEP static void add(void *p, long n) { struct state *s = p; EITHER(s->a += n, s->used += n); s->d = n; }
static const struct method method = { sizeof(struct state), add };
EXPORT const struct method *the_method(void) { return &method; }
EXPORT void *begin(const struct method *m) { return calloc(1, m->bytes); }
"""
_REGISTERED = """
static const struct kind *known[8];
static int count;
KEEP static void enter(const struct kind *k) { known[count++ & 7] = k; }
EXPORT void begin(void) { enter(&kinds[0]); enter(&kinds[1]); }
EXPORT long look(long x) { return known[0] && x <= known[0]->limit ? known[0]->price(x) : -1; }
"""
_POINTED = """
static const struct kind first = { "one", EITHER(1000, 100), twice }, second = { "two", 7, thrice };
static const struct kind *const all[] = { &first, &second };
EXPORT const struct kind *kind_of(unsigned long i) { return all[i & 1]; }
"""
_FOUND = """
KEEP static const struct kind *find(const char *name) {
    for (int i = 0; i < 3; i++) if (!strcmp(kinds[i].name, name)) return &kinds[i];
    return 0;
}
"""
_SET = "EXPORT void set(struct thing *t, const char *name) { const struct kind *k = find(name); if (k) t->kind = k; }"
_ASKED = """
EXPORT long limit(const char *name) { const struct kind *k = find(name); return k ? k->limit : -1; }
EXPORT long cost(const char *name, long x) { const struct kind *k = find(name); return k ? k->price(x) : -1; }
"""
_CALLED_BACK = "EXPORT void tell(void (*hear)(const struct kind *), unsigned long i) { hear(&kinds[i % 3]); }"
_KEPT = {
    "in an object": _TABLE + _MAKE,
    "by whoever asked for it": _SIZES,
    "in a list": _TABLE + _REGISTERED,
    "through a table of pointers": _POINTED,
    "by the caller of a local function": _TABLE + _FOUND + _SET,
    "by a function that is not known": _TABLE + _CALLED_BACK,
}
_TEXTS = """
static const struct kind kinds[] = {
    { EITHER("one, as it was", "one, as it is now"), 1000, twice }, { "two", 7, thrice },
};
EXPORT const struct kind *all_kinds(void) { return kinds; }
"""
_BYTES = """
static const char magic[99] = { 7, 3, EITHER(1, 2), 4, 9, 1, 6, 2, 8, 5, 3, 3, 1 };
EXPORT int is_magic(const char *text) { return !memcmp(text, magic, sizeof magic); }
"""
_NOT_KEPT = {
    "looked up and left": _TABLE + _FOUND + _ASKED,
    "compared by the C library": _BYTES,
    "nothing but texts": _TEXTS,
}

_WHOLE, _PART = Options(), Options(partial=True)
_BESIDE = """
KEEP static long count(const struct thing *t) {{ return t->size EITHER(, * 40); }}
EXPORT long counted(const struct thing *t, long x) {{ return count(t) + x; }}
static const struct kind only = {{ "one", {limit}, twice }};
EXPORT const struct kind *the_kind(void) {{ return &only; }}
"""


@cache
def _build(body: str, level: str, *, new: bool) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "keepers.c")
        path.write_text(_SOURCE.format(body=body))
        library = path.with_suffix(".so")
        command = ["gcc", level, "-fPIC", "-shared", "-fvisibility=hidden", "-w", "-Wl,--build-id", "-s"]
        subprocess.run([*command, *(["-DNEW"] if new else []), "-o", str(library), str(path)], check=True)
        return read_image(library)


def _compare(body: str, level: str, options: Options = _WHOLE) -> Outcome:
    return compare(_build(body, level, new=False), _build(body, level, new=True), options=options)


@pytest.mark.parametrize("name", list(_KEPT))
@pytest.mark.parametrize("level", _LEVELS)
def test_a_changed_table_that_somebody_keeps_is_refused(name: str, level: str) -> None:
    outcome = _compare(_KEPT[name], level)
    refused = {r.code for r in outcome.reasons if r.severity is Severity.REFUSAL}
    assert refused & {"contents-may-be-copied", "table-handed-out"}


@pytest.mark.parametrize("name", list(_NOT_KEPT))
@pytest.mark.parametrize("level", _LEVELS)
def test_one_that_is_only_looked_at_is_not(name: str, level: str) -> None:
    outcome = _compare(_NOT_KEPT[name], level)
    assert outcome.verdict is not Verdict.BASELINE_REQUIRED, outcome.reasons
    assert outcome.hotpatch is not None


@pytest.mark.parametrize(("limit", "waits"), [("EITHER(1000, 1040)", True), ("EITHER(1000, 936)", False)])
def test_code_of_a_part_may_go_by_what_grew_in_a_table_and_by_nothing_else(limit: str, waits: bool) -> None:
    """A number that grew may be a size, and a new step of another function may go by it."""
    outcome = _compare(_BESIDE.format(limit=limit), "-O2", _PART)
    assert (outcome.hotpatch is None) == waits
    assert {name.rpartition(" ")[2] for r in outcome.reasons for name in r.subjects} == {"the_kind"}
