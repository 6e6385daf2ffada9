"""Rules about what values that live on mean: constants, bits, widths and strides of one place."""

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

_LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")
_MACHINE = """
#include <stdlib.h>
struct machine { long id; unsigned state; unsigned flags; struct machine *next; };
#define KEEP __attribute__((noinline))
KEEP struct machine *make(long id) { struct machine *m = calloc(1, sizeof *m); m->id = id; START; return m; }
KEEP int is_ready(const struct machine *m) { return READY; }
KEEP void go(struct machine *m) { ADVANCE; }
KEEP long id_of(const struct machine *m) { return m->id * 3; }
"""
_BY_VALUE = """
struct machine { long id; unsigned state; unsigned flags; };
#define KEEP __attribute__((noinline,noipa))
static KEEP int ready(unsigned flags) { return READY; }
static KEEP int named(unsigned flags) { return NAMED; }
int is_ready(const struct machine *m) { return ready(m->flags) + 1; }
int is_named(const struct machine *m) { return named(m->flags) * 3; }
KEEP long id_of(const struct machine *m) { return m->id * 3; }
"""
_TABLE = """
struct shape { const long *table; long size; };
#define KEEP __attribute__((noinline,noipa))
static const long lengths[8] = { 3, 5, 7, 9, LENGTH, 13, 15, 17 };
KEEP void begin(struct shape *s, long size) { s->table = lengths + 2; s->size = size; }
KEEP long first(const struct shape *s) { return s->table[2] + s->size; }
"""
_ARENA = """
struct item { long id; TAIL };
static char arena[4096]; static unsigned long used;
#define KEEP __attribute__((noinline,noipa))
KEEP void *take(unsigned long bytes) { void *p = arena + used; used += bytes; return p; }
KEEP struct item *make(long id) { struct item *m = take(sizeof *m); m->id = id; return m; }
KEEP long id_of(const struct item *m) { return m->id; }
KEEP void touch(struct item *m) { TOUCH; }
"""
_FILL = """
#include <string.h>
char *buffer; long other[64];
int fill(int c) { memset(buffer, c, BYTES); return c * 3; }
long keep(int i) { return other[i & 63] * 5; }
"""
_ALIGNED = """
#include <malloc.h>
#include <stdlib.h>
#define KEEP __attribute__((noinline,noipa))
struct item { long id, a, b; TAIL };
KEEP struct item *make(long id) { struct item *m = ALLOCATE; if (m) m->id = id; return m; }
KEEP long id_of(const struct item *m) { return m->id + m->b; }
KEEP void touch(struct item *m) { TOUCH; }
"""
_SHARED = """
#include <sys/shm.h>
#include <unistd.h>
#define KEEP __attribute__((noinline,noipa))
struct board { long lock, rows[ROWS]; };
static struct board *board;
KEEP int begin(int file) { BEGIN; return 0; }
KEEP void put(unsigned long i, long value) { if (i < ROWS) board->rows[i] = value; }
KEEP long locked(long x) { return board->lock * x; }
"""
_LOOKED_UP = """
#include <stdlib.h>
#define KEEP __attribute__((noinline,noipa))
struct small { long kind, id; };
struct item { long kind, id, a; TAIL };
static const unsigned char sizes[] = { sizeof(struct small), sizeof(struct item), 77, 99 };
KEEP void *make(unsigned kind) { return calloc(1, sizes[kind & 3]); }
KEEP long id_of(const struct item *m) { return m->id + m->a; }
KEEP void touch(struct item *m) { TOUCH; }
"""
_SHMGET = "board = shmat(shmget(77, sizeof(struct board), 0600 | IPC_CREAT), 0, 0)"
_FTRUNCATE = "if (ftruncate(file, sizeof(struct board))) return 1"
_COPY = """
#include <string.h>
static const char source[160] = "a text of one hundred and sixty bytes, of which a part is copied into a buffer, "
                                "and behind which nobody knows what there is; nor does this text";
char *buffer; long other[64];
int fill(int c) { memcpy(buffer, source, BYTES); return c * 3; }
long keep(int i) { return other[i & 63] * 5; }
"""
_NAMED = """
#include <stdlib.h>
struct named { char *name; long value; };
#define KEEP __attribute__((noinline))
static KEEP char *copied(char *to, const char *from) { for (char *p = to; (*p = *from); p++, from++) ; return to; }
KEEP void *any(long n) { return copied(malloc(n), "any"); }
KEEP struct named *begin(char *name) { struct named *n = malloc(sizeof *n); n->name = TAKE; n->value = 1; return n; }
KEEP void again(struct named *n, char *name) { DROP; n->name = TAKE; }
KEEP long value(const struct named *n) { return n->value * 3; }
"""
_MANY = """
#include <stdlib.h>
struct node { long key, value; struct node *next; TAIL };
struct node *many(unsigned long n) { return malloc(n * sizeof(struct node)); }
long value(const struct node *n) { return n->value * 3; }
"""
_TARIFF = """
struct session { long id; TARIFF; };
static const int tariffs[4] = { 10, 20, 30, 40 };
void begin(struct session *s, int i) { s->tariff = BEGIN; }
int tariff(const struct session *s) { return LOOK; }
int first(void) { return tariffs[0]; }
long id_of(const struct session *s) { return s->id * 3; }
"""
_COUNTER = """
#define KEEP __attribute__((noinline))
static int last; static COUNTER counter;
KEEP void count(int n) { counter += n; }
KEEP long counted(void) { return counter; }
KEEP void set(int n) { last = n; }
KEEP int get(void) { return last; }
"""
_CURSOR = """
struct entry { int id; TAIL };
struct list { struct entry *first, *end, *room; };
int push(struct list *l, int id) { if (l->end == l->room) return 0; l->end->id = id; l->end++; return 1; }
long room(const struct list *l) { return (char *)l->room - (char *)l->end; }
"""
_KIND = """
struct session { long id; char name[12]; KIND kind; };
void begin(struct session *s) { *(int *)&s->kind = FIRST; }
int is_kind(const struct session *s, int k) { return (int)s->kind == k; }
long id_of(const struct session *s) { return s->id * 3; }
"""
_COUNTED = """
#include <stdlib.h>
struct shared { long value, references; char text[16]; };
struct pair { long left, right; };
#define KEEP __attribute__((noinline,noipa))
KEEP struct shared *make(long v) { struct shared *s = calloc(1, sizeof *s); s->value = v; START; return s; }
KEEP void release(struct shared *s) { RELEASE; }
KEEP long value_of(const struct shared *s) { return s->value; }
KEEP long right_of(const struct pair *p) { return p->right * 5; }
KEEP void swap(struct pair *p) { long t = p->left; p->left = p->right; p->right = t; }
"""
_ROWS = """
struct row { int key, value; TAIL };
extern struct row *rows; extern int count; struct row *rows; int count;
int sum(void) { int s = 0; for (int i = 0; i < count; i++) s = s * 3 + rows[i].value; return s; }
int key(int i) { return rows[i].key; }
int find(int k) { for (int i = 0; i < count; i++) if (rows[i].key == k) return i; return -1; }
long other(long x) { return x * 3; }
"""
_TOLD = """
struct job { long size; int kind, age; };
#define KEEP __attribute__((noinline,noipa))
static KEEP int told(long size) { TOLD; }
KEEP void begin(struct job *j, long size) { j->size = size; j->kind = told(size); j->age = 1; }
KEEP int asked(const struct job *j) { return told(j->size) ANSWER; }
KEEP long price(const struct job *j) { PRICE; }
KEEP long size_of(const struct job *j) { return j->size * 3 + j->age; }
"""
_WIDE = """
struct record { long id; ELEMENT values[4]; long check[8]; };
void put(struct record *r, int i, ELEMENT v) { r->values[i & 3] = v; }
long get(const struct record *r, int i) { return (long)r->values[i & 3]; }
long id(const struct record *r) { return r->id; }
"""


