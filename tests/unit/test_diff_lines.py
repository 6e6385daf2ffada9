"""Functions in which nothing changed but source line numbers, each on a small pair of libraries."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from hotmend.diff.lines import _files_out_of_order, _Line
from hotmend.diff.options import Options
from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.model.hotpatch import Outcome
from hotmend.model.verdict import Verdict

_SOURCE = """
__attribute__((noinline)) void report(const char *file, int line, const char *function) {{
    __asm__ volatile("" :: "r"(file), "r"(line), "r"(function) : "memory");
}}
__attribute__((noinline)) void release(void *p, const char *file, int line) {{
    __asm__ volatile("" :: "r"(p), "r"(file), "r"(line) : "memory");
}}
__attribute__((noinline)) void fill(int size, const char *text) {{
    __asm__ volatile("" :: "r"(size), "r"(text) : "memory");
}}
int checked(int x) {{ if (x < {least}) {{ report("{file}", {line1}, "checked"); return -1; }} return x * 7; }}
int twice(int x, void *p) {{
    if (x > 100) {{ report("{file}", {line2}, "twice"); x = 100; }}
    release(p, "{file}", {line3});
    if (x == 3) {{ report("{file}", {line4}, "twice"); release(p, "{file}", {line5}); return 0; }}
    return x + 2;
}}
int unrelated(int x) {{ fill({size}, "{text}"); return x ^ 5; }}
int other(int x) {{ return checked(x) + twice(x, 0) + unrelated(x); }}
"""
_OLD = {"file": "src/a.c", "least": "0", "line1": "10", "line2": "20", "line3": "22", "line4": "30", "line5": "31",
        "size": "64", "text": "text"}  # fmt: skip
_SHIFTED = _OLD | {"line1": "13", "line2": "24", "line3": "26", "line4": "35", "line5": "36"}


@cache
def _build(compiler: str, level: str, source: str) -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lines.c")
        path.write_text(source)
        library = path.with_suffix(".so")
        command = [compiler, level, "-fPIC", "-shared", "-Wl,--build-id", "-o", str(library), str(path)]
        subprocess.run(command, check=True)
        return read_image(library)


def _compare(new: dict[str, str], compiler: str = "gcc", level: str = "-O2", options: Options | None = None) -> Outcome:
    sources = [_SOURCE.format(**values) for values in (_OLD, new)]
    return compare(_build(compiler, level, sources[0]), _build(compiler, level, sources[1]), options=options)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("level", ["-O1", "-O2", "-O3", "-Os"])
def test_shifted_lines_change_nothing(compiler: str, level: str) -> None:
    outcome = _compare(_SHIFTED, compiler, level)
    assert outcome.verdict is Verdict.NO_CHANGE
    (reason,) = outcome.reasons
    assert reason.code == "line-numbers-kept"
    assert {"checked", "twice"} <= set(reason.subjects) <= {"checked", "twice", "other"}  # clang inlines them there
    assert outcome.statistics.cosmetic == len(reason.subjects)


def test_exact_takes_them_in() -> None:
    outcome = _compare(_SHIFTED, options=Options(exact=True))
    assert outcome.verdict is Verdict.HOTPATCH
    assert (outcome.statistics.changed, outcome.statistics.cosmetic) == (2, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"least": "1"},  # a real change beside the lines
        {"size": "65"},  # a number that no source file goes with
        {"file": "src/b.c"},  # another file
    ],
)
def test_a_real_change_goes_in(change: dict[str, str]) -> None:
    outcome = _compare(_SHIFTED | change)
    assert outcome.hotpatch is not None
    assert outcome.statistics.changed > 0


def test_numbers_that_change_places_are_no_lines() -> None:
    outcome = _compare(_OLD | {"line2": "31", "line5": "20"})
    assert outcome.statistics.cosmetic == 0
    assert outcome.statistics.changed == 1


def test_beside_a_text_that_names_a_file_a_number_out_of_order_is_no_line() -> None:
    a, b = b"a.c\0", b"b.c\0"
    assert _files_out_of_order([_Line(a, 1, 2), _Line(a, 5, 9), _Line(b, 5, 4), _Line(b, 3, 2)]) == set()
    assert _files_out_of_order([_Line(a, 1, 9), _Line(a, 5, 8), _Line(b, 1, 1)]) == {a}
    assert _files_out_of_order([_Line(a, 1, 9), _Line(a, 1, 8)]) == {a}
    assert _files_out_of_order([_Line(a, 1, 9), _Line(a, 2, 9)]) == {a}


_SIZED = """
__attribute__((noinline)) void *allocate(long size, const char *file, int line) {{
    __asm__ volatile("" :: "r"(size), "r"(file), "r"(line) : "memory");
    return 0;
}}
void *buffer(void) {{ char *p = allocate({size}, "src/a.c", {line}); return p ? p + 1 : p; }}
"""


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("line", ["12", "13"])
def test_a_size_beside_the_name_of_a_file_is_no_line_number(compiler: str, line: str) -> None:
    """An allocator that also gets file and line: what a fix changes is its size."""
    old = _build(compiler, "-O2", _SIZED.format(size=128, line=12))
    outcome = compare(old, _build(compiler, "-O2", _SIZED.format(size=256, line=line)))
    assert outcome.verdict is Verdict.BASELINE_REQUIRED
    assert {reason.code for reason in outcome.reasons} == {"allocation-size-changed"}


_CHOICE = """
#include <stdio.h>
__attribute__((noinline)) void report(const char *file, int line, int x) {{ printf("%s:%d %d\\n", file, line, x); }}
__attribute__((noinline)) int work(int x, int y) {{ return printf("%d %d\\n", x, y); }}
int choose(int x, int y)
{{
    switch (x) {{
    case 0: return work(1, 7);
    case 1: return work(2, 8);
    case 2: case {good}: return work(y, 4) + 7;
    case 4: case {bad}: report("src/a.c", {line}, x); return -1;
    case 5: return work(y, y) * 5;
    case 7: return work(y, y + 1);
    default: return -2;
    }}
}}
int check(int x) {{ if (x > 3) {{ report("src/a.c", {line} + 30, x); return 9; }} return work(x, 3); }}
int weigh(int x)
{{
    static const short weights[] = {{10, 20, {weight}, 40, 50, 60, 70, 80, 90, 100}};
    if (x < 0) {{ report("src/a.c", {line} + 60, x); return 0; }}
    return work(weights[x % 10], 5);
}}
"""
_CHOICES = {"good": 3, "bad": 6, "weight": 30, "line": 100}


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({}, set()),
        ({"good": 6, "bad": 3}, {"choose"}),  # one case leads elsewhere, by a table of distances
        ({"weight": 31}, {"weigh"}),
    ],
)
def test_data_of_a_function_in_which_lines_moved_is_compared(change: dict[str, int], changed: set[str]) -> None:
    old = _build("gcc", "-O2", _CHOICE.format(**_CHOICES))
    outcome = compare(old, _build("gcc", "-O2", _CHOICE.format(**_CHOICES | {"line": 101} | change)))
    redirected = {r.name for r in outcome.hotpatch.redirections} if outcome.hotpatch else set()
    assert redirected == changed, outcome.reasons
    (reason,) = outcome.reasons
    assert reason.code == "line-numbers-kept"
    assert set(reason.subjects) == {"choose", "check", "weigh"} - changed
