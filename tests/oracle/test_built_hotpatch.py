"""A hotpatch built from two compiled libraries, against the new library itself and what objdump says of both."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from hotmend.cli.main import run
from hotmend.image.elf import read_image
from hotmend.model.hotpatch import Hotpatch, RelocationKind
from hotmend.package.bundle import load

_SOURCE = """
#include <stdio.h>
#include <string.h>
static int calls;
static const char *const names[] = {"zero", "one", "two"};
__attribute__((noinline)) static int weight(const char *text) { return (int)strlen(text) * 3 + calls; }
__attribute__((noinline)) int look(int number) {
    calls++;
    CHECK
    printf("%s\\n", names[number]);
    return weight(names[number]);
}
int total(void) { int sum = 0; for (int i = 0; i < 3; i++) sum += look(i); return sum; }
int seen(void) { return calls; }
int other(int x) { return weight("other") + x; }
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The new library and the hotpatch."""
    folder = tmp_path_factory.mktemp("built")
    for label, check in (("old", ""), ("new", "if (number < 0 || number > 2) return -1;")):
        (folder / label).mkdir()
        (folder / label / "look.c").write_text(_SOURCE.replace("CHECK", check))
        command = ["gcc", "-O2", "-g", "-fPIC", "-shared", "-Wl,--build-id", "-o", "liblook.so", "look.c"]
        subprocess.run(command, cwd=folder / label, check=True)
    libraries = [str(folder / label / "liblook.so") for label in ("old", "new")]
    assert run(["build", *libraries, "-o", str(folder / "look.hotpatch")]) == 0
    return folder / "new" / "liblook.so", folder / "look.hotpatch"


def _hotpatch(path: Path) -> Hotpatch:
    (hotpatch,) = load(path)
    return hotpatch


def test_the_changed_function_and_nothing_else_is_in_it(built: tuple[Path, Path]) -> None:
    assert [function.name for function in _hotpatch(built[1]).functions] == ["look"]


def test_outside_the_relocations_bytes_are_those_of_the_new_build(built: tuple[Path, Path]) -> None:
    hotpatch, image = _hotpatch(built[1]), read_image(built[0])
    fields = {
        int(r.address) + i for r in hotpatch.relocations for i in range(8 if r.kind is RelocationKind.ABS64 else 4)
    }
    for function in hotpatch.functions:
        expected = image.read(function.new.start, function.new.size)
        (text,) = (s for s in hotpatch.segments if function.new.start in s.extent)
        offset = function.new.start - text.extent.start
        content = text.content[offset : offset + function.new.size]
        for address, (ours, theirs) in enumerate(zip(content, expected, strict=True), function.new.start):
            assert ours == theirs or address in fields, hex(address)


def test_objdump_reads_the_same_instructions_from_both(built: tuple[Path, Path]) -> None:
    """Opcodes and addresses are equal; operands that a relocation fills in are not there yet."""

    (look,) = _hotpatch(built[1]).functions

    def instructions(path: Path) -> list[tuple[str, str]]:
        limits = [f"--start-address={look.new.start}", f"--stop-address={look.new.end}"]
        command = ["objdump", "-d", "--no-show-raw-insn", *limits, str(path)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return re.findall(r"^ +([0-9a-f]+):\t(\w+)", printed, re.MULTILINE)

    assert instructions(built[1]) == instructions(built[0])
    assert len(instructions(built[1])) > 5


def test_inspect_prints_what_readelf_prints(built: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(built[1])]) == 0
    ours = capfd.readouterr().out
    printed = subprocess.run(["readelf", "-rW", built[1]], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^([0-9a-f]{16})  \S+ (R_\S+)", printed, re.MULTILINE)
    listed = re.findall(r"^ +0x([0-9a-f]+)  (R_\S+)", ours, re.MULTILINE)
    assert [(int(at, 16), kind) for at, kind in listed] == [(int(at, 16), kind) for at, kind in rows]
