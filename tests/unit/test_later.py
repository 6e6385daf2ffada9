"""What processes with old images cannot load later, on files that the compiler made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hotmend.agent.apt.later import UNKNOWN, needed_later
from hotmend.image.deb import ElfFile


def built(folder: Path, name: str, source: str, *arguments: str) -> ElfFile:
    path = folder / name
    path.with_suffix(".c").write_text(source)
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", path, path.with_suffix(".c"), *arguments], check=True)
    return ElfFile(f"usr/lib/{name}", path.read_bytes())


OLD_CORE = "int core_open(void) { return 1; }"
NEW_CORE = f"{OLD_CORE} int core_check(void) {{ return 2; }}"
OLD_MODULE = "int core_open(void); int module(void) { return core_open(); }"
NEW_MODULE = "int core_open(void); int core_check(void); int module(void) { return core_open() + core_check(); }"
WEAK_MODULE = "int core_check(void) __attribute__((weak)); int module(void) { return core_check ? core_check() : 0; }"


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ((OLD_CORE, OLD_MODULE), (NEW_CORE, NEW_MODULE), ("core_check",)),
        ((OLD_CORE, OLD_MODULE), (NEW_CORE, OLD_MODULE), ()),
        ((OLD_CORE, OLD_MODULE), (NEW_CORE, WEAK_MODULE), ()),
        ((NEW_CORE, OLD_MODULE), (NEW_CORE, NEW_MODULE), ()),
        ((OLD_CORE, OLD_MODULE), (OLD_CORE, NEW_MODULE), ()),  # somebody else's symbol: nothing of this update
    ],
)
def test_missing(tmp_path: Path, old: tuple[str, str], new: tuple[str, str], missing: tuple[str, ...]) -> None:
    sides = []
    for side, (core, module) in (("old", old), ("new", new)):
        folder = tmp_path / side
        folder.mkdir()
        sides.append((built(folder, "core.so", core), built(folder, "module.so", module)))
    assert needed_later(*sides) == missing


def test_what_cannot_be_read_is_not_known() -> None:
    assert needed_later([ElfFile("usr/lib/none.so", b"\x7fELF")], []) == (UNKNOWN,)
