"""A year of a machine, from logs as dpkg and apt write them, against the rows of a survey."""

from __future__ import annotations

import gzip
import json
from datetime import date
from pathlib import Path

import pytest
import zstandard

from hotmend.cli.main import run
from hotmend.model.errors import InputError
from hotmend.publisher.history import Installed, changes_of, history_read
from hotmend.publisher.readiness import Replay, replay
from hotmend.publisher.survey.compact import read_compact, write_compact
from hotmend.publisher.survey.report import Report, make_report, write_lines
from hotmend.publisher.survey.results import AboutRow, FileRow, PackageResult, PackageRow, PartialRow, ReasonRow

TODAY = date(2026, 11, 20)
DPKG = """\
2026-02-02 06:12:01 startup archives unpack
2026-02-02 06:12:01 upgrade libsafe1:amd64 1.0-1 1.0-2
2026-02-02 06:12:01 status half-configured libsafe1:amd64 1.0-1
2026-03-03 06:12:01 upgrade libgrown1:amd64 1.0-1 1.0-2
2026-03-03 06:12:01 upgrade libsafe1:amd64 1.0-2 1.0-3
2026-04-04 06:12:01 install linux-image-6.1.0-40-amd64:amd64 <none> 6.1.150-1
2026-05-05 06:12:01 upgrade docs:all 1.0-1 1.0-2
2026-06-06 06:12:01 upgrade plain:amd64 1.0-1 1.0-2
2026-07-07 06:12:01 upgrade libsafe1:amd64 1.0-3 1.0-9
"""
ROTATED = "2025-01-01 06:12:01 upgrade libsafe1:amd64 0.9-1 1.0-1\n"
HISTORY = """
Start-Date: 2026-02-02  06:12:00
Commandline: apt-get upgrade
Upgrade: libsafe1:amd64 (1.0-1, 1.0-2)
End-Date: 2026-02-02  06:12:02

Start-Date: 2026-08-08  06:12:00
Upgrade: libpart1:amd64 (1.0-1, 1.0-2), other:amd64 (2.0-1, 2.0-2)
End-Date: 2026-08-08  06:12:02
"""


