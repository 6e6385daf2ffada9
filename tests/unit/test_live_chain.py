"""The audit record: chained, only appended, and honest about crashes and about who tampered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotmend.cli.main import run
from hotmend.live.audit import append, read_audit
from hotmend.live.chain import AuditRecord
from hotmend.model.errors import InputError


def entry(phase: str = "before", change: int = 0) -> AuditRecord:
    return AuditRecord(0, "", "", phase, change, deed="apply", pid=7, images=(("/bin/x", "ab", "cd"),))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "audit.jsonl"
    first = append(path, entry())
    append(path, entry("after", first))
    append(path, entry())
    return path


def test_chained_and_unfinished(file: Path) -> None:
    found = read_audit(file)
    assert (found.error, found.torn, [r.number for r in found.records]) == ("", 0, [1, 2, 3])
    assert [r.number for r in found.unfinished] == [3]
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("line", [0, 1, 2])
def test_a_changed_line_breaks_it(file: Path, line: int) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"pid":7', b'"pid":8')
    file.write_bytes(b"".join(lines))
    if line == 2:  # nothing names its hash yet; what is appended does
        append(file, entry())
        assert read_audit(file).error == ""
        return
    assert read_audit(file).error == f"line {line + 2} does not follow the line before it"


@pytest.mark.parametrize("gone", [0, 1])
def test_a_line_left_out_breaks_it(file: Path, gone: int) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    del lines[gone]
    file.write_bytes(b"".join(lines))
    assert read_audit(file).error == f"line {gone + 1} does not follow the line before it"


def test_a_whole_line_that_lacks_its_end(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    assert (read_audit(file).error, read_audit(file).torn, len(read_audit(file).records)) == ("", 0, 3)
    append(file, entry())
    assert [r.number for r in read_audit(file).records] == [1, 2, 3, 4]


@pytest.mark.parametrize("kept", [1, 40, -2])
def test_a_crash_is_noted_and_the_chain_goes_on(file: Path, kept: int) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:kept])
    torn = read_audit(file)
    assert (torn.error, len(torn.records), torn.torn) == ("", 2, len(lines[2][:kept]))
    append(file, entry())
    found = read_audit(file)
    assert (found.error, found.torn) == ("", 0)
    assert [r.phase for r in found.records] == ["before", "after", "torn", "before"]


def test_two_crashes_in_a_row(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b'{"number"')
    whole = file.read_bytes()
    append(file, entry())
    again = file.read_bytes()[: len(whole) + 20]
    file.write_bytes(again)
    append(file, entry())
    found = read_audit(file)
    assert (found.error, [r.phase for r in found.records][3:]) == ("", ["torn", "before"])


def test_a_line_that_somebody_ended_is_no_crash(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"hello\n")
    assert read_audit(file).error == "line 4 does not follow the line before it"
    with pytest.raises(InputError):
        append(file, entry())


def test_a_hidden_crash_is_not_believed(file: Path) -> None:
    """A line is altered and called a crash by a `torn` record of another hash."""
    before = file.read_bytes()
    file.write_bytes(before + b'{"number":4')
    append(file, entry())
    file.write_bytes(file.read_bytes().replace(b'{"number":4\n', b'{"number":5\n'))
    assert read_audit(file).error != ""


def test_the_command(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(file), "--json"]) == 0
    *lines, check = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3]
    assert lines[0]["images"] == [{"path": "/bin/x", "old_build_id": "ab", "new_build_id": "cd"}]
    assert (check["sound"], check["lines"], check["unfinished"], len(check["head"])) == (True, 3, [3], 64)
    file.write_bytes(file.read_bytes().replace(b'"pid":7', b'"pid":8', 1))
    assert run(["audit", str(file), "--check"]) == 1
    assert "BROKEN: line 2 " in capsys.readouterr().out
    assert run(["audit", str(file.with_name("none"))]) == 1
