"""Code that goes on in the function behind it, as assembler of several entries does."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.image.image import Image
from hotmend.model.hotpatch import Hotpatch, OldTarget

_SOURCE = """
__asm__(
    ".type checked, @function\\n" "checked:\\n" ".cfi_startproc\\n"
    "    cmpq $LIMIT, %rdi\\n" "    ja 1f\\n" "    .cfi_endproc\\n" ".size checked, . - checked\\n"
    "BETWEEN\\n"
    ".type loose, @function\\n" "loose:\\n" ".cfi_startproc\\n"
    "    CHECK\\n" "    leaq (%rdi,%rdi,2), %rax\\n" "    addq $7, %rax\\n" "    ret\\n"
    "1:  xorl %eax, %eax\\n" "    ret\\n" "    .cfi_endproc\\n" ".size loose, . - loose\\n");
long checked(long) __attribute__((visibility("hidden"))), loose(long) __attribute__((visibility("hidden")));
long one(long x) { return checked(x) + 1; }
long two(long x) { return x * 7 + 2; }
"""
_TWO = "\nlong three(long x) { return loose(x) * 3; }\n"


@cache
def _build(limit: str, between: str, check: str, more: str) -> Image:
    source = _SOURCE.replace("LIMIT", limit).replace("BETWEEN", between).replace("CHECK", check)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "runs.c")
        path.write_text(source + more)
        library = path.with_suffix(".so")
        command = ["gcc", "-O2", "-fPIC", "-shared", "-Wl,--build-id", "-s", "-o", str(library), str(path)]
        subprocess.run(command, check=True)
        return read_image(library)


def _hotpatch(between: str, old: tuple[str, str], new: tuple[str, str], more: str = "") -> Hotpatch:
    outcome = compare(*(_build(limit, between, check, more) for limit, check in (old, new)))
    assert outcome.hotpatch is not None, outcome.reasons
    return outcome.hotpatch


def _shadow(hotpatch: Hotpatch, start: int, size: int) -> bytes:
    """Return what the shadow has from a link address on, as the loader fills pages."""
    content = {s.extent.start + n: byte for s in hotpatch.segments for n, byte in enumerate(s.content)}
    return bytes(content.get(start + n, 0) for n in range(size))


@pytest.mark.parametrize("between", ["", ".p2align 5"])
def test_it_goes_on_in_the_old_one_that_stays(between: str) -> None:
    hotpatch = _hotpatch(between, ("1000", "nop"), ("100", "nop"), _TWO)
    (checked,) = hotpatch.functions
    end = checked.new.end
    start = -(-end // 32) * 32 if between else end
    assert _shadow(hotpatch, start, 1) == b"\xe9"
    assert 0 not in _shadow(hotpatch, end, start - end)[:1]  # padding can be run
    (jump,) = (r for r in hotpatch.relocations if r.address == start + 1)
    assert isinstance(jump.target, OldTarget)


@pytest.mark.parametrize("between", ["", ".p2align 5"])
def test_it_changes_where_the_one_behind_changes(between: str) -> None:
    new = _build("1000", between, "cmpq $9, %rdi; jl 1f", "")
    hotpatch = _hotpatch(between, ("1000", "nop"), ("1000", "cmpq $9, %rdi; jl 1f"))
    checked, loose = hotpatch.functions
    assert [r.new for r in hotpatch.redirections] == [checked.new.start]
    size = int(loose.new.end - checked.new.start)
    assert _shadow(hotpatch, checked.new.start, size) == new.read(checked.new.start, size)
