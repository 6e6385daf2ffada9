"""A few scenarios by way of the command itself: its exit codes and its JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from .builds import compile_pair
from .catalog import HERE, cases_of
from .engine import Said, run_hotmend
from .target import Target

pytestmark = pytest.mark.scenario


def build(name: str, folder: Path, image: str = "program", label: str = "gcc-O2") -> tuple[Path, Path, Said]:
    """Build a scenario's hotpatch; return the old program, the file and what was said."""
    case = next(case for case in cases_of(HERE / name) if case.configuration.label == label)
    pair = compile_pair(case)
    file = folder / "update.hotpatch"
    said = run_hotmend("build", str(pair.old.image(image)), str(pair.new.image(image)), "-o", str(file))
    return pair.old.program, file, said


@pytest.mark.parametrize(
    ("name", "image", "old", "new"),
    [
        ("changed-function", "program", "changed 23", "changed 32"),
        ("library-linked", "library", "library 12 version 1", "library 13 version 1"),
        ("cxx-virtual", "program", "area 12.0 7.0", "area 12.5 7.0"),
    ],
)
def test_there_and_back(tmp_path: Path, name: str, image: str, old: str, new: str) -> None:
    program, file, said = build(name, tmp_path, image)
    assert said.code == 0, said
    with Target(program) as target:
        pid = str(target.pid)
        assert target.ask() == old
        dry = run_hotmend("apply", str(file), "--pid", pid, "--dry-run")
        assert dry.code == 0, dry
        assert target.ask() == old
        applied = run_hotmend("apply", str(file), "--pid", pid)
        assert applied.code == 0, applied
        (report,) = [entry for entry in applied.objects if entry.get("pid") == target.pid]
        assert {"threads", "attempts", "pause_us"} <= report.keys()
        assert target.ask() == new
        status = run_hotmend("status", "--pid", pid)
        assert status.code == 0, status
        assert any(entry.get("pid") == target.pid for entry in status.objects), status
        assert run_hotmend("apply", str(file), "--pid", pid).code == 3
        assert target.ask() == new
        assert run_hotmend("revert", str(file), "--pid", pid).code == 0
        assert target.ask() == old
        assert run_hotmend("revert", str(file), "--pid", pid).code == 3
        target.quit()


def test_no_change_is_3(tmp_path: Path) -> None:
    _, file, said = build("same-code", tmp_path)
    assert said.code == 3, said
    assert not file.exists()


def test_same_file_twice_is_3(tmp_path: Path) -> None:
    _, file, said = build("same-build", tmp_path)
    assert said.code == 3, said
    assert not file.exists()


def test_refused_build_is_4_with_reasons(tmp_path: Path) -> None:
    _, file, said = build("computed-goto-heap", tmp_path)
    assert said.code == 4, said
    assert not file.exists()
    assert "computed-goto" in str(said.objects) or "interior" in str(said.objects), said


def test_refused_apply_is_4_and_names_the_function(tmp_path: Path) -> None:
    program, file, said = build("always-active", tmp_path, label="gcc-O2-symbols")
    assert said.code == 0, said
    with Target(program) as target:
        applied = run_hotmend("apply", str(file), "--pid", str(target.pid), "--deadline", "0.5")
        assert applied.code == 4, applied
        assert "spin_forever" in str(applied.objects)
        assert target.ask() == "active 1"
        target.quit()


def test_process_of_another_build_is_nothing_to_do(tmp_path: Path) -> None:
    _, file, _ = build("changed-function", tmp_path)
    other = next(case for case in cases_of(HERE / "changed-string"))
    program = compile_pair(other).old.program
    with Target(program) as target:
        assert run_hotmend("apply", str(file), "--pid", str(target.pid)).code == 3
        target.quit()


def test_unknown_option_is_2() -> None:
    assert run_hotmend("build", "--no-such-option").code == 2
