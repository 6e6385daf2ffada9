"""The audit record of real changes; no change without one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hotmend.live.audit import read_audit
from hotmend.live.driver import Options, apply, repair, revert
from hotmend.live.machine import Step
from hotmend.live.registry import process_status
from hotmend.live.transaction import Transaction
from tests.live.conftest import Target
from tests.live.handmade import make_hotpatch

Start = Callable[..., Target]


def test_every_change_is_recorded(program: Path, start: Start, tmp_path: Path) -> None:
    target, hotpatch, file = start(program), make_hotpatch(program, {"first": 2}), tmp_path / "audit.jsonl"
    options = Options(audit=str(file))
    apply([hotpatch], [target.pid], Options(dry_run=True, audit=str(file)))
    assert not file.exists()
    apply([hotpatch], [target.pid], options)
    apply([hotpatch], [target.pid], options)  # unchanged: nothing to record
    revert(None, [target.pid], options)
    apply([hotpatch], [target.pid], options)
    found = read_audit(file)
    assert (found.error, found.unfinished) == ("", ())
    assert [(r.phase, r.deed, r.state, r.outcome) for r in found.records] == [
        ("before", "apply", "empty", ""),
        ("after", "apply", "settled", "applied"),
        ("before", "revert", "settled", ""),
        ("after", "revert", "placed", "reverted"),
        ("before", "apply", "placed", ""),
        ("after", "apply", "settled", "applied"),
    ]
    first, *_, last = found.records
    assert first.entries_sha256 == found.records[3].entries_sha256 != last.entries_sha256
    assert (first.pid, first.steps[0], last.steps[0]) == (target.pid, "place", "stage")
    assert first.command_line.startswith(str(program))
    assert first.shadow_sha256
    assert not last.shadow_sha256


def test_no_record_no_change(program: Path, start: Start, tmp_path: Path) -> None:
    target, hotpatch = start(program), make_hotpatch(program, {"first": 2})
    (tmp_path / "folder.jsonl").mkdir()
    maps = Path(f"/proc/{target.pid}/maps").read_text()
    (result,) = apply([hotpatch], [target.pid], Options(audit=str(tmp_path / "folder.jsonl")))
    assert (result.state, [r.code for r in result.reasons]) == ("refused", ["audit-not-written"])
    assert "--audit" in result.reasons[0].sentence
    assert Path(f"/proc/{target.pid}/maps").read_text() == maps
    assert target.ask("a") == "1 1 1"


def test_a_patcher_that_dies_leaves_a_line_without_outcome(
    program: Path, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, hotpatch, file = start(program), make_hotpatch(program, {"first": 2}), tmp_path / "audit.jsonl"

    class Killed(BaseException):
        pass

    def dying(self: Transaction, _: Sequence[Step]) -> None:
        self.run(Step.STAGE)
        monkeypatch.setattr("hotmend.live.audit._append_after", lambda *_: True)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "walk", dying)
        with pytest.raises(Killed):
            apply([hotpatch], [target.pid], Options(audit=str(file)))
    monkeypatch.undo()
    (left,) = read_audit(file).unfinished
    assert (left.pid, left.deed) == (target.pid, "apply")
    assert process_status(target.pid)[0].state == "staged"
    assert repair([target.pid], Options(audit=str(file)))[0].state == "repaired"
    assert [(r.phase, r.deed, r.state) for r in read_audit(file).records][1:] == [
        ("before", "repair", "staged"),
        ("after", "repair", "placed"),
    ]
