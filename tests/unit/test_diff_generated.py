"""Images whose code the file does not hold: writable code, text relocations, code made at run time."""

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
from hotmend.model.verdict import Verdict

_MAKER = """
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#define KEEP __attribute__((noipa))
KEEP int used(int x) {{ return x + {used}; }}
KEEP void *make(const void *code, unsigned long n)
{{
    void *p = mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 0;
    memcpy(p, code, n);
    {between}
    return mprotect(p, n, {protection}) ? 0 : p;
}}
KEEP int sealed(void *p, unsigned long n) {{ return mprotect(p, n, {tail}); }}
"""
_PLAIN = {"used": "1", "between": "", "protection": "PROT_READ", "tail": "PROT_READ"}
_ASKS = _PLAIN | {"protection": "PROT_READ | PROT_EXEC"}


@cache
def _build(source: str, *options: str, suffix: str = ".c") -> Image:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "made").with_suffix(suffix)
        path.write_text(source)
        library = path.with_suffix(".so")
        given = ["-O2", "-fPIC", "-shared", "-Wl,--build-id", *options]
        subprocess.run(["gcc", *given, "-o", str(library), str(path)], check=True, capture_output=True)
        return read_image(library)


def _made(old: dict[str, str], new: dict[str, str], *flags: str, options: Options | None = None) -> Outcome:
    return compare(*(_build(_MAKER.format(**v), *flags) for v in (old, new)), options=options)


def _codes(outcome: Outcome) -> set[str]:
    return {reason.code for reason in outcome.reasons}


def _subjects(outcome: Outcome, code: str) -> tuple[str, ...]:
    return next(reason.subjects for reason in outcome.reasons if reason.code == code)


@pytest.mark.parametrize("flags", [(), ("-fno-plt",), ("-O0",)])
def test_asking_for_executable_memory_is_noted(flags: tuple[str, ...]) -> None:
    outcome = _made(_ASKS, _ASKS | {"used": "2"}, *flags)
    assert outcome.verdict is Verdict.HOTPATCH_WITH_NOTES
    assert _subjects(outcome, "generates-code") == ("make",)


def test_asking_for_plain_memory_is_not_noted() -> None:
    assert _made(_PLAIN, _PLAIN | {"used": "2"}).verdict is Verdict.HOTPATCH


def test_a_function_that_ends_by_asking_is_seen() -> None:
    asks = _PLAIN | {"tail": "PROT_EXEC"}
    assert _subjects(_made(asks, asks | {"used": "2"}), "generates-code") == ("sealed",)


def test_a_changed_function_that_asks_is_refused_and_may_be_left_or_accepted() -> None:
    new = _ASKS | {"used": "2", "between": "*(volatile char *)p = 0x90;"}
    outcome = _made(_ASKS, new)
    assert outcome.verdict is Verdict.BASELINE_REQUIRED
    assert _subjects(outcome, "generator-changed") == ("make",)
    part = _made(_ASKS, new, options=Options(partial=True))
    assert part.hotpatch is not None
    assert {f.name for f in part.hotpatch.functions} == {"used"}
    accepted = _made(_ASKS, new, options=Options(accept=frozenset({"generator-changed"})))
    assert accepted.verdict is Verdict.HOTPATCH_WITH_NOTES


def test_a_function_that_newly_asks_beside_nothing_generated_before_is_noted() -> None:
    assert _codes(_made(_PLAIN, _ASKS)) == {"generates-code"}


_TEXT = """
    .text
    .globl f
    .type f, @function
f:  .cfi_startproc
    {body}
    ret
    .cfi_endproc
    .size f, .-f
    .section .note.GNU-stack,"",@progbits
"""


def test_text_relocations_are_refused() -> None:
    plain, relocated = (_TEXT.format(body=b) for b in ("mov $1, %eax", "movabs $f, %rax"))
    options = ("-Wl,-z,notext",)
    image = _build(relocated, *options, suffix=".s")
    assert image.text_relocations
    outcome = compare(image, _build(plain, *options, suffix=".s"))
    assert _codes(outcome) == {"self-modifying-code"}
    assert _subjects(outcome, "self-modifying-code") == ("old build: text relocations",)


def test_writable_code_is_refused_with_its_place() -> None:
    text = _TEXT.replace("    .text", '    .section .hot,"awx",@progbits')
    old, new = (_build(text.format(body=f"mov ${n}, %eax"), suffix=".s") for n in (1, 2))
    assert any(s.executable and s.writable for s in old.segments)
    outcome = compare(old, new)
    assert outcome.verdict is Verdict.BASELINE_REQUIRED
    assert _subjects(outcome, "self-modifying-code")[0].startswith("old build: writable code from 0x")


_NESTED = """
int each(int (*f)(int), int n);
int f(int x) {{ {body} }}
"""
_ON_STACK = "int g(int y) { return x + y; } return each(g, x);"


def test_code_on_the_stack_needs_a_stack_that_may_hold_it() -> None:
    plain, nested = (_build(_NESTED.format(body=b)) for b in ("return x;", _ON_STACK))
    assert nested.stack_executable
    assert not plain.stack_executable
    assert "stack-not-executable" in _codes(compare(plain, nested))
    other = _build(_NESTED.format(body=_ON_STACK.replace("x + y", "x - y")))
    outcome = compare(nested, other)
    assert outcome.verdict is not Verdict.BASELINE_REQUIRED
    assert _subjects(outcome, "generates-code") == ("code on the stack",)