def _changelog(package: str, *entries: tuple[str, str, str]) -> str:
    return "\n".join(
        f"{package} ({version}) {suite}; urgency=medium\n\n  * {text}\n\n"
        " -- A <a@example.org>  Thu, 01 Jan 2026 00:00:00 +0000\n"
        for version, suite, text in entries
    )


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "var/log/apt").mkdir(parents=True)
    (tmp_path / "var/log/dpkg.log").write_text(DPKG)
    (tmp_path / "var/log/dpkg.log.2.gz").write_bytes(gzip.compress(ROTATED.encode()))
    (tmp_path / "var/log/apt/history.log").write_text(HISTORY)
    logs = {
        "plain": _changelog("plain", ("1.0-2", "bookworm", "New text."), ("1.0-1", "bookworm", "First.")),
        "other": _changelog("other", ("2.0-2", "bookworm-security", "Fix CVE-2026-7777, and (CVE-2026-8888).")),
    }
    for package, text in logs.items():
        folder = tmp_path / "usr/share/doc" / package
        folder.mkdir(parents=True)
        (folder / "changelog.Debian.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def _row(package: str, verdict: str, *codes: str, old: str = "1.0-1", part: bool = False) -> PackageResult:
    reasons = tuple(ReasonRow(code, "refusal", "No.", (), 0) for code in codes)
    partial = PartialRow("hotpatch with notes", 3, 4, 1000) if part else None
    file = FileRow(
        "src",
        package,
        old,
        "1.0-2",
        "usr/lib/x",
        "usr/lib/x",
        "changed",
        1,
        1,
        verdict,
        reasons=reasons,
        partial=partial,
    )
    about = PackageRow("src", package, old, "1.0-2", 1, 1, verdict, (), 0, 1, 0, 0, 0, 0, 0, 0, 0, "local")
    return PackageResult(about, (file,))


@pytest.fixture
def report() -> Report:
    results = [
        _row("libsafe1", "hotpatch"),
        _row("libgrown1", "baseline required", "layout-changed", old="1.0-0"),
        _row("libpart1", "baseline required", "layout-changed", "lock-changed", part=True),
    ]
    about = AboutRow("old", "new", (), "", "", "", 1, 1, 1.0, 1.0, 3)
    return make_report(results, {"src": ("docs",)}, about)


def test_logs_are_read_once_each(machine: Path) -> None:
    history = history_read(machine)
    assert history.first == date(2025, 1, 1)
    assert Installed(date(2026, 2, 2), "libsafe1", "1.0-1", "1.0-2") in history.installed
    assert len(history.installed) == len(set(history.installed)) == 10
    assert [item.package for item in history.installed if item.is_kernel] == ["linux-image-6.1.0-40-amd64"]


def test_a_year(machine: Path, report: Report) -> None:
    history = history_read(machine)
    found = replay(history, changes_of(history.installed, machine), report, TODAY)
    assert found.complete
    by_key = {(u.installed.package, u.installed.new_version): u for u in found.updates}
    assert {key: (u.replay, u.exact) for key, u in by_key.items()} == {
        ("libsafe1", "1.0-2"): (Replay.HOTPATCH, True),
        ("libsafe1", "1.0-3"): (Replay.UNKNOWN, False),
        ("libsafe1", "1.0-9"): (Replay.UNKNOWN, False),
        ("libgrown1", "1.0-2"): (Replay.BASELINE, False),
        ("libpart1", "1.0-2"): (Replay.PART, True),
        ("docs", "1.0-2"): (Replay.NO_CODE, True),
        ("other", "2.0-2"): (Replay.UNKNOWN, False),
    }
    assert ("plain", "1.0-2") not in by_key, "its changelog says that it was no security update"
    assert by_key["libsafe1", "1.0-3"].like is Replay.HOTPATCH
    assert by_key["other", "2.0-2"].cves == ("CVE-2026-7777", "CVE-2026-8888")
    # 2 February is saved; 3 March, 7 July and 8 August are not; 5 May needed nothing; 4 April takes a reboot.
    assert (found.restart_days, found.restart_days_left, found.reboot_days) == (4, 3, 1)
    # Of the unknown ones, libsafe1 is thought to be like its update that is known; that spares 7 July.
    assert found.restart_days_left_if_alike == 2
    assert found.restart_days_saved_a_year == 1.0
    assert found.codes == (("layout-changed", 2), ("lock-changed", 1))


def test_the_command_reads_and_changes_nothing(
    machine: Path, report: Report, tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path_factory.mktemp("survey") / "results.jsonl"
    write_lines(report, results)
    before = {path: path.stat().st_mtime_ns for path in machine.rglob("*")}
    words = ["readiness", "--survey", str(results), "--root", str(machine), "--until", "2026-11-20"]
    assert run([*words, "--json"]) == 0
    shape = json.loads(capfd.readouterr().out)
    assert shape["counts"]["hotpatch"] == 1
    assert shape["restart_days_left"] == 3
    assert run(words) == 0
    assert "4 without hotmend, 3 with it" in capfd.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in machine.rglob("*")} == before
    assert run([*words[:3], "--root", str(machine / "usr"), "--json"]) == 3


def test_compact_results_say_the_same(
    machine: Path, report: Report, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, compact = tmp_path / "results.jsonl", tmp_path / "results.jsonl.zst"
    write_lines(report, whole)
    write_compact(report, compact)
    told = []
    for file in (whole, compact):
        assert run(["readiness", "--survey", str(file), "--root", str(machine), "--until", "2026-11-20", "--json"]) == 0
        told.append(json.loads(capfd.readouterr().out))
    assert told[0] == told[1]
    compact.write_bytes(compact.read_bytes()[:-5])
    assert run(["readiness", "--survey", str(compact), "--root", str(machine)]) == 1
    assert "not the results of a survey" in capfd.readouterr().err


@pytest.mark.parametrize("data", [b"", b"x" * 100, zstandard.compress(b"{}"), zstandard.compress(b"\0" * 4096)])
def test_other_files_are_no_results(data: bytes) -> None:
    with pytest.raises(InputError):
        read_compact(data, "x")


def test_the_survey_that_comes_with_it_is_that_of_the_machines_release(
    machine: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (machine / "etc").mkdir()
    release = machine / "etc/os-release"
    words = ["readiness", "--root", str(machine), "--until", "2026-11-20", "--json"]
    release.write_text("VERSION_CODENAME=bookworm\n")
    (machine / "var/log/dpkg.log").write_text(
        "2026-02-02 06:12:01 upgrade libpng16-16:amd64 1.6.39-2 1.6.39-2+deb12u5\n"
    )
    assert run(words) == 0
    shape = json.loads(capfd.readouterr().out)
    assert shape["survey"].startswith("bookworm to bookworm-security, 20")
    (known,) = [u for u in shape["updates"] if u["package"] == "libpng16-16"]
    assert known["replay"] == "hotpatch" or known["like"] == "hotpatch"
    release.write_text("VERSION_CODENAME=elsewhere\n")
    assert run(words) == 2
    assert "no survey of elsewhere" in capfd.readouterr().err
    release.unlink()
    assert run(words) == 2
    assert "does not name a release" in capfd.readouterr().err
