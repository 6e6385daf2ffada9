"""No thread stands still for longer than a stop's budget, whatever else the stop has to do."""

from __future__ import annotations

import contextlib
import errno
import math
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotmend.linux import calm, procfs, remote, sys, window
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import process_images
from hotmend.linux.stop import StopFailure, StoppedThread, Stopper
from hotmend.linux.unwind import Unwinder
from hotmend.live import audit
from hotmend.live.chain import AuditRecord
from hotmend.live.driver import Options, apply
from hotmend.live.safety import Forbidden, Surroundings
from tests.live.conftest import OWN_BUILD_ID, Target, comes_true
from tests.live.handmade import compile_target, make_hotpatch

Start = Callable[..., Target]
_LONG_SECONDS = 0.3
"""So long nobody has time for a late thread."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program one of whose threads waits in vfork from `v` to `w`."""
    source = Path(__file__).with_name("hostile.c")
    return compile_target(source, tmp_path_factory.mktemp("hostile") / "hostile", OWN_BUILD_ID)


def late_stopper(target: Target) -> Stopper:
    """Return a stopper that a thread was late for: it still waits in vfork."""
    stopper = Stopper(target.pid)
    stopper.look_around()
    with pytest.raises(StopFailure):
        stopper.stop(0.01)
    assert not stopper.release_late()
    return stopper


