"""When old invocations may go on beside new ones, and what is in the way, each on a small pair of programs."""

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
from hotmend.model.hotpatch import Lazy
from hotmend.package.decode import decode
from hotmend.package.encode import encode

_HEAD = """
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define KEEP __attribute__((noipa))
struct thing { long size, used, state; int (*method)(struct thing *); struct thing *next; };
static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER, two = PTHREAD_MUTEX_INITIALIZER;
static volatile long total, busy;
static struct thing things[4];
KEEP long plain(long x) { return x * 3 + total; }
KEEP void note_down(long x) { total += x; }
KEEP void both_locked(void) { pthread_mutex_lock(&one); pthread_mutex_lock(&two); total = 0;
    pthread_mutex_unlock(&two); pthread_mutex_unlock(&one); }
KEEP void both_busy(void) { pthread_mutex_lock(&one); pthread_mutex_lock(&two); busy = 0;
    pthread_mutex_unlock(&two); pthread_mutex_unlock(&one); }
"""
_TAIL = """
static void *serve(void *c) { struct thing *t = c; t->used = work(t, t->size); return c; }
int main(int argc, char **argv) {
    pthread_t thread;
    for (int n = 0; n < argc; n++) pthread_create(&thread, 0, serve, &things[n & 3]);
    both_locked(); both_busy();
    pause();
    return (int)total + argv[0][0];
}
"""


