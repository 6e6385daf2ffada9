"""A patcher that dies, or sleeps for seconds, at sampled system calls. Every call: `python -m faults`."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.crowd import CROWD_DEEDS, PROCESSES_MIN, VICTIMS, CrowdSweep
from faults.sweep import DEEDS, Sweep
from faults.target import Program, health_of, lazy_make, program_make, target_start, throwing_make
from hotmend.cli.main import run as hotmend
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import process_images
from hotmend.linux.procfs import read_maps
from hotmend.live import change, transaction
from hotmend.live.driver import Options, apply, repair, revert
from hotmend.live.gate import hotpatch_id
from hotmend.live.machine import State
from hotmend.live.place import place
from hotmend.live.plan import read_shadows
from hotmend.live.registry import process_status
from hotmend.live.repair import gate_groups
from hotmend.live.transaction import Transaction

KILLS, DELAYS = 6, 2
LAST_CALLS = 250
"""So many at the end of a run take in the last stop."""


@pytest.fixture(scope="module")
def both_images(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """An executable and its library, changed in one switch."""
    return program_make(tmp_path_factory.mktemp("faults"))


def least_calls(sweep: Sweep, deed: str) -> int:
    """Return how many system calls a run takes at least: on a busy machine one may take more than the next one does."""
    return min(sweep.calls(deed) for _ in range(3))


def sampled(calls: int, count: int, first: int = 1) -> Iterator[int]:
    """Yield points all over the run, others in each test run; the seed is in what a failure prints: the points."""
    chance = random.SystemRandom()
    return iter(sorted(chance.sample(range(first, max(calls - 20, first + count)), count)))


@pytest.mark.parametrize("deed", DEEDS)
def test_killed_at_a_system_call(both_images: Program, deed: str, tmp_path: Path) -> None:
    """The calls that keep the audit record among them: it is whole when the next patcher has gone on with it."""
    sweep = Sweep(both_images, 16, audit=tmp_path / "audit.jsonl")
    tally = sweep.run(deed, sampled(least_calls(sweep, deed), KILLS), lambda _: None)
    assert tally.clean, tally
    assert tally.kills >= KILLS // 2


@pytest.mark.parametrize("deed", DEEDS)
def test_killed_where_all_is_done_in_one_stop(both_images: Program, deed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with an update of few functions; kills are about the stop in which the gate is turned."""
    monkeypatch.setattr(transaction, "TOGETHER_MAX", transaction.BATCH_MAX)
    sweep = Sweep(both_images, 16)
    calls = least_calls(sweep, deed)
    tally = sweep.run(deed, sampled(calls, KILLS, first=calls - LAST_CALLS), lambda _: None)
    assert tally.clean, tally
    assert tally.kills >= KILLS // 2


