"""The stop window in C and in Python: both do the same, and what C takes for clear is clear."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hotmend.linux import procfs, sys, window
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stacks import find_restorers, lowest_own
from hotmend.linux.stop import Stopper
from hotmend.live.driver import Options, apply, revert
from hotmend.live.gate import FunctionRecord
from hotmend.live.registry import process_status
from hotmend.live.safety import Forbidden, Scanner, Surroundings
from tests.live.conftest import Target
from tests.live.handmade import compile_target, make_hotpatch

Start = Callable[..., Target]
ANSWERS = {"first": 2, "second": 2, "slow": 2, "high": 2}
THREADS = 20


@pytest.fixture
def in_c(library: Path) -> Iterator[Path]:
    """The library, whatever the environment says."""
    assert window.use(library)
    yield library
    window._bound.clear()


def test_old_new_old(form: str, program: Path, start: Start) -> None:
    target, hotpatch = start(program, str(THREADS)), make_hotpatch(program, ANSWERS)
    (result,) = apply([hotpatch], [target.pid], Options())
    assert (result.state, result.threads) == ("applied", THREADS + 1), form
    assert target.ask("a") == "2 2 2"
    (result,) = revert(None, [target.pid], Options())
    assert result.state == "reverted"
    assert target.ask("a") == "1 1 1"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be preloaded: stacks side by side in one mapping, with pages between them that nobody can read."""
    library = tmp_path_factory.mktemp("guarded") / "guarded.so"
    return compile_target(Path(__file__).with_name("guarded.c"), library, "-shared", "-fPIC")


