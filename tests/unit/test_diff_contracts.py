"""Rules about what functions owe each other: ownership, locks, arguments, start-up, members and variables."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.model.hotpatch import Outcome
from hotmend.model.verdict import Severity

_HEAD = """
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define KEEP __attribute__((noinline))
"""
_NAMES = """
struct named { char *name; long value; };
KEEP struct named *make(char *name) { struct named *n = malloc(sizeof *n); if (!n) return 0; n->name = TAKE; return n; }
KEEP void rename_it(struct named *n, char *name) { DROP; n->name = TAKE; n->value++; }
KEEP long value(const struct named *n) { return n->value * 3; }
"""
_STREAM = """
struct stream { char *buffer; int used; };
KEEP void done(struct stream *s) { s->used = 0; FIRST; }
KEEP int finish(struct stream *s) { int used = s->used; SECOND; return used + 1; }
"""
_LOCKS = """
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; extern long counter; long counter;
KEEP void begin(void) { counter++; FIRST; }
KEEP void end(void) { SECOND; counter += 2; pthread_mutex_unlock(&mutex); }
KEEP long current(void) { return counter * 3; }
"""
_LOG = """
extern long handle; long handle;
KEEP void log_open(void) { handle = OPEN; }
KEEP long log_write(const char *text) { return WRITE; }
"""
_ARGUMENTS = """
KEEP long note(long x) { return x * 3; }
KEEP long send(SIGNATURE) { return note(a) + BODY; }
"""
_MEMBER = """
struct session { long id; char kind; FRESH int limit; long sent; };
KEEP void begin(struct session *s) { s->id = 5; s->kind = 1; SET; s->limit = 40; s->sent = 9; }
KEEP long check(const struct session *s) { return s->id READ; }
KEEP long sent(const struct session *s) { return s->sent * 3; }
"""
_PROGRAM = """
static long base, level; VARIABLES
KEEP static void prepare(void) { base = BASE; START; }
KEEP static long get(long x) { return base * x VALUE; }
int main(void)
{
    char line[100];
    prepare();
    while (fgets(line, sizeof line, stdin)) { level++; printf("%ld %ld\\n", get(strlen(line)), level); }
    return 0;
}
"""
_INITIAL = """
static long limit INITIAL;
KEEP long get(void) { return limit * 3; }
KEEP void set(long x) { if (x) limit = x; }
"""

# name: (source, macros of the old build, macros of the new build, code)
_DANGEROUS: dict[str, tuple[str, dict[str, str], dict[str, str], str]] = {
    "names are copied and freed": (_NAMES, {"TAKE": "name", "DROP": "(void)0"},
                                   {"TAKE": "strdup(name)", "DROP": "free(n->name)"}, "ownership-changed"),
    "free moves to another function": (_STREAM, {"FIRST": "free(s->buffer)", "SECOND": "(void)0"},
                                       {"FIRST": "(void)0", "SECOND": "free(s->buffer)"}, "ownership-changed"),
    "a stream becomes a descriptor": (
        _LOG, {"OPEN": '(long)fopen("/dev/null", "w")', "WRITE": "fwrite(text, 1, 4, (FILE *)handle)"},
        {"OPEN": 'open("/dev/null", O_WRONLY)', "WRITE": "write((int)handle, text, 4)"}, "ownership-changed"),
    "a lock moves to another function": (
        _LOCKS, {"FIRST": "(void)0", "SECOND": "pthread_mutex_lock(&mutex)"},
        {"FIRST": "pthread_mutex_lock(&mutex)", "SECOND": "(void)0"}, "locking-changed"),
    "an argument more": (_ARGUMENTS, {"SIGNATURE": "long a, long b", "BODY": "b * 2"},
                         {"SIGNATURE": "long a, long b, long c", "BODY": "b * 2 + c"}, "argument-added"),
    "an argument on the stack": (
        _ARGUMENTS, {"SIGNATURE": "long a, long b, long c, long d, long e, long f", "BODY": "b + c + d + e + f"},
        {"SIGNATURE": "long a, long b, long c, long d, long e, long f, long g", "BODY": "b + c + d + e + f + g"},
        "argument-added"),
    "a member in old padding": (_MEMBER, {"FRESH": "", "SET": "(void)0", "READ": ""},
                                {"FRESH": "char level;", "SET": "s->level = 4", "READ": "+ s->level"}, "member-added"),
    "a variable set at start": (_PROGRAM, {"VARIABLES": "", "BASE": "6", "START": "(void)0", "VALUE": ""},
                                {"VARIABLES": "static long scale;", "BASE": "6", "START": "scale = 7",
                                 "VALUE": "* scale"}, "variable-never-set"),
    "start-up code": (_PROGRAM, {"VARIABLES": "", "BASE": "6", "START": "(void)0", "VALUE": ""},
                      {"VARIABLES": "", "BASE": "8", "START": "(void)0", "VALUE": ""}, "start-only-code"),
    "a variable gets an initial value": (_INITIAL, {"INITIAL": ""}, {"INITIAL": "= 40"}, "variable-replaced"),
    "a variable loses its initial value": (_INITIAL, {"INITIAL": "= 40"}, {"INITIAL": ""}, "variable-replaced"),
}  # fmt: skip
_HARMLESS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "a leak mended": (_STREAM, {"FIRST": "(void)0", "SECOND": "(void)0"},
                      {"FIRST": "(void)0", "SECOND": "free(s->buffer); s->buffer = 0"}),
    "a copy for itself": (_STREAM, {"FIRST": "(void)0", "SECOND": "(void)0"},
                          {"FIRST": "(void)0", "SECOND": "char *p = malloc(used); if (p) used = *p; free(p)"}),
    "a lock around more": (_LOCKS, {"FIRST": "(void)0", "SECOND": "pthread_mutex_lock(&mutex)"},
                           {"FIRST": "pthread_mutex_lock(&mutex); counter += 5; pthread_mutex_unlock(&mutex)",
                            "SECOND": "pthread_mutex_lock(&mutex)"}),
    "the same arguments": (_ARGUMENTS, {"SIGNATURE": "long a, long b", "BODY": "b * 2"},
                           {"SIGNATURE": "long a, long b", "BODY": "b * 5 + a"}),
    "a member read in addition": (_MEMBER, {"FRESH": "", "SET": "(void)0", "READ": ""},
                                  {"FRESH": "", "SET": "(void)0", "READ": "+ s->sent"}),
    "code after the start": (_PROGRAM, {"VARIABLES": "", "BASE": "6", "START": "(void)0", "VALUE": ""},
                             {"VARIABLES": "", "BASE": "6", "START": "(void)0", "VALUE": "+ 5"}),
}  # fmt: skip


@cache
def _build(source: str, macros: tuple[tuple[str, str], ...], level: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "contract.c")
        path.write_text(_HEAD + "".join(f"#define {name} {text}\n" for name, text in macros) + source)
        image = path.with_suffix(".elf")
        kind = ["-fPIE", "-pie"] if "main" in source else ["-fPIC", "-shared", "-Wl,-Bsymbolic"]
        subprocess.run(["gcc", level, *kind, "-Wl,--build-id", "-o", str(image), str(path)], check=True)
        return read_image(image)


def _refusals(source: str, old: dict[str, str], new: dict[str, str], level: str) -> set[str]:
    outcome: Outcome = compare(_build(source, tuple(old.items()), level), _build(source, tuple(new.items()), level))
    return {reason.code for reason in outcome.reasons if reason.severity is Severity.REFUSAL}


@pytest.mark.parametrize("name", list(_DANGEROUS))
@pytest.mark.parametrize("level", ["-O0", "-O2", "-Os"])
def test_a_broken_contract_is_refused(name: str, level: str) -> None:
    source, old, new, code = _DANGEROUS[name]
    refused = _refusals(source, old, new, level)
    assert refused
    if level == "-O2":
        assert code in refused


@pytest.mark.parametrize("name", list(_HARMLESS))
@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
def test_a_kept_contract_is_not(name: str, level: str) -> None:
    source, old, new = _HARMLESS[name]
    assert _refusals(source, old, new, level) == set()


_ARRAY = """
static int slots[SLOTS]; static int guards[4]; static int last[4];
KEEP int fill(int value) { int n = 0; for (int i = 0; i < SLOTS; i++, n++) slots[i] = value + i; return n; }
KEEP int guard(void) { return guards[0] & guards[1] & guards[2] & guards[3]; }
KEEP void set(int v) { for (int i = 0; i < 4; i++) guards[i] = v + last[i]; }
KEEP int slot(int i) { return slots[i]; }
"""


@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2", "-O3"])
def test_an_array_grown_is_seen_in_every_kind_of_loop(level: str) -> None:
    assert "object-grew" in _refusals(_ARRAY, {"SLOTS": "8"}, {"SLOTS": "16"}, level)


_SIZES = {
    "calloc's number": ("calloc(8, 8)", "calloc(20, 8)"),
    "a copy": ("memcpy(malloc(total), from, 600)", "memcpy(malloc(total), from, 1400)"),
    "an allocator of its own": ("take(24)", "take(40)"),
}


@pytest.mark.parametrize("name", list(_SIZES))
@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_another_size_of_an_object_is_seen(name: str, level: str) -> None:
    source = """
    static char arena[4096]; static unsigned long used; extern unsigned long total; unsigned long total;
    KEEP static void *take(unsigned long n) { char *p = arena + used; used += n; return p; }
    KEEP long *make(const char *from, long id) { long *p = SIZE; p[0] = id; p[1] = from != 0; return p; }
    KEEP long *other(long id) { long *p = take(48); p[0] = id; return p; }
    KEEP long first(const long *p) { return p[0] * 3; }
    """
    old, new = _SIZES[name]
    assert "allocation-size-changed" in _refusals(source, {"SIZE": old}, {"SIZE": new}, level)