@cache
def _build(source: str, level: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lazy.c")
        path.write_text(_HEAD + source + _TAIL)
        command = ["gcc", level, "-w", "-pthread", "-Wl,--build-id", "-o", f"{folder}/lazy", str(path)]
        subprocess.run(command, check=True)
        return read_image(Path(folder, "lazy"))


def _lazy(old: str, new: str, level: str = "-O2", options: Options | None = None) -> Lazy:
    outcome = compare(_build(old, level), _build(new, level), options=options)
    assert outcome.hotpatch is not None, outcome.reasons
    lazy = decode(encode(outcome.hotpatch)).lazy
    assert lazy is not None
    return lazy


def _codes(lazy: Lazy) -> set[str]:
    assert not (lazy.proven and lazy.obstacles)
    return {reason.code for reason in lazy.obstacles}


_WORK = """
KEEP long work(struct thing *t, long x) {{
    {before}
    usleep(10);
    {inside}
    return {result};
}}
"""


def _work(before: str = "", inside: str = "", result: str = "plain(x)") -> str:
    return _WORK.format(before=before, inside=inside, result=result)


PROVEN = {
    "another result": (_work(result="1"), _work(result="2")),
    "a check at the beginning": (_work(), _work("if (x > 100) return -1;")),
    "another limit": (_work("if (x > 200) return -1;"), _work("if (x > 100) return -1;")),
    "a check where the old one could leave": (
        _work(inside="if (x < 0) return -1; t->used = 5;"),
        _work(inside="if (x < 0 || x > 100) return -1; t->used = 5;"),
    ),
    "conditions that stay": (
        _work("if (x > 3) pthread_mutex_lock(&one);", "busy = 7; if (x > 3) pthread_mutex_unlock(&one);", "5"),
        _work("if (x > 3) pthread_mutex_lock(&one);", "busy = 7; if (x > 3) pthread_mutex_unlock(&one);", "6"),
    ),
    "a loop that stays": (
        _work(inside="for (long n = 0; n < x; n++) note_down(n);", result="1"),
        _work(inside="for (long n = 0; n < x; n++) note_down(n);", result="2"),
    ),
    "another condition for the result": (
        _work(result="x > 100 ? 1 : 2"), _work(result="x > 50 ? 1 : 2"),
    ),
    "the result of a call is used otherwise": (
        _work(result="plain(x) + 1"), _work(result="plain(x) + 2"),
    ),
    "a function that only it calls changes too": (
        "KEEP long other(long x) { return x > 3; }" + _work(inside="x = other(x);", result="x"),
        "KEEP long other(long x) { return x > 5; }" + _work(inside="x = other(x);", result="x"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("level", ["-O0", "-O2"])
@pytest.mark.parametrize("name", PROVEN)
def test_proven(name: str, level: str) -> None:
    lazy = _lazy(*PROVEN[name], level)
    assert lazy.proven, lazy.obstacles
    assert len(lazy.evidence) >= 4


_EACH = """
long work(struct thing *, long);
KEEP long each(struct thing *t, long x) { return t->next ? work(t->next, x) : 0; }
"""
_TWIN = "KEEP long twin(long x) { return x * 5 + busy; } KEEP long users(long x) { return twin(x) + plain(x); }"
_UNLOCK = "pthread_mutex_unlock(&two); pthread_mutex_unlock(&one);"
REFUSED = {
    "the meaning of an argument changes with the caller": (
        "lazy-changed-together",
        "KEEP long scale(long x) { return x * 1000; } KEEP long also(long x) { return scale(x) + 1; }"
        + _work(result="scale(x) + also(x)"),
        "KEEP long scale(long x) { return x; } KEEP long also(long x) { return scale(x) + 1; }"
        + _work(result="scale(x * 1000) + also(x)"),
    ),
    "a lock moves to another function": (
        "lazy-changed-together",
        "KEEP void put(long x) { pthread_mutex_lock(&one); total += x; pthread_mutex_unlock(&one); }"
        "KEEP void again(long x) { put(x); }"
        + _work("pthread_mutex_lock(&two);", "again(x); put(x); pthread_mutex_unlock(&two);"),
        "KEEP void put(long x) { pthread_mutex_lock(&one); total += x + 1; pthread_mutex_unlock(&one); }"
        "KEEP void again(long x) { put(x); }"
        + _work("pthread_mutex_lock(&two);", "pthread_mutex_unlock(&two); again(x); put(x);"),
    ),
    "a static variable is added": (
        "lazy-lasting-values",
        _work(),
        "static long calls;" + _work("if (calls++ > 1000000) return -1;"),
    ),
    "a static variable is set by one and read by another": (
        "lazy-lasting-values",
        "KEEP long reader(long x) { return x; }" + _work(inside="x += reader(x);"),
        "static long seen; KEEP long reader(long x) { return x + seen; }" + _work("seen = x;", "x += reader(x);"),
    ),
    "it calls itself": (
        "lazy-comes-back",
        _work(inside="if (t->next) x += work(t->next, x);", result="1"),
        _work(inside="if (t->next) x += work(t->next, x);", result="2"),
    ),
    "an unchanged function calls it again": (
        "lazy-comes-back",
        _EACH + _work(inside="x += each(t, x);", result="x"),
        _EACH + _work(inside="x += each(t, x);", result="x + 1"),
    ),
    "a pointer may lead to it": (
        "lazy-comes-back",
        "long work(struct thing *, long); void *volatile kept; KEEP void keep(void) { kept = work; }"
        + _work(inside="keep(); x += t->method(t);", result="x"),
        "long work(struct thing *, long); void *volatile kept; KEEP void keep(void) { kept = work; }"
        + _work(inside="keep(); x += t->method(t);", result="x + 1"),
    ),
    "a library may call it back": (
        "lazy-comes-back",
        "long work(struct thing *, long); void *volatile kept; KEEP void keep(void) { kept = work; }"
        + _work(inside="keep(); qsort(things, 4, 40, (void *)plain);", result="x"),
        "long work(struct thing *, long); void *volatile kept; KEEP void keep(void) { kept = work; }"
        + _work(inside="keep(); qsort(things, 4, 40, (void *)plain);", result="x + 1"),
    ),
    "another store": ("lazy-effects-differ", _work(inside="busy = 5;"), _work(inside="total = 5;")),
    "a store is added": ("lazy-effects-differ", _work(), _work(inside="busy = 0;")),
    "another value is stored": ("lazy-effects-differ", _work(inside="busy = x * 3;"), _work(inside="busy = x * 5;")),
    "a value is stored that was computed by what is gone": (
        "lazy-effects-differ", _work(inside="busy = x * 1000;"), _work(inside="busy = x;"),
    ),
    "a value comes through the stack": (
        "lazy-effects-differ",
        _work("volatile long kept = x * 3;", inside="busy = kept;"),
        _work("volatile long kept = x * 5;", inside="busy = kept;"),
    ),
    "another argument": ("lazy-effects-differ", _work(inside="note_down(x);"), _work(inside="note_down(x + 1);")),
    "another callee": ("lazy-effects-differ", _work(), _work(result="plain(plain(x))")),
    "a call of another function": (
        "lazy-effects-differ",
        _TWIN + _work(inside="x = plain(x);", result="x"),
        _TWIN + _work(inside="x = twin(x);", result="x"),
    ),
    "locks in another order": (
        "lazy-effects-differ",
        _work("pthread_mutex_lock(&one); pthread_mutex_lock(&two);", _UNLOCK),
        _work("pthread_mutex_lock(&two); pthread_mutex_lock(&one);", _UNLOCK),
    ),
    "a lock is left out at times": (
        "lazy-effects-differ",
        _work("pthread_mutex_lock(&one);", "busy = 7; pthread_mutex_unlock(&one);"),
        _work("if (x != 3) pthread_mutex_lock(&one);", "busy = 7; if (x != 3) pthread_mutex_unlock(&one);"),
    ),
    "a store leaves the lock": (
        "lazy-effects-differ",
        _work("pthread_mutex_lock(&one); busy = 7; pthread_mutex_unlock(&one);"),
        _work("busy = 7; pthread_mutex_lock(&one); pthread_mutex_unlock(&one);"),
    ),
    "it returns where the old one never did": (
        "lazy-effects-differ",
        _work("pthread_mutex_lock(&one);", "busy = 7; pthread_mutex_unlock(&one);"),
        _work("pthread_mutex_lock(&one);", "busy = 7; if (x == 3) return -1; pthread_mutex_unlock(&one);"),
    ),
    "another condition for a lock": (
        "lazy-effects-differ",
        _work("if (x > 3) pthread_mutex_lock(&one);", "busy = 7; if (x > 3) pthread_mutex_unlock(&one);"),
        _work("if (x > 9) pthread_mutex_lock(&one);", "busy = 7; if (x > 9) pthread_mutex_unlock(&one);"),
    ),
    "another condition for a store": (
        "lazy-effects-differ", _work(inside="if (x > 3) busy = 7;"), _work(inside="if (x > 5) busy = 7;"),
    ),
    "two functions": (
        "lazy-changed-together",
        "KEEP long other(long x) { return x + 1; } KEEP long also(long x) { return other(x) * 3; }"
        + _work(inside="x = also(x);", result="1"),
        "KEEP long other(long x) { return x + 2; } KEEP long also(long x) { return other(x) * 3; }"
        + _work(inside="x = also(x);", result="2"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("level", ["-O0", "-O2"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, level: str) -> None:
    code, old, new = REFUSED[name]
    lazy = _lazy(old, new, level)
    assert code in _codes(lazy), lazy
    assert not lazy.proven


def test_a_loop_to_the_first_instruction_is_a_way_back() -> None:
    """The old code would go on in new code in the middle of its loop."""
    old, new = (
        f"KEEP long work(struct thing *t, long x) {{ while (!*(volatile long *)&t->state); return {result}; }}"
        for result in (1, 2)
    )
    lazy = _lazy(old, new)
    assert _codes(lazy) == {"lazy-comes-back"}
    assert "work refers to it" in lazy.obstacles[0].sentence
    assert _lazy(old, new, "-O0").proven, "there the loop begins behind the first instruction"


def test_what_an_operator_accepted_is_no_proof() -> None:
    old = _work(inside="if (t->method) t->used = t->size; t->state = 3;")
    new = _work(inside="if (t->method) t->used = t->size; t->state = 4;")
    codes = {r.code for r in compare(_build(old, "-O2"), _build(new, "-O2")).reasons}
    lazy = _lazy(old, new, options=Options(accept=frozenset(codes)))
    assert not lazy.proven