def test_stacks_side_by_side(
    form: str, program: Path, guarded: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", str(guarded))
    target, hotpatch = start(program, str(THREADS)), make_hotpatch(program, ANSWERS)
    monkeypatch.delenv("LD_PRELOAD")
    (result,) = apply([hotpatch], [target.pid], Options())
    assert (result.state, result.threads) == ("applied", THREADS + 1), (form, result.reasons)
    assert target.ask("a") == "2 2 2"
    stopper, maps = Stopper(target.pid), procfs.read_maps(target.pid)
    stopper.look_around()
    with ProcessMemory(target.pid) as memory:
        restorers, stopped = find_restorers(memory, maps), stopper.stop(0.5)
        threads = list(stopped.threads.values())
        stopper.release(stopped)
        lows = [lowest_own(memory, maps, t.registers, restorers, leader=t.tid == target.pid) for t in threads]
    assert None not in lows


@pytest.mark.parametrize(("command", "name"), [("s", "slow"), ("h", "high")])
def test_active(form: str, program: Path, start: Start, command: str, name: str) -> None:
    target, hotpatch = start(program), make_hotpatch(program, ANSWERS)
    assert target.ask(command) == "inside"
    (result,) = apply([hotpatch], [target.pid], Options(deadline_seconds=0.2, max_pause_us=50_000))
    assert [reason.code for reason in result.reasons] == ["function-active"], form
    assert name in result.reasons[0].sentence
    assert target.ask("w") == "1"


def test_stopped_as_it_was(form: str, program: Path, start: Start) -> None:
    """Every thread, each with registers, and none of them sees an interrupted call."""
    target = start(program, str(THREADS), "1")
    stopper = Stopper(target.pid)
    stopper.look_around()
    for _ in range(50):
        stopped = stopper.stop(0.5)
        try:
            assert set(stopped.threads) == procfs.list_threads(target.pid)
            assert len(stopped) == len(stopped.threads) == THREADS + 1
            assert all(thread.registers.rsp and tid in stopped for tid, thread in stopped.threads.items())
        finally:
            stopper.release(stopped)
        stopper.rest()
    _, loops, interrupted, _ = map(int, target.ask("c").split())
    assert loops > 0, form
    assert interrupted == 0


def test_no_time_at_all(form: str, program: Path, start: Start) -> None:
    """No stop takes a microsecond: the budget is kept, and so is the old code."""
    target, hotpatch = start(program, "4"), make_hotpatch(program, ANSWERS)
    (result,) = apply([hotpatch], [target.pid], Options(deadline_seconds=0.2, max_pause_us=1))
    assert (result.state, [r.code for r in result.reasons]) == ("refused", ["did-not-stop"]), form
    assert "--max-pause" in result.reasons[0].sentence
    assert process_status(target.pid) == []
    assert target.ask("a") == "1 1 1"


@pytest.mark.parametrize("side_by_side", [False, True])
def test_clear_is_clear(
    in_c: Path, program: Path, guarded: Path, start: Start, monkeypatch: pytest.MonkeyPatch, side_by_side: bool
) -> None:
    """Ranges around words that stand on the stacks and in the registers: C and Python find the same threads."""
    if side_by_side:
        monkeypatch.setenv("LD_PRELOAD", str(guarded))
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    target = start(program, str(THREADS))
    maps = procfs.read_maps(target.pid)
    stopper = Stopper(target.pid)
    stopper.look_around()
    with ProcessMemory(target.pid) as memory:
        surroundings = Surroundings(maps, find_restorers(memory, maps))
        stopped = stopper.stop(0.5)
        try:
            (table,) = stopped.tables
            threads = list(stopped.threads.values())
            words = [value for thread in threads for value in (thread.registers.rip, *thread.registers[:15])]
            for thread in threads:
                words += np.frombuffer(memory.read(thread.registers.rsp, 1024), dtype=np.uint64).tolist()
            words = sorted({word for word in words if 4096 < word < 1 << 47})
            found = {True: 0, False: 0}
            for _ in range(300):
                chosen = chance.sample(words, chance.randrange(1, 4))
                ranges = [
                    FunctionRecord(hex(w), w + chance.choice((-16, -1, 0, 1)), chance.choice((1, 16))) for w in chosen
                ]
                forbidden = Forbidden(ranges, chance.choice((None, frozenset())))
                unclear = {table.tids[i] for i in table.unclear(surroundings.scene(target.pid, forbidden))}
                window.use(None)
                hits = {hit.tid for hit in Scanner(memory, surroundings, forbidden).scan(stopped)}
                assert window.use(in_c)
                assert hits <= unclear, (seed, ranges)
                assert unclear <= hits, (seed, ranges, "no thread here needs a closer look")
                found[bool(hits)] += 1
            assert all(found.values()), (seed, found)
        finally:
            stopper.release(stopped)


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (("285", "0x13", "0"), -514),  # fallocate that only reserves or clears
        (("285", "0x08", "0"), -errno.EINTR),  # what lies behind would move once more
        (("16", "0x5409", "1"), -514),  # tcdrain
        (("16", "0x5409", "0"), -errno.EINTR),  # a break would be sent twice
        (("232", "0", "0"), -514),
        (("3", "0", "0"), -errno.EINTR),
    ],
)
def test_calls_that_are_made_again(
    form: str, tmp_path: Path, start: Start, call: tuple[str, str, str], result: int
) -> None:
    """Which result stands where a thread stops that comes back with EINTR."""
    program = compile_target(Path(__file__).with_name("interrupted.c"), tmp_path / "interrupted")
    target, seen = start(program, *call), set[int]()
    stopper = Stopper(target.pid)
    stopper.look_around()
    limit = time.perf_counter() + 30.0
    while not seen and time.perf_counter() < limit:
        stopper.rest()
        stopped = stopper.stop(1.0)
        found = stopped.threads[target.pid].registers
        stopper.release(stopped)
        if found.orig_rax == int(call[0]):
            seen.add(sys.signed(found.rax))
    assert seen == {result}, form


def test_signal_frames_need_a_closer_look(in_c: Path, program: Path, start: Start) -> None:
    target = start(program)
    target.process.send_signal(signal.SIGUSR1)
    assert target.read() == "inside"
    maps = procfs.read_maps(target.pid)
    stopper = Stopper(target.pid)
    with ProcessMemory(target.pid) as memory:
        surroundings = Surroundings(maps, find_restorers(memory, maps))
        stopped = stopper.stop(0.5)
        try:
            (table,) = stopped.tables
            assert table.unclear(surroundings.scene(target.pid, Forbidden([]))) == [0]
        finally:
            stopper.release(stopped)


def test_a_library_of_another_source_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "libwindow.so"
    right = window.source_identity(window.SOURCE.read_bytes())
    words = [word.replace(right, "0" * 64) for word in window.compile_command("gcc", path)]
    subprocess.run(words, check=True)
    try:
        assert not window.use(path)
        assert window.load() is None
        assert not window.use(tmp_path / "missing.so")
    finally:
        window._bound.clear()


def test_threads_are_counted() -> None:
    ended = threading.Event()
    threads = [threading.Thread(target=ended.wait) for _ in range(5)]
    before = procfs.count_threads(os.getpid())
    assert before == len(procfs.list_threads(os.getpid()))
    for thread in threads:
        thread.start()
    try:
        assert procfs.count_threads(os.getpid()) == before + 5
    finally:
        ended.set()
        for thread in threads:
            thread.join()
