"""From two packages to an update, with the comparison of code put aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hotmend.diff.options import Options
from hotmend.model.addresses import BuildId
from hotmend.model.errors import InputError, UsageError
from hotmend.model.hotpatch import Outcome, Statistics
from hotmend.model.verdict import Verdict, refusal
from hotmend.publisher import build as build_module
from hotmend.publisher import feed
from hotmend.publisher.build import build_update
from hotmend.publisher.fixes import FixState
from hotmend.publisher.pairing import FileState
from hotmend.publisher.update import Update
from tests.debs import ELF, make_deb
from tests.hotpatches import sample


@dataclass(frozen=True)
class _Image:
    name: str
    build_id: BuildId
    sections: tuple[()] = ()


def _compare(_: _Image, new: _Image, *, path: str, options: Options) -> Outcome:
    assert options == Options()
    verdict = Verdict(new.build_id.partition(":")[2])
    hotpatch = replace(sample(), name=new.name, path=path) if verdict.value.startswith("hotpatch") else None
    reasons = (refusal("made-up", "It is made up."),) if verdict is Verdict.BASELINE_REQUIRED else ()
    counts = Statistics(1, 1, 0, 0, (), 1, 1)
    return Outcome(new.name, path, BuildId("aa"), BuildId("bb"), verdict, reasons, counts, hotpatch)


@pytest.fixture(autouse=True)
def _no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's contents after the ELF head say what comparing it gives; up to `:` they are its build-id."""

    def read_image(source: bytes | Path, name: str) -> _Image:
        data = source if isinstance(source, bytes) else source.read_bytes()
        text = data[len(ELF) :].decode()
        if text == "broken":
            raise InputError(f"{name}: damaged ELF file")
        return _Image(name, BuildId(text.partition(":")[0] + "|" + text))

    monkeypatch.setattr(build_module, "read_image", read_image)
    monkeypatch.setattr(build_module, "compare", _compare)


@pytest.fixture
def packages(tmp_path: Path) -> Callable[..., Update]:
    def run(old: dict[str, str], new: dict[str, str], old_version: str = "1.0-1", new_version: str = "1.0-3") -> Update:
        paths = []
        for label, files, version in (("old", old, old_version), ("new", new, new_version)):
            contents = {path: ELF + text.encode() for path, text in files.items()}
            paths.append(str(make_deb(tmp_path / f"{label}.deb", contents, version=version)))
        return build_update(paths[0], paths[1], lambda *_: None)

    return run


def test_each_file_gets_its_result(packages: Callable[..., Update]) -> None:
    update = packages(
        {"bin/same": "a:", "bin/code": "b:", "bin/words": "c:", "bin/bad": "d:", "bin/gone": "e:"},
        {
            "bin/same": "a:",
            "bin/code": "b2:hotpatch",
            "bin/words": "c2:no change",
            "bin/bad": "broken",
            "bin/new.so": "f:",
        },
    )
    assert {file.path: (file.state, file.outcome and file.outcome.verdict) for file in update.files} == {
        "bin/same": (FileState.IDENTICAL, None),
        "bin/code": (FileState.CHANGED, Verdict.HOTPATCH),
        "bin/words": (FileState.CHANGED, Verdict.NO_CHANGE),
        "bin/bad": (FileState.CHANGED, Verdict.BASELINE_REQUIRED),
        "bin/gone": (FileState.REMOVED, None),
        "bin/new.so": (FileState.ADDED, None),
    }
    assert [outcome.name for outcome in update.refused] == ["bad"]
    assert [reason.code for reason in update.refused[0].reasons] == ["image-unreadable"]
    assert update.verdict is Verdict.BASELINE_REQUIRED


def test_hotpatches_know_their_package(packages: Callable[..., Update]) -> None:
    update = packages({"bin/code": "b:"}, {"bin/code": "b2:hotpatch"})
    (hotpatch,) = update.hotpatches
    assert hotpatch.package == "tool"
    assert hotpatch.versions == ("1.0-1", "1.0-3")
    assert hotpatch.cves == ("CVE-2023-9999", "CVE-2024-2222", "CVE-2024-11111")
    assert hotpatch.update_bytes == update.new.file_bytes
    assert update.verdict is Verdict.HOTPATCH


@pytest.mark.parametrize(("offered", "codes"), [(False, ["patches-not-found"]), (True, [])])
def test_a_part_whose_patches_apt_does_not_offer_says_so(
    packages: Callable[..., Update], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, offered: bool, codes: list[str]
) -> None:
    def compare(old: _Image, new: _Image, *, path: str, options: Options) -> Outcome:
        return replace(_compare(old, new, path=path, options=options), left=("stays",))

    monkeypatch.setattr(build_module, "compare", compare)
    monkeypatch.setattr(feed, "fetch_patches", lambda _: tmp_path if offered else None)
    update = packages({"bin/code": "b:"}, {"bin/code": "b2:hotpatch"})
    assert [reason.code for reason in update.notes] == codes
    assert {fix.state for fix in update.fixes} == {FixState.UNKNOWN}