@pytest.mark.parametrize("deed", ["apply", "revert", "re-apply"])
def test_killed_while_exceptions_pass(tmp_path: Path, deed: str) -> None:
    """The row in the dynamic linker's list is written on the way; threads throw and catch all the time."""
    sweep = Sweep(throwing_make(tmp_path), 16)
    tally = sweep.run(deed, sampled(sweep.calls(deed), KILLS // 2), lambda _: None)
    assert tally.clean, tally
    assert tally.kills >= 1


@pytest.mark.parametrize("deed", ["apply", "revert", "replace"])
def test_asleep_at_a_system_call(both_images: Program, deed: str) -> None:
    sweep = Sweep(both_images, 16, hold_seconds=1.0)
    tally = sweep.run(deed, sampled(sweep.calls(deed), DELAYS), lambda _: None)
    assert tally.clean, tally
    assert tally.kills >= 1


@pytest.mark.parametrize(
    ("step", "left", "code", "end"),
    [("stage", State.STAGED, "old", State.PLACED), ("switch", State.SWITCHED, "new", State.SETTLED)],
)
def test_repair_finishes_or_undoes(
    both_images: Program, monkeypatch: pytest.MonkeyPatch, step: str, left: State, code: str, end: State
) -> None:
    """A patcher that ends right after a step leaves what only that step explains; the gate decides where it goes."""
    target = target_start(both_images, 4)
    run = Transaction.run

    def dying(self: Transaction, now: object) -> None:
        run(self, now)  # type: ignore[arg-type]
        if now == step:
            raise KeyboardInterrupt

    try:
        monkeypatch.setattr(Transaction, "run", dying)
        with pytest.raises(KeyboardInterrupt):
            apply(both_images.hotpatches, [target.pid], Options())
        monkeypatch.undo()
        assert {s.state for s in process_status(target.pid)} == {left}
        assert repair([target.pid], Options(dry_run=True))[0].state == "would-repair"
        assert health_of(target).code == code
        assert repair([target.pid], Options())[0].state == "repaired"
        assert {s.state for s in process_status(target.pid)} == {end}
        assert repair([target.pid], Options())[0].state == "unchanged"
        assert health_of(target).code == code
    finally:
        target.close()


def test_repair_ends_what_it_can_beside_damage(
    both_images: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One update was damaged by somebody else, another left half done: the second is ended, and the first is told."""
    target = target_start(both_images, 2)
    whole, half = both_images.hotpatches
    run = Transaction.run

    def dying(self: Transaction, now: object) -> None:
        run(self, now)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    def states() -> dict[str, State]:
        return {status.id: status.state for status in process_status(target.pid)}

    try:
        assert apply([whole], [target.pid], Options())[0].state == "applied"
        monkeypatch.setattr(Transaction, "run", dying)
        monkeypatch.setattr(transaction, "TOGETHER_MAX", 0)
        with pytest.raises(KeyboardInterrupt):
            apply([half], [target.pid], Options())
        monkeypatch.undo()
        with ProcessMemory(target.pid, writable=True) as memory:
            shadows = read_shadows(memory, process_images(target.pid, memory).images)
            entry = next(s.record.entries[0] for s in shadows if s.record.hotpatch_id == hotpatch_id(whole))
            memory.write_checked(entry.address, entry.old_bytes)  # harmless, and what no step leaves
        assert states() == {hotpatch_id(whole): State.DAMAGED, hotpatch_id(half): State.STAGED}
        assert hotmend(["doctor", "--json"]) == 0
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        (detail,) = (check["detail"] for check in told if check["name"] == "leftovers")
        assert re.search(rf"written in .*\b{target.pid}\b.*: restart; half done in .*\b{target.pid}\b", detail)
        (result,) = repair([target.pid], Options())
        assert (result.state, [reason.code for reason in result.reasons]) == ("refused", ["entry-changed-meanwhile"])
        assert states() == {hotpatch_id(whole): State.DAMAGED, hotpatch_id(half): State.PLACED}
    finally:
        target.close()


def test_dead_between_two_shadows(both_images: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The complete shadow of a set that is not is never used, never in the way, and not called damaged."""
    target = target_start(both_images, 2)
    real = place

    def once(*arguments: Any) -> None:
        real(*arguments)
        raise KeyboardInterrupt

    try:
        monkeypatch.setattr(change, "place", once)
        with pytest.raises(KeyboardInterrupt):
            apply(both_images.hotpatches, [target.pid], Options())
        monkeypatch.undo()
        maps = 0
        for _ in range(3):
            assert apply(both_images.hotpatches, [target.pid], Options())[0].state == "applied"
            assert sorted(s.state for s in process_status(target.pid)) == ["placed", "settled", "settled"]
            assert apply(both_images.hotpatches, [target.pid], Options())[0].state == "unchanged"
            assert repair([target.pid], Options())[0].state == "unchanged"
            assert revert(None, [target.pid], Options())[0].state == "reverted"
            assert maps in (0, len(read_maps(target.pid)))
            maps = len(read_maps(target.pid))
        assert health_of(target).code == "old"
    finally:
        target.close()


def test_nothing_to_group() -> None:
    assert gate_groups([]) == ()


@pytest.mark.parametrize("deed", ["apply", "re-apply"])
def test_killed_while_old_code_goes_on(tmp_path: Path, deed: str) -> None:
    """`--consistency lazy`: what began in old code ends in it, wherever the patcher was killed."""
    sweep = Sweep(lazy_make(tmp_path), 4)
    tally = sweep.run(deed, sampled(sweep.calls(deed), KILLS // 2), lambda _: None)
    assert tally.clean, tally
    assert tally.kills >= 1


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("deed", CROWD_DEEDS)
def test_killed_at_work_on_several_processes(both_images: Program, deed: str, victim: str) -> None:
    """The command or one of its workers; what a killed worker leaves undone is done all the same."""
    sweep = CrowdSweep(both_images, 2, PROCESSES_MIN)
    tally = sweep.run(deed, victim, sampled(sweep.calls(deed, victim), 2), lambda _: None)
    assert tally.clean, tally
