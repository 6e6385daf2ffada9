"""A function that the new build no longer has, by who still refers to it in the running process."""

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

_SOURCE = """
#include <stdlib.h>
#define KEEP __attribute__((noipa))
#define HIDDEN __attribute__((noipa, visibility("hidden")))
#ifdef NEW
#define EITHER(old, new) new
#else
#define EITHER(old, new) old
#endif
typedef long (*fn)(long);
HIDDEN long other(long x) {{ return x * 11; }}
#ifndef NEW
{linkage} long gone(long x) {{ return x * 3 + 1; }}
#endif
{body}
KEEP long second(long x) {{ return other(x) + 1; }}
KEEP long third(long x) {{ return other(x) * 7 + x; }}
KEEP long fixed(long x) {{ return x * EITHER(x, x * x); }}
"""
_GROWN = """
struct session { EITHER(, long reserved;) long state, limit, count; };
struct session *begin(void) { struct session *s = malloc(sizeof *s); s->state = 1; return s; }
KEEP long limit_of(struct session *s) { return s->limit * 3; }
KEEP long count_of(struct session *s) { return s->count * 5; }
"""
_CALLED_BY_CHANGED = "KEEP long use(long x) { return EITHER(gone(x) + other(x), x * 2); }"
_CALLED_BY_UNCHANGED = "KEEP long use(long x) { return EITHER(gone, other)(x) + 1; }"
_STORED_BY_CODE = """
fn handler; KEEP void set(void) { handler = EITHER(gone, other); } KEEP long use(long x) { return handler(x); }
"""
_IN_VARIABLE = (
    "fn handlers[2] = { other, EITHER(gone, other) }; KEEP long use(int i, long x) { return handlers[i](x); }"
)
_IN_TABLE = (
    "static const fn table[] = { other, EITHER(gone, other) }; KEEP long use(int i, long x) { return table[i](x); }"
)
_IN_TABLE_OF_TABLES = """
static const fn table[] = { other, EITHER(gone, other) };
static const fn *const tables[] = { table, table + 1 };
KEEP long use(int i, long x) { return tables[i][0](x); }
"""
_STORED_BY_REMOVED = """
fn handler;
#ifndef NEW
HIDDEN void set(void) { handler = gone; }
#endif
KEEP long start(long x) { EITHER(set(), handler = other); return x + 1; }
KEEP long use(long x) { return handler(x); }
"""


@cache
def _build(source: str, *options: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part.c")
        path.write_text(source)
        library = path.with_suffix(".so")
        given = ["-O2", "-fPIC", "-shared", "-Wl,--build-id", *options]
        subprocess.run(["gcc", *given, "-o", str(library), str(path)], check=True)
        return read_image(library)


def _compare(body: str, linkage: str = "HIDDEN", *, partial: bool = False) -> Outcome:
    source = _SOURCE.format(body=body, linkage=linkage)
    return compare(_build(source), _build(source, "-DNEW"), options=Options(partial=partial))


def _refusals(outcome: Outcome) -> dict[str, tuple[str, ...]]:
    return {r.code: r.subjects for r in outcome.reasons if r.severity is Severity.REFUSAL}


def _names(outcome: Outcome) -> set[str]:
    return {f.name for f in outcome.hotpatch.functions} if outcome.hotpatch else set()


@pytest.mark.parametrize("body", [_CALLED_BY_CHANGED, _CALLED_BY_UNCHANGED])
def test_one_that_was_only_called_is_left_behind(body: str) -> None:
    outcome = _compare(body)
    assert outcome.verdict is Verdict.HOTPATCH
    assert _names(outcome) == {"use", "fixed"}
    assert outcome.hotpatch is not None
    assert "gone" in {r.name for r in outcome.hotpatch.replaced}  # it must not be active at the switch
    assert "gone" not in {r.name for r in outcome.hotpatch.redirections}


def test_one_that_was_exported_stays_callable_and_is_named() -> None:
    outcome = _compare(_CALLED_BY_CHANGED, "KEEP")
    assert outcome.verdict is Verdict.HOTPATCH_WITH_NOTES
    assert {r.code: r.subjects for r in outcome.reasons} == {"export-removed": ("gone",)}


@pytest.mark.parametrize("body", [_STORED_BY_CODE, _IN_VARIABLE, _IN_TABLE, _IN_TABLE_OF_TABLES, _STORED_BY_REMOVED])
def test_one_whose_address_the_process_may_hold_is_refused(body: str) -> None:
    assert _refusals(_compare(body))["stored-function-stays-old"] == ("gone",)


@pytest.mark.parametrize(
    ("body", "taker"),
    [(_STORED_BY_CODE, "set"), (_STORED_BY_REMOVED, "start"), (_IN_TABLE, "use"), (_IN_TABLE_OF_TABLES, "use")],
)
@pytest.mark.parametrize("besides", ["", _GROWN])
def test_a_part_leaves_who_took_its_address_old(body: str, taker: str, besides: str) -> None:
    outcome = _compare(body + besides, partial=True)
    assert _names(outcome) == {"fixed"}
    assert taker in outcome.left


def test_a_part_with_a_variable_that_held_it_stays_refused_or_leaves_its_users() -> None:
    outcome = _compare(_IN_VARIABLE + _GROWN, partial=True)
    assert _names(outcome) <= {"fixed"}