def test_copies_of_one_program_are_compared_once(
    packages: Callable[..., Update], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def compare(old: _Image, new: _Image, *, path: str, options: Options) -> Outcome:
        compared.append(path)
        return _compare(old, new, path=path, options=options)

    monkeypatch.setattr(build_module, "compare", compare)
    update = packages({"bin/a": "x:", "bin/b": "x:"}, {"bin/a": "y:hotpatch", "bin/b": "y:hotpatch"})
    assert compared == ["bin/a"]
    assert [file.outcome and file.outcome.path for file in update.files] == ["bin/a", "bin/b"]
    assert len(update.hotpatches) == 1


def test_what_one_image_leaves_old_binds_those_that_use_it(
    packages: Callable[..., Update], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[str, frozenset[str]]] = []

    def compare(old: _Image, new: _Image, *, path: str, options: Options) -> Outcome:
        compared.append((path, options.stays_old))
        outcome = _compare(old, new, path=path, options=replace(options, stays_old=frozenset()))
        return outcome if outcome.hotpatch else replace(outcome, left=("changed_export",))

    monkeypatch.setattr(build_module, "compare", compare)
    old = {"lib/a": "a:", "lib/b": "b:", "lib/c": "c:"}
    user, other = "\0changed_export\0:hotpatch", "c2:hotpatch"
    packages(old, {"lib/a": "a2:baseline required", "lib/b": user, "lib/c": other})
    nothing, left = frozenset[str](), frozenset({"changed_export"})
    assert compared == [("lib/a", nothing), ("lib/b", nothing), ("lib/c", nothing), ("lib/b", left)]


def test_swapped_order_is_a_usage_error(packages: Callable[..., Update]) -> None:
    with pytest.raises(UsageError, match=r"1\.0-3 is newer than 1\.0-1"):
        packages({"bin/a": "a"}, {"bin/a": "b"}, "1.0-3", "1.0-1")


def test_the_same_package_twice_has_no_change(packages: Callable[..., Update]) -> None:
    update = packages({"bin/a": "a"}, {"bin/a": "a"}, "1.0-3", "1.0-3")
    assert update.verdict is Verdict.NO_CHANGE
    assert update.hotpatches == ()


def test_two_different_packages_are_a_usage_error(tmp_path: Path) -> None:
    one = make_deb(tmp_path / "a.deb", {"bin/a": ELF}, package="one")
    two = make_deb(tmp_path / "b.deb", {"bin/a": ELF}, package="two")
    with pytest.raises(UsageError, match="two different packages"):
        build_update(str(one), str(two), lambda *_: None)


def test_a_package_and_an_elf_file_are_a_usage_error(tmp_path: Path) -> None:
    one = make_deb(tmp_path / "a.deb", {"bin/a": ELF})
    (tmp_path / "b").write_bytes(ELF)
    with pytest.raises(UsageError, match="one side is a Debian package") as caught:
        build_update(str(one), str(tmp_path / "b"), lambda *_: None)
    assert caught.value.hint == "give two of one kind"


def test_a_package_without_programs_names_its_siblings(tmp_path: Path) -> None:
    for label in ("a", "b"):
        make_deb(tmp_path / f"{label}.deb", {"etc/x": b"x"}, depends="tool-core (= 1.0-3)")
    with pytest.raises(InputError, match="no x86-64 programs") as caught:
        build_update(str(tmp_path / "a.deb"), str(tmp_path / "b.deb"), lambda *_: None)
    assert "tool-core" in caught.value.hint


def test_without_a_changelog_there_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "fetch_changelog", lambda _: "")
    for label, text, version in (("a", "a:", "1"), ("b", "b:hotpatch", "2")):
        contents = {"bin/a": ELF + text.encode()}
        make_deb(tmp_path / f"{label}.deb", contents, version=version, changelog="")
    update = build_update(str(tmp_path / "a.deb"), str(tmp_path / "b.deb"), lambda *_: None)
    assert [reason.code for reason in update.notes] == ["changelog-missing"]
    assert update.verdict is Verdict.HOTPATCH_WITH_NOTES


def test_bare_files_are_one_pair(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(ELF + b"a:")
    (tmp_path / "new").write_bytes(ELF + b"b:hotpatch")
    update = build_update(str(tmp_path / "old"), str(tmp_path / "new"), lambda *_: None)
    (hotpatch,) = update.hotpatches
    assert (hotpatch.path, hotpatch.package) == (str(tmp_path / "new"), "")
    assert hotpatch.update_bytes == len(ELF + b"b:hotpatch")


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        build_update(str(tmp_path / "old"), str(tmp_path / "new"), lambda *_: None)
