"""What a function is seen to return, and where its callers keep it, on code that compilers make."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from hotmend.image.body import Body
from hotmend.image.elf import read_image
from hotmend.image.references import Survey, survey
from hotmend.image.results import results_kept, what_is_returned

_SOURCE = """
#define KEEP __attribute__((noinline,noipa))
struct job { long size; int kind; };
static int last; static long other;
KEEP int sorted_out(long size) { return size < 10 ? 4 : size < 100 ? 5 : 6; }
KEEP int checked(const char *s) { if (!s) return -1; if (*s == 'a') return 7; return 0; }
KEEP int looked_up(unsigned n) { static const int t[6] = { 9, 4, 8, 1, 7, 3 }; return n < 6 ? t[n] : -2; }
KEEP long computed(long a, long b) { return a * b + 3; }
KEEP int counted(int n) { int r = 2; for (int i = 0; i < n; i++) r = r == 2 ? 3 : 2; return r; }
KEEP void keep_in_member(struct job *j) { j->kind = sorted_out(j->size); }
KEEP void keep_in_variable(long size) { last = sorted_out(size); other = size; }
KEEP long sum(void) { return last + other; }
KEEP void keep_nothing(struct job *j, long size) { if (sorted_out(size) == 5) j->kind = 1; }
KEEP void keep_another(struct job *j, long size) { sorted_out(size); j->kind = checked("b"); }
"""
_LEVELS = ("-O0", "-O1", "-O2", "-O3", "-Os")


@cache
def _library(compiler: str, level: str) -> Survey:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "results.c")
        source.write_text(_SOURCE)
        library = source.with_suffix(".so")
        command = [compiler, level, "-fPIC", "-shared", "-Wl,--build-id", "-Wl,-Bsymbolic"]
        subprocess.run([*command, "-o", str(library), str(source)], check=True)
        return survey(read_image(library))


def _start(library: Survey, name: str) -> int:
    return next(s.value for (known, _), s in library.image.exports.items() if known == name)


def _body(library: Survey, name: str) -> Body:
    return Body(library, library.at[_start(library, name)])


@pytest.fixture(params=[(c, level) for c in ("gcc", "clang") for level in _LEVELS], ids="".join)
def library(request: pytest.FixtureRequest) -> Survey:
    return _library(*request.param)


def test_constants_are_seen_on_every_way_out(library: Survey) -> None:
    assert what_is_returned(_body(library, "sorted_out")).constants == {4, 5, 6}
    assert what_is_returned(_body(library, "checked")).constants == {0xFFFFFFFF, 7, 0}


def test_a_loop_comes_to_an_end(library: Survey) -> None:
    assert what_is_returned(_body(library, "counted")).constants <= {2, 3}


def test_what_is_computed_is_no_constant(library: Survey) -> None:
    found = what_is_returned(_body(library, "computed"))
    assert found.constants == found.tables == set()


def test_a_table_is_seen(library: Survey) -> None:
    (table,) = what_is_returned(_body(library, "looked_up")).tables
    assert library.image.read(table, 12) == b"\x09\0\0\0\x04\0\0\0\x08\0\0\0"


def test_places_where_a_result_is_kept(library: Survey) -> None:
    def kept(name: str) -> set[tuple[str, int]]:
        return results_kept(_body(library, name), frozenset({_start(library, "sorted_out")}))

    assert kept("keep_in_member") == {("member", 8)}
    ((kind, where),) = kept("keep_in_variable")
    read = {i.ip_rel_memory_address for i in _body(library, "sum").instructions if i.is_ip_rel_memory_operand}
    assert kind == "at"
    assert where in read
    assert kept("keep_nothing") == set()
    assert kept("keep_another") == set()
