"""The dynamic linker's list of images, found in real processes; and processes in which it may not be used."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotmend.diff.pipeline import compare
from hotmend.image.elf import read_image
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import process_images
from hotmend.live import driver
from hotmend.live.needs import link_map
from hotmend.live.ranges import Ranges, find_ranges
from hotmend.model.hotpatch import Hotpatch, Outcome
from tests.live.conftest import Target

SOURCE = """
#include <cstdio>
#include <stdexcept>
static volatile int limit = %d;
__attribute__((noipa)) static int parse(int value)
{
    if (value > limit)
        throw std::runtime_error("no");
    return value;
}
__attribute__((noipa)) static int guarded(int value)
{
    try {
        return parse(value);
    } catch (const std::exception &) {
        return %d * limit;
    }
}
int main()
{
    std::puts("ready");
    std::fflush(stdout);
    for (char line[16]; std::fgets(line, sizeof line, stdin);) {
        std::printf("%%d\\n", guarded(9));
        std::fflush(stdout);
    }
}
"""
ANOTHER_UNWINDER = "int _Unwind_RaiseException(void *e) { return e != 0; }\n"


def _compile(folder: Path, *options: str) -> tuple[Path, Path]:
    """Return the old and the new program: the handler answers 10 in the one and 15 in the other."""
    programs = []
    for name, factor in (("old", 2), ("new", 3)):
        source, program = folder / f"{name}.cc", folder / name
        source.write_text(SOURCE % (5, factor))
        command = ["g++", "-O2", "-Wl,--build-id", "-o", str(program), str(source), *options]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        programs.append(program)
    return programs[0], programs[1]


def _build(old: Path, new: Path) -> Outcome:
    return compare(read_image(old), read_image(new))


@contextmanager
def _running(program: Path) -> Iterator[Target]:
    target = Target(program)
    try:
        yield target
    finally:
        target.close()


def _codes(hotpatch: Hotpatch | None, pid: int) -> tuple[str, set[str]]:
    assert hotpatch is not None
    (result,) = driver.apply([hotpatch], [pid], driver.Options())
    return result.state, {reason.code for reason in result.reasons}


@pytest.mark.live
def test_every_image_of_a_process_has_its_row(tmp_path: Path) -> None:
    old, _ = _compile(tmp_path)
    with _running(old) as target, ProcessMemory(target.pid) as memory:
        images = process_images(target.pid, memory).images
        found = find_ranges(link_map(images, memory), images, memory)
        assert isinstance(found, Ranges), found
        libraries = [image for image in images if ".so" in image.path]
        assert len(libraries) >= 4  # libstdc++, libm, libgcc_s, libc, and the dynamic linker
        for image in libraries:
            assert any(row.start == image.start and row.start < row.table < row.end for row in found.rows), image


@pytest.mark.live
def test_one_row_is_added_and_stays(tmp_path: Path) -> None:
    old, new = _compile(tmp_path)
    hotpatch = _build(old, new).hotpatch
    with _running(old) as target, ProcessMemory(target.pid) as memory:
        images = process_images(target.pid, memory).images
        counts: list[int] = []
        for word, answer in (("", "10"), ("apply", "15"), ("revert", "10"), ("apply", "15")):
            if word == "apply":
                assert _codes(hotpatch, target.pid) == ("applied", set())
            elif word == "revert":
                assert driver.revert(None, [target.pid], driver.Options())[0].state == "reverted"
            assert target.ask("ask\n") == answer
            found = find_ranges(link_map(images, memory), images, memory)
            assert isinstance(found, Ranges), found
            counts.append(len(found.rows) - counts[0] if counts else len(found.rows))
        assert counts[1:] == [1, 1, 1]


@pytest.mark.live
def test_another_unwinder_in_the_process_is_refused(tmp_path: Path) -> None:
    source, library = tmp_path / "unwinder.c", tmp_path / "libunwinder.so"
    source.write_text(ANOTHER_UNWINDER)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True, capture_output=True, timeout=60)
    # Behind libgcc_s: it is in the way, and nothing of the program uses it.
    old, new = _compile(tmp_path, "-lstdc++", "-lgcc_s", "-Wl,--no-as-needed", str(library), f"-Wl,-rpath,{tmp_path}")
    hotpatch = _build(old, new).hotpatch
    with _running(old) as target:
        assert _codes(hotpatch, target.pid) == ("refused", {"unwind-through-new-code"})
        assert target.ask("ask\n") == "10"


def test_an_image_with_a_runtime_of_its_own_is_refused(tmp_path: Path) -> None:
    outcome = _build(*_compile(tmp_path, "-static-libgcc", "-static-libstdc++"))
    assert outcome.hotpatch is None
    assert "unwind-through-new-code" in {reason.code for reason in outcome.reasons}