def _machine(start: str, ready: str, advance: str) -> dict[str, str]:
    return {"START": start, "READY": ready, "ADVANCE": advance}


_KINDS = "return size < 10 ? {} : size < 100 ? {} : {}"
_CHOICES = (
    "switch (j->kind) {{ case {}: return 7; case {}: return j->size + 3; case {}: return j->size * 9; {} }} return 0"
)


def _told(kinds: tuple[int, int, int], choices: tuple[int, int, int], more: str = "") -> dict[str, str]:
    return {"TOLD": _KINDS.format(*kinds), "PRICE": _CHOICES.format(*choices, more), "ANSWER": "== 4"}


def _looked_up(table: str, price: str) -> dict[str, str]:
    told = f"static const char t[] = {{ {table} }}; return t[size % 5]"
    return {"TOLD": told, "PRICE": f"return {price}", "ANSWER": "== 4"}


_RESOLVED = """
static long plain(long x) { return x * 3; }
static long (*resolve(void))(long) { return plain; }
__attribute__((visibility("hidden"), ifunc("resolve"))) long fast(long x);
long by_resolver(long x) { return fast(x) + 1; }
"""
"""A library with a PLT stub whose slot no symbol fills, but a resolver."""

# name: (source, macros of the old build, macros of the new build, code)
_DANGEROUS: dict[str, tuple[str, dict[str, str], dict[str, str], str]] = {
    "a state renumbered": (_MACHINE, _machine("m->state = 5", "m->state == 6", "if (m->state == 5) m->state = 6"),
                           _machine("m->state = 6", "m->state == 7", "if (m->state == 6) m->state = 7"),
                           "state-encoding-changed"),
    "a kind in front that is told by a result": (_TOLD, _told((0, 1, 2), (0, 1, 2)),
                                                 _told((1, 2, 3), (1, 2, 3), "case 0: return 80;"),
                                                 "state-encoding-changed"),
    "a kind in front, told by an exported function": (_TOLD.replace("static KEEP", "KEEP") + _RESOLVED,
                                                      _told((0, 1, 2), (0, 1, 2)),
                                                      _told((1, 2, 3), (1, 2, 3), "case 0: return 80;"),
                                                      "state-encoding-changed"),
    "kinds told by a result in another order": (_TOLD, _told((0, 1, 2), (0, 1, 2)), _told((2, 0, 1), (2, 0, 1)),
                                                "state-encoding-changed"),
    "a kind in front that is looked up": (_TOLD, _looked_up("0, 2, 1, 2, 0", "j->kind == 2 ? 5 : j->size"),
                                          _looked_up("1, 3, 2, 3, 1", "j->kind == 3 ? 5 : j->size * (j->kind != 0)"),
                                          "state-encoding-changed"),
    "a flag moved": (_MACHINE, _machine("m->flags = 1", "(m->flags & 4) != 0", "m->flags |= 4"),
                     _machine("m->flags = 1", "(m->flags & 16) != 0", "m->flags |= 16"), "state-encoding-changed"),
    "a threshold of states": (_MACHINE, _machine("m->state = 1", "m->state >= 2", "m->state = 2"),
                              _machine("m->state = 10", "m->state >= 20", "m->state = 20"), "state-encoding-changed"),
    "a shift of packed bits": (_MACHINE, _machine("m->state = 3 << 8 | 7", "m->state >> 8 == 4", "m->state = 4 << 8"),
                                  _machine("m->state = 3 << 12 | 7", "m->state >> 12 == 4", "m->state = 4 << 12"),
                                  "state-encoding-changed"),
    "a mask of stored values": (_MACHINE, _machine("m->state = 5 ^ 0x5a5a", "(m->state ^ 0x5a5a) == 6", "m->flags++"),
                                _machine("m->state = 5 ^ 0x3333", "(m->state ^ 0x3333) == 6", "m->flags++"),
                                "state-encoding-changed"),
    "a flag moved that is handed over by value": (
        _BY_VALUE, {"READY": "(flags & 4) != 0", "NAMED": "flags & 4 ? 7 : 9"},
        {"READY": "(flags & 16) != 0", "NAMED": "flags & 16 ? 7 : 9"}, "state-encoding-changed"),
    "a table changed whose middle is kept": (_TABLE, {"LENGTH": "11"}, {"LENGTH": "12"}, "contents-may-be-copied"),
    "ints become longs": (_WIDE, {"ELEMENT": "int"}, {"ELEMENT": "long"}, "element-changed"),
    "floats become doubles": (_WIDE, {"ELEMENT": "float"}, {"ELEMENT": "double"}, "element-changed"),
    "bytes become ints": (_WIDE, {"ELEMENT": "signed char"}, {"ELEMENT": "int"}, "element-changed"),
    "objects of an own allocator": (_ARENA, {"TAIL": "", "TOUCH": "m->id += 3"},
                                    {"TAIL": "long more;", "TOUCH": "m->id += 3; m->more = 7"},
                                    "allocation-size-changed"),
    "aligned objects": (_ALIGNED, {"TAIL": "", "TOUCH": "m->id += 3", "ALLOCATE": "memalign(64, sizeof *m)"},
                        {"TAIL": "long more;", "TOUCH": "m->more = 7", "ALLOCATE": "memalign(64, sizeof *m)"},
                        "allocation-size-changed"),
    "sizes in a table": (_LOOKED_UP, {"TAIL": "", "TOUCH": "m->id += 3"},
                         {"TAIL": "long more;", "TOUCH": "m->more = 7"}, "allocation-size-changed"),
    "a longer board in shared memory": (_SHARED, {"ROWS": "100", "BEGIN": _SHMGET},
                                        {"ROWS": "200", "BEGIN": _SHMGET}, "allocation-size-changed"),
    "a longer board in a file": (_SHARED, {"ROWS": "100", "BEGIN": _FTRUNCATE},
                                 {"ROWS": "200", "BEGIN": _FTRUNCATE}, "allocation-size-changed"),
    "a longer fill": (_FILL, {"BYTES": "64"}, {"BYTES": "112"}, "allocation-size-changed"),
    "a wider kind": (_KIND, {"KIND": "unsigned char", "FIRST": "0x11111102"}, {"KIND": "int", "FIRST": "2"},
                     "state-encoding-changed"),
    "references counted": (_COUNTED, {"START": "", "RELEASE": "s->value += 3"},
                           {"START": "s->references = 2", "RELEASE": "if (--s->references <= 0) free(s)"},
                           "member-added"),
    "a longer copy": (_COPY, {"BYTES": "60"}, {"BYTES": "140"}, "allocation-size-changed"),
    "names become copies": (_NAMED, {"TAKE": "name", "DROP": ""},
                            {"TAKE": "copied(malloc(32), name)", "DROP": "free(n->name)"}, "ownership-changed"),
    "many larger ones at once": (_MANY, {"TAIL": ""}, {"TAIL": "long more;"}, "allocation-size-changed"),
    "a pointer becomes an index": (_TARIFF,
                                   {"TARIFF": "const int *tariff", "BEGIN": "tariffs + i", "LOOK": "*s->tariff"},
                                   {"TARIFF": "long tariff", "BEGIN": "i", "LOOK": "tariffs[s->tariff]"},
                                   "element-changed"),
    "a counter widened": (_COUNTER, {"COUNTER": "int"},
                          {"COUNTER": "long"}, "variable-replaced"),
    "rows get longer": (_ROWS, {"TAIL": ""}, {"TAIL": "int flags;"}, "element-changed"),
}  # fmt: skip
_HARMLESS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "a state asked for in addition": (_MACHINE, _machine("m->state = 5", "m->state == 6", "m->state = 6"),
                                      _machine("m->state = 5", "m->state == 6 || m->state == 9", "m->state = 6")),
    "a kind behind the others": (_TOLD, _told((0, 1, 2), (0, 1, 2)), _told((0, 1, 3), (0, 1, 2), "case 3: return 80;")
                                 | {"TOLD": "return size < 10 ? 0 : size < 100 ? 1 : size < 900 ? 2 : 3"}),
    "a value stored in addition": (_MACHINE, _machine("m->state = 5", "m->state == 6", "m->state = 6"),
                                   _machine("m->state = 5", "m->state == 6", "m->state = 6; m->flags = 3")),
    "another default": (_MACHINE, _machine("m->flags = 5", "m->state == 6", "m->state = 6"),
                        _machine("m->flags = 9", "m->state == 6", "m->state = 6")),
    "another end of a range": (_MACHINE, _machine("m->state = 5", "m->state >= 40 && m->state < 70", "m->flags = 6"),
                               _machine("m->state = 5", "m->state > 40 && m->state < 70", "m->flags = 6")),
    "another bound": (_MACHINE, _machine("m->state = 5", "m->flags <= 40", "m->state = 6"),
                      _machine("m->state = 5", "m->flags <= 50", "m->state = 6")),
}  # fmt: skip


