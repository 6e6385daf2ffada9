"""Which functions of a refused update may go in, and which stay old, each on a small pair of libraries."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotmend.diff.doubts import AT_START, OF_SIZE, OF_STATE
from hotmend.diff.groups import Groups
from hotmend.diff.options import Options
from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.model.hotpatch import Outcome
from hotmend.model.verdict import Verdict

_SOURCE = """
#include <stdlib.h>
#define KEEP __attribute__((noipa))
#define HIDDEN __attribute__((noipa, visibility("hidden")))
struct session {{ {member} long state, limit, count; }};
struct session *begin(void) {{ struct session *s = malloc(sizeof *s); s->state = 1; return s; }}
KEEP long limit_of(struct session *s) {{ return s->limit * 3; }}
KEEP long count_of(struct session *s) {{ return s->count * 5; }}
HIDDEN long helper(long x) {{ return x {helper}; }}
KEEP long fixed(long x) {{ return helper(x) {fixed}; }}
KEEP long both(struct session *s, long x) {{ return helper(x) + s->count {both}; }}
KEEP long alone(long x) {{ return x {alone}; }}
KEEP long unrelated(long x) {{ return alone(x) ^ fixed(x) ^ 9; }}
"""
_OLD = {"member": "", "helper": "+ 1", "fixed": "* 3", "both": "", "alone": "* 7"}


@cache
def _build(source: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part.c")
        path.write_text(source)
        library = path.with_suffix(".so")
        command = ["gcc", "-O2", "-fPIC", "-shared", "-Wl,--build-id", "-o", str(library), str(path)]
        subprocess.run(command, check=True)
        return read_image(library)


def _compare(new: dict[str, str], options: Options) -> Outcome:
    return compare(*(_build(_SOURCE.format(**values)) for values in (_OLD, _OLD | new)), options=options)


def _names(outcome: Outcome) -> set[str]:
    return {f.name for f in outcome.hotpatch.functions} if outcome.hotpatch else set()


def _left(outcome: Outcome) -> set[str]:
    return {name for reason in outcome.reasons if reason.code == "left-for-baseline" for name in reason.subjects}


_GROWN = {"member": "long reserved;"}


def test_what_a_grown_structure_does_not_touch_goes_in() -> None:
    assert _compare(_GROWN | {"alone": "* 8"}, Options()).verdict is Verdict.BASELINE_REQUIRED
    outcome = _compare(_GROWN | {"alone": "* 8"}, Options(partial=True))
    assert outcome.verdict is Verdict.HOTPATCH_WITH_NOTES
    assert _names(outcome) == {"alone"}
    assert {"begin", "limit_of", "count_of", "both"} <= _left(outcome)
    assert outcome.hotpatch is not None
    assert {r.name for r in outcome.hotpatch.replaced} == {"alone"}


def test_who_shares_a_changed_callee_with_an_old_function_stays_old() -> None:
    # `both` stays old for the structure; it calls `helper`, which then stays old, and so does `fixed`, which needs it.
    outcome = _compare(_GROWN | {"helper": "+ 2", "fixed": "* 4", "alone": "* 8"}, Options(partial=True))
    assert _names(outcome) == {"alone"}
    assert {"helper", "fixed", "both"} <= _left(outcome)


def test_an_unchanged_callee_binds_nobody() -> None:
    outcome = _compare(_GROWN | {"fixed": "* x"}, Options(partial=True))
    assert _names(outcome) == {"fixed"}


@pytest.mark.parametrize("fixed", ["* 6", "/ 8", "& 2", "+ 40", "* 3 + *(long *)x"])
def test_who_goes_by_other_numbers_may_go_by_other_declarations(fixed: str) -> None:
    # A number may be a size, a mask or a step of what grew; nothing in the code tells.
    outcome = _compare(_GROWN | {"fixed": fixed, "alone": "* x"}, Options(partial=True))
    assert _names(outcome) == {"alone"}
    assert "fixed" in _left(outcome)


def test_the_causes_of_doubt_are_reasons_that_exist() -> None:
    headings = Path(__file__).parents[2].joinpath("docs", "reasons.md").read_text().splitlines()
    assert {f"### {code}" for code in (*OF_STATE, *OF_SIZE, *AT_START)} <= set(headings)


def test_masks_that_change_places_are_not_the_same() -> None:
    source = """
    struct flags { unsigned a : 1, b : 1, c : 1; };
    __attribute__((noipa)) long begin(long *s) { return s[A] + s[B] + s[A] * 2; }
    __attribute__((noipa)) long other(long *s) { return s[A] ^ s[B]; }
    long masked(long x) { return ((x & 2) << 8) FIRST ((x & 4) << 8); }
    long alone(long x) { return x SIGN x * x; }
    """
    old, new = (
        _build(f"#define A {a}\n#define B {b}\n#define FIRST {first}\n#define SIGN {sign}\n{source}")
        for a, b, first, sign in ((4, 5, "+", "+"), (5, 6, "-", "-"))
    )
    outcome = compare(old, new, options=Options(partial=True))
    assert "structure-layout-changed" in {r.code for r in compare(old, new).reasons}
    assert _names(outcome) == {"alone"}


def test_nothing_is_left_of_an_update_that_is_refused_as_a_whole() -> None:
    outcome = _compare(_GROWN, Options(partial=True))
    assert outcome.verdict is Verdict.BASELINE_REQUIRED
    assert {"structure-layout-changed"} <= {r.code for r in outcome.reasons}


def test_partial_changes_nothing_where_nothing_is_refused() -> None:
    whole, part = (_compare({"alone": "* 8"}, Options(partial=p)) for p in (False, True))
    assert whole.hotpatch == part.hotpatch


_STATES = """
#include <stdlib.h>
#define KEEP __attribute__((noipa))
struct session {{ {member} long state, limit, count; }};
static int phase;
struct session *begin(void) {{ struct session *s = malloc(sizeof *s); s->state = 1; return s; }}
KEEP long limit_of(struct session *s) {{ return s->limit * 3; }}
KEEP long next(struct session *s) {{ {reads} return s->count; }}
KEEP void advance(int x) {{ if (x > 3) phase = {phase}; else phase = 2; }}
KEEP int current(void) {{ return phase; }}
KEEP long alone(long x) {{ return x {alone}; }}
"""


@pytest.mark.parametrize(("reads", "goes_in"), [("", {"advance", "alone"}), ("if (phase == 0) return 0;", {"alone"})])
def test_who_writes_what_an_old_function_would_not_understand_stays_old(reads: str, goes_in: set[str]) -> None:
    old = {"member": "", "reads": "", "phase": "x", "alone": "* 7"}
    new = {"member": "long reserved;", "reads": reads, "phase": "x * x", "alone": "* 8"}
    options = Options(partial=True, accept=frozenset({"state-encoding-changed"}))
    outcome = compare(*(_build(_STATES.format(**values)) for values in (old, new)), options=options)
    assert _names(outcome) == goes_in


_IMPORTS = """
extern long helper(long), other(long);
long uses(long x) {{ return helper(x) {uses}; }}
long apart(long x) {{ return other(x) {apart}; }}
long bound(long x) {{ return uses(x) ^ 3; }}
"""


def _imports(options: Options) -> Outcome:
    sources = [_IMPORTS.format(uses=f"* {n}", apart=f"+ {n}") for n in (3, 5)]
    return compare(*map(_build, sources), options=options)


def test_what_another_image_leaves_old_refuses_its_users() -> None:
    assert _imports(Options()).verdict is Verdict.HOTPATCH
    outcome = _imports(Options(stays_old=frozenset({"helper", "unknown"})))
    assert outcome.verdict is Verdict.BASELINE_REQUIRED
    (reason,) = outcome.reasons
    assert (reason.code, reason.subjects) == ("needs-left-function", ("helper",))
    assert set(outcome.left) == {"uses", "apart"}
    assert _names(_imports(Options(partial=True, stays_old=frozenset({"helper"})))) == {"apart"}


@given(st.lists(st.sets(st.integers(0, 20), min_size=1, max_size=4), max_size=12))
def test_groups_are_the_connected_parts(bonds: list[set[int]]) -> None:
    groups = Groups()
    for bond in bonds:
        groups.bind(bond)
    reached = {n: {n} for n in range(21)}
    for _ in range(21):
        for bond in bonds:
            union = set().union(*(reached[n] for n in bond))
            for n in union:
                reached[n] |= union
    for a in range(21):
        for b in range(21):
            assert (groups.root(a) == groups.root(b)) == (b in reached[a])


@pytest.mark.parametrize("empty", [[], set()])
def test_an_empty_bond_binds_nobody(empty: list[int] | set[int]) -> None:
    groups = Groups()
    groups.bind(empty)
    assert groups.root(0) == 0


_HOSTILE = """
#include <stdlib.h>
#define KEEP __attribute__((noipa))
#ifdef NEW
#define EITHER(old, new) new
#else
#define EITHER(old, new) old
#endif
struct session {{ EITHER(, long reserved;) long state, limit, count; }};
struct session *begin(void) {{ struct session *s = malloc(sizeof *s); s->state = 1; return s; }}
KEEP long limit_of(struct session *s) {{ return s->limit * 3; }}
KEEP long count_of(struct session *s) {{ return s->count * 5; }}
{body}
KEEP long alone(long x) {{ return x EITHER(* 7, * 8); }}
"""
_CACHED = """
KEEP long get(struct session *s, long x)
{
    EITHER(if (cache) return cache + s->count; return (cache = input * x) + s->count;, return s->count + input * x;)
}
KEEP void put(long x) { input = x; EITHER(cache = 0;,) }
"""
_CACHE_GONE = "long input; EITHER(static long cache;,)" + _CACHED
_CACHE_STAYS = (
    "long input; static long cache;" + _CACHED + "KEEP long reset(void) { long c = cache; cache = 3; return c; }"
)
_CACHE_EXPORTED = _CACHE_STAYS.replace("static", "")
_FLAG_NO_LONGER_SET = """
struct item { long a[5]; long key; int valid; };
KEEP long get(struct session *s, struct item *i) { EITHER(if (!i->valid) return 0;,) return s->count + i->key; }
KEEP void put(struct item *i, long k) { i->key = k; EITHER(i->valid = 1;,) }
"""
_INLINED_HELPER = """
static inline long code(long x) { return x ^ EITHER(0x1234567, 0x7654321); }
KEEP void put(long *p, long x) { *p = code(x) * 3; }
KEEP long get(struct session *s, long *p) { return code(*p / 3) + s->limit; }
"""
_EXPORTED_HELPER = """
KEEP long put(long x) { return x EITHER(* 2, + 77); }
KEEP long get(struct session *s, long x) { return s->limit + put(x EITHER(, * 3)); }
"""
_LOCAL_HELPER = """
static __attribute__((noinline)) long sum(long *p, long n)
{
    long r = 0;
    for (long i = 0; i < n; i++) r += p[i] EITHER(* 3, / (n + 1));
    return r;
}
KEEP long get(struct session *s, long *p, long n)
{
    long q = 0;
    for (long i = 0; i < n; i++) q += sum(p, i) * n;
    return q + s->limit;
}
KEEP long put(long *p, long n) { long q = 1; for (long i = 0; i < n; i++) q ^= sum(p, i) + n; return q; }
"""


@pytest.mark.parametrize(
    "body",
    [
        _CACHE_GONE, _CACHE_STAYS, _CACHE_EXPORTED, _FLAG_NO_LONGER_SET, _INLINED_HELPER, _EXPORTED_HELPER,
        _LOCAL_HELPER,
    ],
)  # fmt: skip
def test_who_owes_something_to_a_function_that_stays_old_stays_old(body: str) -> None:
    # `get` uses the structure that grew, and so stays old; `put` keeps something up for it, or shares code with it.
    source = _HOSTILE.format(body=body)
    outcome = compare(_build(source), _build("#define NEW\n" + source), options=Options(partial=True))
    assert _names(outcome) == {"alone"}
    assert {"get", "put"} <= _left(outcome)


_POINTED = """
#include <stdlib.h>
#define KEEP __attribute__((noipa))
struct session {{ {member} long state, limit, count; }};
typedef long operation({argument} long x, struct session *s);
struct session *begin(void) {{ struct session *s = malloc(sizeof *s); s->state = 1; return s; }}
static KEEP long twice({argument} long x, struct session *s) {{ {check} return x * 2 + (s != 0); }}
static KEEP long thrice({argument} long x, struct session *s) {{ {check} return x * 3 + (s == 0); }}
operation *const operations[] = {{ twice, thrice }};
KEEP long run(struct session *s, long n, long x) {{ return operations[n]({hand_over} x, s) + s->count; }}
KEEP long given(operation *f, long x) {{ return f({hand_over} x, 0) {given}; }}
KEEP long alone(long x) {{ return x {alone}; }}
"""
_POINTED_OLD = {"member": "", "argument": "", "check": "", "hand_over": "", "given": "", "alone": "* 7"}
_POINTED_NEW = _GROWN | {"argument": "long end,", "check": "if (x > end) return 0;", "hand_over": "9,", "alone": "* 8"}


@pytest.mark.parametrize("new", [_POINTED_NEW, _POINTED_NEW | {"given": "+ 5"}])
def test_functions_called_by_pointers_that_read_more_stay_old_with_who_may_call_them(new: dict[str, str]) -> None:
    """As the operations of a log line in nginx, which came to be handed the end of the buffer."""
    sides = [_build(_POINTED.format(**_POINTED_OLD | values)) for values in ({}, new)]
    outcome = compare(*sides, options=Options(partial=True))
    assert _names(outcome) == {"alone"}
    assert {"run", "given", "begin"} <= _left(outcome)
    assert any("called by pointers" in reason.sentence for reason in outcome.reasons)


def test_functions_called_by_pointers_that_read_no_more_go_in() -> None:
    new = _GROWN | {"check": "x = ~x;", "alone": "* 8"}
    sides = [_build(_POINTED.format(**_POINTED_OLD | values)) for values in ({}, new)]
    outcome = compare(*sides, options=Options(partial=True))
    assert len(_names(outcome)) == 3
    assert not any("called by pointers" in reason.sentence for reason in outcome.reasons)
