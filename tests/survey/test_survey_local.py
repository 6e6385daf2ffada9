"""A whole survey over an archive of our own, and what is left when its processes are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hotmend.cli.main import run
from hotmend.publisher.survey.report import Report, read_lines
from tests.survey.archive import NEW, OLD, Archive, make_archive, survey_command

_PACKAGES, _FILES = 3, 6
_SECONDS = 300.0


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return make_archive(tmp_path_factory.mktemp("archive") / "archive", _PACKAGES, _FILES)


def _run(archive: Archive, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = survey_command(output, *options)
    return subprocess.run(command, env=archive.environment, capture_output=True, text=True, timeout=600, check=False)


def _check_complete(report: Report, archive: Archive) -> None:
    """Nothing is lost, nothing is there twice, and every file has its answer."""
    found = Counter((file.package, file.path) for file in report.files)
    assert found == Counter((name, path) for name, paths in archive.changed.items() for path in paths)
    assert sorted(package.package for package in report.packages) == sorted(archive.changed)
    verdicts = Counter(
        (n % 2, file.verdict) for n in range(_FILES) for file in report.files if f"libtool{n}." in file.path
    )
    assert verdicts == {(0, "hotpatch"): _PACKAGES * _FILES // 2, (1, "baseline required"): _PACKAGES * _FILES // 2}
    assert report.summary.files_with_errors == 0


def _recorded(output: Path) -> dict[tuple[str, str], float]:
    """What the queue already knows: (package, path) of a file -> the time that its comparison took."""
    with sqlite3.connect(f"file:{output / 'queue.sqlite'}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT output FROM operation_outputs WHERE function_name = 'compare'").fetchall()
    files = [msgspec.json.decode(output) for (output,) in rows]
    return {(file["package"], file["path"]): file["seconds"] for file in files}


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def _some_recorded(output: Path) -> bool:
    try:
        return len(_recorded(output)) >= 2
    except sqlite3.Error:
        return False


def _children(pid: int) -> list[int]:
    """Return the nurseries, which threads of the process have started."""
    found = [int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in _read(path).split()]
    return [child for child in found if b"survey.child" in _read(Path(f"/proc/{child}/cmdline"))]


def _read(path: Path) -> bytes:
    """Return a file of a thread or process, b"" where that has ended meanwhile."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return path.read_bytes()
    return b""


def test_a_survey_from_the_lists_to_the_page(archive: Archive, tmp_path: Path) -> None:
    done = _run(archive, tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    report = read_lines(tmp_path / "out" / "results.jsonl")
    _check_complete(report, archive)
    summary = msgspec.json.decode(done.stdout)
    assert summary["mapped_files"] == summary["files_with_changed_code"] == _PACKAGES * _FILES
    assert [source.outcome for source in report.sources] == ["partly"]
    assert report.sources[0].cves == ("CVE-2023-9999",)
    assert "Which updates" in (tmp_path / "out" / "survey.html").read_text()
    assert not list((tmp_path / "out").rglob("*.deb")), "what was fetched goes away after use"
    assert not (tmp_path / "out" / "scratch").exists()
    again = _run(archive, tmp_path / "out", "--json")
    assert msgspec.json.decode(again.stdout)["about"]["packages_done"] == 0
    assert read_lines(tmp_path / "out" / "results.jsonl").files == report.files
    fresh = _run(archive, tmp_path / "out", "--json", "--fresh")
    assert msgspec.json.decode(fresh.stdout)["about"]["packages_done"] == _PACKAGES


def test_a_run_that_is_killed_goes_on_where_it_was(archive: Archive, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with subprocess.Popen(survey_command(output), env=archive.environment, stdout=subprocess.DEVNULL) as process:
        _wait_for(lambda: _some_recorded(output))
        process.send_signal(signal.SIGKILL)
    before = _recorded(output)
    assert 0 < len(before) < _PACKAGES * _FILES
    assert not (output / "results.jsonl").exists()
    assert _run(archive, output).returncode == 0
    report = read_lines(output / "results.jsonl")
    _check_complete(report, archive)
    after = {(file.package, file.path): file.seconds for file in report.files}
    assert {key: after[key] for key in before} == before, "what was done has been done again"


def test_children_that_are_killed_are_started_again(archive: Archive, tmp_path: Path) -> None:
    output = tmp_path / "out"
    killed: set[int] = set()
    with subprocess.Popen(survey_command(output), env=archive.environment, stdout=subprocess.DEVNULL) as process:
        _wait_for(lambda: _some_recorded(output))
        for nursery in _children(process.pid):
            os.kill(nursery, signal.SIGKILL)
            killed.add(nursery)
        assert process.wait(_SECONDS) == 0
    assert killed
    _check_complete(read_lines(output / "results.jsonl"), archive)


def test_a_file_over_a_limit_is_an_answer_and_not_the_end(archive: Archive, tmp_path: Path) -> None:
    assert _run(archive, tmp_path / "out", "--memory", "64", "--file-seconds", "60").returncode == 0
    assert len(read_lines(tmp_path / "out" / "results.jsonl").files) == _PACKAGES * _FILES


def test_two_runs_do_not_share_a_directory(archive: Archive, tmp_path: Path) -> None:
    output = tmp_path / "out"
    with subprocess.Popen(survey_command(output), env=archive.environment, stdout=subprocess.DEVNULL) as process:
        _wait_for((output / "queue.sqlite").exists)
        process.send_signal(signal.SIGSTOP)
        second = _run(archive, output)
        process.send_signal(signal.SIGCONT)
        assert process.wait(_SECONDS) == 0
    assert second.returncode == 2
    assert "another survey" in second.stderr


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--only", "nothing"], 2, "no package of nothing differs"),
        (["--worker"], 2, "PostgreSQL"),
        (["--page-only"], 1, "run the survey first"),
        (["--database", "postgresql://nobody@127.0.0.1:1/none"], 1, "cannot be reached"),
        (["sample-security", "nowhere"], 2, "has no list of packages of nowhere"),
        (["sample"], 2, "one suite is missing"),
    ],
)
def test_wrong_use_is_said(
    archive: Archive,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    text: str,
) -> None:
    monkeypatch.setenv("APT_CONFIG", archive.environment["APT_CONFIG"])
    suites = [] if options[0].startswith("sample") else [OLD, NEW]
    assert run(["survey", *suites, "--output", str(tmp_path / "out"), *options]) == code
    assert text in capsys.readouterr().err
