"""Instructions and references of a survey against objdump, and against the relocations that the linker kept."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from hotmend.image.body import Body
from hotmend.image.code import plt_stubs
from hotmend.image.elf import read_image
from hotmend.image.references import ABSOLUTE, CALL, DATA, JUMP, LEA, Survey, survey

_IMAGES = ("/bin/ls", "/usr/bin/dpkg-deb", "/lib/x86_64-linux-gnu/libz.so.1")
_BRANCH = re.compile(r"^(?:bnd |notrack |cs |ds )*(j\w+|call|loop\w*|xbegin)(?:,p[nt])? +([0-9a-f]+)(?: <|$)")


@dataclass(frozen=True)
class Line:
    """One instruction as objdump prints it; `mentioned` is the address behind `#`, where there is one."""

    address: int
    size: int
    text: str
    mentioned: int | None


@cache
def _lines(path: Path) -> dict[int, Line]:
    printed = subprocess.run(["objdump", "-d", "-w", path], capture_output=True, text=True, check=True).stdout
    result = {}
    for address, raw, text in re.findall(r"^ *([0-9a-f]+):\t([0-9a-f ]+?) *\t(.*)$", printed, re.MULTILINE):
        found = re.search(r"# ([0-9a-f]+)(?: <|$)", text)
        at = int(address, 16)
        result[at] = Line(at, len(raw.split()), text, int(found[1], 16) if found else None)
    return result


@cache
def _survey(path: Path) -> Survey:
    return survey(read_image(path))


@pytest.fixture(params=_IMAGES)
def path(request: pytest.FixtureRequest) -> Path:
    return Path(str(request.param)).resolve()


def _functions(found: Survey) -> list[int]:
    return [i for i, code in enumerate(found.codes) if not code.gap]


def test_instructions_have_the_same_places_and_lengths(path: Path) -> None:
    found, lines = _survey(path), _lines(path)
    compared = 0
    for i in _functions(found):
        code = found.codes[i]
        ours = [(n.ip, n.len) for n in Body(found, i).instructions]
        theirs = [(a, lines[a].size) for a in range(code.start, code.end) if a in lines]
        assert ours == theirs, code.label
        compared += len(ours)
    assert compared > 5000


def _expected(found: Survey, lines: dict[int, Line]) -> set[tuple[int, int, int]]:
    """Return (address of the instruction, kind, target) of every reference that objdump's text shows."""
    result = set()
    for i in _functions(found):
        code = found.codes[i]
        for at in range(code.start, code.end):
            line = lines.get(at)
            if line is None:
                continue
            if line.mentioned is not None and "(%rip)" in line.text:
                kind = LEA if re.match(r"lea\w? ", line.text) else DATA
                result.add((at, kind, line.mentioned))
            branch = _BRANCH.match(line.text)
            if branch:
                target, call = int(branch[2], 16), branch[1] == "call"
                if not code.start <= target < code.end or (call and target == code.start):
                    result.add((at, CALL if call else JUMP, target))
    return result


def test_references_are_those_that_objdump_mentions(path: Path) -> None:
    found, lines = _survey(path), _lines(path)
    r = found.references
    ours = set()
    for i in _functions(found):
        for n in range(int(r.first[i]), int(r.first[i + 1])):
            end = int(r.field[n] + r.tail[n])
            (start,) = (a for a in range(end - 15, end) if a in lines and a + lines[a].size == end)
            assert start < r.field[n] < end
            ours.add((start, int(r.kind[n]), int(r.target[n])))
    expected = _expected(found, lines)
    assert ours == expected
    assert {kind for _, kind, _ in expected} == {DATA, LEA, CALL, JUMP}
    assert len(expected) > 500


def test_fields_hold_the_distance_to_their_target(path: Path) -> None:
    found = _survey(path)
    r = found.references
    relative = r.kind != ABSOLUTE
    assert relative.all()
    for field, width, tail, target in zip(
        r.field.tolist(), r.width.tolist(), r.tail.tolist(), r.target.tolist(), strict=True
    ):
        distance = int.from_bytes(found.image.read(field, width), "little", signed=True)
        assert field + tail + distance == target