@cache
def _build(source: str, macros: tuple[tuple[str, str], ...], level: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "meaning.c")
        path.write_text("".join(f"#define {name} {text}\n" for name, text in macros) + source)
        library = path.with_suffix(".so")
        command = ["gcc", level, "-fPIC", "-shared", "-Wl,--build-id", "-Wl,-Bsymbolic", "-o", str(library), str(path)]
        subprocess.run(command, check=True)
        return read_image(library)


def _compare(source: str, old: dict[str, str], new: dict[str, str], level: str) -> Outcome:
    return compare(_build(source, tuple(old.items()), level), _build(source, tuple(new.items()), level))


def _refusals(outcome: Outcome) -> set[str]:
    return {reason.code for reason in outcome.reasons if reason.severity is Severity.REFUSAL}


@pytest.mark.parametrize("name", list(_DANGEROUS))
@pytest.mark.parametrize("level", _LEVELS)
def test_another_meaning_is_refused(name: str, level: str) -> None:
    source, old, new, code = _DANGEROUS[name]
    refused = _refusals(_compare(source, old, new, level))
    assert refused
    if level == "-O2":
        assert code in refused


@pytest.mark.parametrize("name", list(_HARMLESS))
@pytest.mark.parametrize("level", _LEVELS)
def test_the_same_meaning_is_not(name: str, level: str) -> None:
    source, old, new = _HARMLESS[name]
    assert _refusals(_compare(source, old, new, level)) == set()


@pytest.mark.parametrize("level", _LEVELS)
def test_code_that_was_added_looks_a_changed_table_up(level: str) -> None:
    """It has no old version whose callers could be asked where they keep what it returns."""
    source = """
#define KEEP __attribute__((noinline,noipa))
static const char table[] = { ROWS };
KEEP long price(long size) { return table[size % 5] * size; }
#ifdef ADDED
KEEP long told(long size) { return table[size % 5]; }
#endif
KEEP long other(long size) { return size * 3; }
"""
    outcome = _compare(source, {"ROWS": "0, 2, 1, 2, 0"}, {"ROWS": "1, 3, 2, 3, 1", "ADDED": ""}, level)
    assert outcome.statistics.added == 1


@pytest.mark.parametrize("level", ["-O1", "-O2", "-O3", "-Os"])
def test_longer_steps_of_a_kept_end_are_refused(level: str) -> None:
    """At -O0 gcc computes the next end with `lea`, which may as well be the address of a member: not seen."""
    assert "element-changed" in _refusals(_compare(_CURSOR, {"TAIL": "int a;"}, {"TAIL": "int a, b;"}, level))