def test_what_the_kernel_counts_is_known_before_the_first_stop(
    program: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finding it out takes a thread, and as long as a whole stop."""
    stopper = Stopper(start(program).pid)
    procfs.links_count_threads.cache_clear()
    stopper.look_around()
    begun: list[threading.Thread] = []
    monkeypatch.setattr(threading.Thread, "start", begun.append)
    monkeypatch.setattr(threading.Event, "wait", lambda *_: True)
    stopper.release(stopper.stop(1.0))
    assert begun == []
    assert procfs.count_threads(stopper.pid) == len(procfs.list_threads(stopper.pid))


def test_a_late_thread_goes_on_while_the_record_is_written(
    hostile: Path, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is slow, as it is when threads are late: the thread's wait ends meanwhile."""
    target, frozen = start(hostile, "idle", "1"), []
    tid, real_append = int(target.ask("v")), audit.append

    def append(file: Path, record: AuditRecord) -> int:
        if record.phase == "after":
            target.send("w")
            frozen.append(not comes_true(lambda: tid not in procfs.list_threads(target.pid)))
        return real_append(file, record)

    monkeypatch.setattr(audit, "append", append)
    options = Options(deadline_seconds=0.05, audit=str(tmp_path / "audit.jsonl"))
    (result,) = apply([make_hotpatch(hostile, {"first": 2, "second": 2})], [target.pid], options)
    assert [r.code for r in result.reasons] == ["did-not-stop"]
    assert frozen == [False]  # it has ended meanwhile
    assert target.read() == "ended"
    assert audit.read_audit(tmp_path / "audit.jsonl").unfinished == ()


def test_how_long_a_late_thread_stood_still_counts(hostile: Path, start: Start) -> None:
    target = start(hostile, "idle", "1")
    tid = int(target.ask("v"))
    stopper = late_stopper(target)
    before = stopper.longest_stop_seconds
    target.send("w")
    assert comes_true(lambda: procfs.read_thread_stat(target.pid, tid).state == "t")
    time.sleep(_LONG_SECONDS)
    assert stopper.release_late()
    assert target.read() == "ended"
    assert before < _LONG_SECONDS < stopper.longest_stop_seconds


def test_a_late_thread_goes_on_while_others_have_the_turn(
    hostile: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has the turn to stop processes, and keeps it until the thread has gone on, and ended."""
    target = start(hostile, "idle", "1")
    tid, went_on = int(target.ask("v")), []
    stopper = late_stopper(target)
    others = multiprocessing.get_context("fork").BoundedSemaphore(1)
    others.acquire()
    monkeypatch.setattr(calm, "_turns", [others])

    def keep_the_turn() -> None:
        went_on.append(comes_true(lambda: tid not in procfs.list_threads(target.pid)))
        others.release()

    keeper = threading.Thread(target=keep_the_turn)
    target.send("w")
    keeper.start()
    with calm.calm(stopper.release_late):
        assert stopper.release_late()
    keeper.join()
    assert went_on == [True]
    assert target.read() == "ended"


@pytest.mark.parametrize("limit", [math.inf, 0.0], ids=["in time", "too late"])
def test_few_threads_are_asked_to_make_a_call_while_all_stand_still(
    program: Path, start: Start, monkeypatch: pytest.MonkeyPatch, limit: float
) -> None:
    target = start(program, "20")
    asked: list[int] = []
    stopper = Stopper(target.pid)
    stopper.look_around()

    def unsuitable(_: object, thread: StoppedThread, *__: object, reluctant: bool) -> str:
        assert not reluctant
        asked.append(thread.tid)
        return "unsuitable"

    monkeypatch.setattr(remote.RemoteCaller, "_start", unsuitable)
    with ProcessMemory(target.pid) as memory:
        caller = remote.RemoteCaller(stopper, memory, remote.Gadgets(0, 0), ())
        stopped = stopper.stop(1.0)
        try:
            caller.begin(stopped, [], limit)
        finally:
            stopper.release(stopped)
    assert (asked[:1], 1 < len(asked) < 10) == (([target.pid], True) if limit else ([], False))


def test_a_thread_that_is_written_through_goes_on_every_few_words(
    program: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is one that refuses to write to pages which the process may not write."""
    target, inside = start(program), False
    poked: list[int] = []
    real_stopped, real_poke = Stopper.one_stopped, sys.poke

    def refused(*_: object) -> int:
        raise OSError(errno.EIO, "refused")

    @contextlib.contextmanager
    def one_stopped(self: Stopper) -> Iterator[int]:
        nonlocal inside
        with real_stopped(self) as tid:
            inside = True
            poked.append(0)
            yield tid
            inside = False

    def poke(tid: int, address: int, word: bytes) -> None:
        if inside:
            poked[-1] += 1
        real_poke(tid, address, word)

    monkeypatch.setattr(os, "pwrite", refused)
    monkeypatch.setattr(Stopper, "one_stopped", one_stopped)
    monkeypatch.setattr(sys, "poke", poke)
    (result,) = apply([make_hotpatch(program, {"first": 2, "second": 2})], [target.pid], Options())
    assert result.state == "applied"
    assert target.ask("a") == "2 2 2"
    assert sum(poked) > 200
    assert max(poked) <= 64


def test_unwinding_ends_with_the_budget(program: Path, start: Start) -> None:
    target = start(program)
    assert target.ask("h") == "inside"
    unwinder = Unwinder(target.pid, process_images(target.pid).images, procfs.read_maps(target.pid))
    stopper = Stopper(target.pid)
    stopped = stopper.stop(1.0)
    try:
        assert len(unwinder.frames(target.pid) or ()) > 16
        assert unwinder.frames(target.pid, 0.0) is None
    finally:
        stopper.release(stopped)
        unwinder.close()


def test_long_stacks_are_read_until_the_budget_is_used_up(
    program: Path, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libwindow.so"
    subprocess.run(window.compile_command("gcc", library), check=True)
    assert window.use(library)
    monkeypatch.setattr(window, "BUFFER_BYTES", 16384)  # of which an eighth is less than two stacks
    target = start(program, "20")
    surroundings = Surroundings(procfs.read_maps(target.pid), ())
    stopper = Stopper(target.pid)
    stopper.look_around()
    stopped = stopper.stop(1.0)
    try:
        (table,) = stopped.tables
        unclear = [len(table.unclear(surroundings.scene(target.pid, Forbidden([])), limit)) for limit in (math.inf, 0)]
    finally:
        stopper.release(stopped)
        window._bound.clear()
    assert (unclear[0], unclear[1] > 15) == (0, True)
