"""What is kept of comparisons: builds with the same code, in a file that survives what is done to it."""

from __future__ import annotations

from pathlib import Path

from hotmend.agent.apt.same_code import Row, keep_same_code, read_same_code
from hotmend.model.addresses import BuildId
from hotmend.model.hotpatch import Outcome, Statistics
from hotmend.model.verdict import Verdict


def outcome(old: str, new: str, verdict: Verdict) -> Outcome:
    return Outcome(
        "lib", "usr/lib/lib", BuildId(old), BuildId(new), verdict, (), Statistics(0, 0, 0, 0, (), 0, 0), None
    )


def test_kept_once_and_only_what_has_the_same_code(tmp_path: Path) -> None:
    file = tmp_path / "agent" / "same-code.jsonl"
    assert read_same_code(file) == frozenset()
    keep_same_code(file, [outcome("a", "b", Verdict.BASELINE_REQUIRED), outcome("", "b", Verdict.NO_CHANGE)])
    assert not file.exists()
    for _ in range(2):
        keep_same_code(file, [outcome("a", "b", Verdict.NO_CHANGE), outcome("c", "d", Verdict.HOTPATCH)])
    keep_same_code(file, [outcome("b", "c", Verdict.NO_CHANGE)])
    assert read_same_code(file) == {Row("a", "b"), Row("b", "c")}
    assert len(file.read_text().splitlines()) == 2


def test_a_torn_line_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "same-code.jsonl"
    file.write_bytes(b'{"old":"a","new":"b"}\n{"old":"a"\n\xff\n{"old":"a","new":"c"}')
    assert read_same_code(file) == {Row("a", "b"), Row("a", "c")}


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "none"
    file.touch()
    keep_same_code(file / "same-code.jsonl", [outcome("a", "b", Verdict.NO_CHANGE)])
    assert file.read_bytes() == b""
