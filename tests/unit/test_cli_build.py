"""`hotmend build`: where files go, exit codes and what is printed. The comparison itself is put aside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hotmend.cli.main import run
from hotmend.model.addresses import BuildId
from hotmend.model.hotpatch import Hotpatch, Outcome, Statistics
from hotmend.model.verdict import Reason, Verdict, refusal
from hotmend.package.bundle import load
from hotmend.publisher import build as build_module
from hotmend.publisher.pairing import FileState
from hotmend.publisher.update import FileReport, Side, Update
from tests.hotpatches import sample

Build = Callable[..., int]
Capture = pytest.CaptureFixture[str]

_COUNTS = Statistics(100, 2, 1, 0, (("votes", 40), ("import", 2)), 99, 100)


def _changed(path: str, verdict: Verdict, name: str = "") -> FileReport:
    hotpatch: Hotpatch | None = None
    ids = (BuildId("ab"), BuildId(path.encode().hex()))
    reasons: tuple[Reason, ...] = ()
    if verdict is Verdict.BASELINE_REQUIRED:
        reasons = (refusal("layout-changed", "The structure grew.", "f", "g"),)
    elif verdict is not Verdict.NO_CHANGE:
        hotpatch = replace(sample(), name=name or Path(path).name, path=path, new_build_id=ids[1])
    seconds = (("match", 0.5),)
    outcome = Outcome(name or Path(path).name, path, *ids, verdict, reasons, _COUNTS, hotpatch, seconds=seconds)
    return FileReport(path, path, FileState.CHANGED, outcome)


def _update(*files: FileReport, package: str = "tool") -> Update:
    old = Side("old", package, "1.0-1" if package else "", 1000)
    new = Side("new", package, "1:1.0-2" if package else "", 50_000)
    return Update(old, new, files, ("CVE-2024-1111",) if package else (), ())


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    monkeypatch.chdir(tmp_path)

    def run_build(update: Update, *options: str) -> int:
        monkeypatch.setattr(build_module, "build_update", lambda *_: update)
        return run(["build", "old", "new", *options])

    return run_build


def test_a_package_gives_a_bundle_and_a_directory(build: Build, tmp_path: Path, capfd: Capture) -> None:
    update = _update(_changed("bin/a", Verdict.HOTPATCH), _changed("lib/b.so", Verdict.HOTPATCH_WITH_NOTES))
    assert build(update, "--json") == 0
    shape = json.loads(capfd.readouterr().out)
    assert shape["file"] == "tool_1%3a1.0-2.hotmend"
    assert shape["file_bytes"] == (tmp_path / shape["file"]).stat().st_size
    assert [h.path for h in load(tmp_path / shape["file"])] == ["bin/a", "lib/b.so"]
    files = [image["hotpatch_file"] for image in shape["images"]]
    assert files == ["tool_1%3a1.0-2.d/a.hotpatch", "tool_1%3a1.0-2.d/b.so.hotpatch"]
    assert [load(tmp_path / file)[0].path for file in files] == ["bin/a", "lib/b.so"]
    assert shape["images"][0]["hotpatch_bytes"] == (tmp_path / files[0]).stat().st_size


def test_two_names_of_one_program_give_one_hotpatch(build: Build, tmp_path: Path, capfd: Capture) -> None:
    file = _changed("bin/a", Verdict.HOTPATCH)
    assert file.outcome is not None
    twin = FileReport("bin/b", "bin/b", FileState.CHANGED, replace(file.outcome, path="bin/b"))
    assert build(_update(file, twin), "-o", "u.hotmend", "--json") == 0
    images = json.loads(capfd.readouterr().out)["images"]
    assert [image["hotpatch_file"] for image in images] == ["u.d/a.hotpatch", "u.d/a.hotpatch"]
    assert [h.path for h in load(tmp_path / "u.hotmend")] == ["bin/a"]


def test_two_elf_files_give_one_elf_file(build: Build, tmp_path: Path, capfd: Capture) -> None:
    update = _update(_changed("/x/new/server", Verdict.HOTPATCH, "server"), package="")
    assert build(update) == 0
    assert (tmp_path / "server.hotpatch").read_bytes()[:4] == b"\x7fELF"
    assert "Wrote server.hotpatch" in capfd.readouterr().out
    assert build(update, "-o", "any.name") == 0
    assert (tmp_path / "any.name").read_bytes()[:4] == b"\x7fELF"


def test_the_suffix_decides(build: Build, tmp_path: Path) -> None:
    one = _update(_changed("bin/a", Verdict.HOTPATCH))
    assert build(one, "-o", "a.hotpatch") == 0
    assert (tmp_path / "a.hotpatch").read_bytes()[:4] == b"\x7fELF"
    assert not (tmp_path / "a.d").exists()
    two = _update(_changed("bin/a", Verdict.HOTPATCH), _changed("bin/b", Verdict.HOTPATCH))
    assert build(two, "-o", "b.hotpatch") == 2
    assert not (tmp_path / "b.hotpatch").exists()


def test_a_refusal_is_4_and_writes_nothing(build: Build, tmp_path: Path, capfd: Capture) -> None:
    update = _update(_changed("bin/a", Verdict.HOTPATCH), _changed("bin/b", Verdict.BASELINE_REQUIRED))
    assert build(update) == 4
    assert list(tmp_path.iterdir()) == []
    printed = capfd.readouterr().out
    assert "refused: The structure grew. [layout-changed]" in printed
    assert "Verdict: baseline required" in printed


def test_keep_going_writes_the_others_and_is_still_4(build: Build, tmp_path: Path) -> None:
    update = _update(_changed("bin/a", Verdict.HOTPATCH), _changed("bin/b", Verdict.BASELINE_REQUIRED))
    assert build(update, "--keep-going", "-o", "u.hotmend") == 4
    assert [h.path for h in load(tmp_path / "u.hotmend")] == ["bin/a"]


def test_what_cannot_be_accepted_is_a_usage_error(build: Build, capfd: Capture) -> None:
    update = _update(_changed("bin/a", Verdict.HOTPATCH))
    assert build(update, "--accept", "conflicting-evidence") == 2
    assert "conflicting-evidence cannot be accepted" in capfd.readouterr().err
    assert build(update, "--accept", "allocation-size-changed") == 0


@pytest.mark.parametrize(("code", "told"), [("allocation-size-changed", True), ("layout-changed", False)])
def test_a_refusal_that_can_be_accepted_says_how(code: str, told: bool, build: Build, capfd: Capture) -> None:
    file = _changed("bin/a", Verdict.BASELINE_REQUIRED)
    assert file.outcome is not None
    file = replace(file, outcome=replace(file.outcome, reasons=(refusal(code, "It grew."),)))
    assert build(_update(file)) == 4
    assert (f"--accept {code}" in capfd.readouterr().err) is told


def test_keep_going_with_nothing_left_writes_nothing(build: Build, tmp_path: Path) -> None:
    assert build(_update(_changed("bin/b", Verdict.BASELINE_REQUIRED)), "--keep-going") == 4
    assert list(tmp_path.iterdir()) == []


def test_no_changed_code_is_3(build: Build, tmp_path: Path, capfd: Capture) -> None:
    assert build(_update(_changed("bin/a", Verdict.NO_CHANGE))) == 3
    assert "No code changed" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_same_build_twice_is_3_and_says_so(build: Build, capfd: Capture) -> None:
    assert build(_update(FileReport("bin/a", "bin/a", FileState.IDENTICAL, None), package="")) == 3
    assert "the same build" in capfd.readouterr().err


def test_a_place_that_cannot_be_written_is_1(build: Build, capfd: Capture) -> None:
    assert build(_update(_changed("bin/a", Verdict.HOTPATCH)), "-o", "nowhere/u.hotmend") == 1
    assert "nowhere/u.hotmend: No such file" in capfd.readouterr().err


def test_a_person_reads_counts_evidence_sizes_and_cves(build: Build, capfd: Capture) -> None:
    assert build(_update(_changed("bin/a", Verdict.HOTPATCH))) == 0
    printed = capfd.readouterr().out
    assert "references by votes 40, import 2" in printed
    for text in ("tool 1.0-1 -> 1:1.0-2", "99.0 %", "CVE-2024-1111", "% of the update's"):
        assert text in printed
