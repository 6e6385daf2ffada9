"""No thread stands still for longer than a stop's budget, whatever else the stop has to do."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotmend.linux import calm, procfs
from hotmend.linux.stop import StopFailure, Stopper
from hotmend.live import audit
from hotmend.live.chain import AuditRecord
from hotmend.live.driver import Options, apply
from tests.live.conftest import OWN_BUILD_ID, Target
from tests.live.handmade import compile_target, make_hotpatch

Start = Callable[..., Target]
_LONG_SECONDS = 0.3
"""So long nobody has time for a late thread."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program one of whose threads waits in vfork from `v` to `w`."""
    source = Path(__file__).with_name("hostile.c")
    return compile_target(source, tmp_path_factory.mktemp("hostile") / "hostile", OWN_BUILD_ID)


@pytest.fixture
def turn(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody else has the turn to stop processes, and keeps it for a while."""
    others = multiprocessing.get_context("fork").BoundedSemaphore(1)
    others.acquire()
    monkeypatch.setattr(calm, "_turns", [others])
    timer = threading.Timer(_LONG_SECONDS, others.release)
    timer.start()
    yield
    timer.join()


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
            time.sleep(_LONG_SECONDS)
            frozen.append(tid in procfs.list_threads(target.pid))
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
    target.ask("v")
    stopper = late_stopper(target)
    before = stopper.longest_stop_seconds
    target.send("w")
    time.sleep(_LONG_SECONDS)
    assert stopper.release_late()
    assert target.read() == "ended"
    assert before < _LONG_SECONDS < stopper.longest_stop_seconds


@pytest.mark.usefixtures("turn")
def test_a_late_thread_goes_on_while_others_have_the_turn(hostile: Path, start: Start) -> None:
    target = start(hostile, "idle", "1")
    target.ask("v")
    stopper = late_stopper(target)
    target.send("w")
    with calm.calm(stopper.release_late):
        assert stopper.release_late()
    assert target.read() == "ended"
    assert stopper.longest_stop_seconds < _LONG_SECONDS