def test_plt_stubs_jump_through_the_slots_that_objdump_shows(path: Path) -> None:
    found, lines = _survey(path), _lines(path)
    stubs = plt_stubs(found.image)
    slots = found.image.slots
    for stub, slot in stubs.items():
        jumps = [lines[a] for a in range(stub, stub + 8) if a in lines and "jmp " in lines[a].text]
        assert [line.mentioned for line in jumps] == [slot], hex(stub)
    named = {slots[slot].name for slot in stubs.values() if slot in slots}
    shown = {
        name
        for line in lines.values()
        if found.holder(line.address) < 0 and "jmp " in line.text
        for name in re.findall(r"# [0-9a-f]+ <(\w+)@(?!@)\w", line.text)
    }
    assert shown <= named
    assert shown


_SOURCE = """
#include <stdio.h>
static int numbers[40] = {1, 2, 3};
static const char *const words[] = {"a", "b", "c"};
static double half = 0.5;
extern int limit; int limit = 7;
__attribute__((noinline)) static int twice(int x) { return x * 2; }
int (*chosen)(int) = twice;
int get(int n) { return numbers[n] + limit; }
const char *word(unsigned n) { return n < 3 ? words[n] : "none"; }
int *place(int n) { return &numbers[n]; }
void choose(int n) { chosen = n ? twice : get; }
double scale(double x) { return x * half + 3.25; }
int cases(int n)
{
    switch (n) { case 0: return get(1); case 1: return twice(n); case 2: return limit; case 3: puts("three"); return 4;
                 case 4: return 90; case 5: return numbers[2]; }
    return -1;
}
int main(int count, char **unused) { return cases(count) + chosen(count) + *place(count) + (int)scale(count); }
"""
_ABSOLUTE = {1: 8, 10: 4, 11: 4}
"""R_X86_64_64, R_X86_64_32 and R_X86_64_32S: bytes of the field."""


@pytest.mark.parametrize("level", ["-O0", "-O2"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_absolute_references_are_those_the_linker_relocated(level: str, compiler: str, tmp_path: Path) -> None:
    """`--emit-relocs` keeps what the linker knew: each field of code that holds an address, and which."""
    source, program = tmp_path / "a.c", tmp_path / "a"
    source.write_text(_SOURCE)
    options = [level, "-no-pie", "-fno-pie", "-Wl,--emit-relocs", "-Wl,--build-id"]
    subprocess.run([compiler, *options, "-o", program, source], check=True)
    found = _survey(program)
    printed = subprocess.run(["readelf", "-rW", program], capture_output=True, text=True, check=True).stdout
    text = printed.split("Relocation section '.rela.text'")[1].split("Relocation section")[0]
    rows = re.findall(
        r"^([0-9a-f]{16})  ([0-9a-f]{16}) R_X86_64_\w+ +([0-9a-f]{16}) .* ([+-]) ([0-9a-f]+)$", text, re.M
    )
    expected = {}
    for at, info, value, sign, addend in rows:
        kind = int(info, 16) & 0xFFFFFFFF
        owner = found.holder(int(at, 16))
        if owner >= 0 and not found.codes[owner].gap and kind in _ABSOLUTE:
            expected[int(at, 16)] = (_ABSOLUTE[kind], int(value, 16) + int(sign + addend, 16))
    r = found.references
    ours = {
        int(r.field[n]): (int(r.width[n]), int(r.target[n]))
        for i in _functions(found)
        for n in range(int(r.first[i]), int(r.first[i + 1]))
        if r.kind[n] == ABSOLUTE
    }
    start_up = {"_start", "deregister_tm_clones", "register_tm_clones", "__do_global_dtors_aux", "frame_dummy"}
    labels = {field: found.codes[found.holder(field)].name for field in ours}
    assert {f: v for f, v in ours.items() if labels[f] not in start_up} == {
        f: v for f, v in expected.items() if found.codes[found.holder(f)].name not in start_up
    }
    assert len(expected) > 5
