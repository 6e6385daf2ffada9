"""Many processes in one command: workers, what they share, and what happens where one of them dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from bench.crowds import SOURCE
from hotmend.linux import procfs, remote, stop, sys
from hotmend.linux.calm import calm
from hotmend.linux.stop import StopFailure, StopFailureKind
from hotmend.live.crew import ALONE_MAX, each_done, families, most_at_once, neighbours
from hotmend.live.driver import Options, apply, revert
from hotmend.live.hands import hands
from hotmend.live.needs import Refusal
from hotmend.live.registry import process_status
from hotmend.live.work import ProcessResult, Work
from hotmend.model.errors import HotmendError, ProcessGoneError
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import refusal
from tests.live.conftest import OWN_BUILD_ID, Target, comes_true
from tests.live.handmade import compile_target, make_hotpatch

Start = Callable[..., Target]
COUNT = 3 * ALONE_MAX
OPTIONS = Options(deadline_seconds=60.0, max_pause_us=50_000)
PIDS = range(10**9, 10**9 + COUNT)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Hotpatch]:
    """A program, and a hotpatch for it."""
    program = compile_target(SOURCE, tmp_path_factory.mktemp("crowd") / "crowd", OWN_BUILD_ID)
    return program, make_hotpatch(program, {"first": 2, "second": 2})


def states(pids: list[int]) -> list[str]:
    return [";".join(found.state for found in process_status(pid)) for pid in pids]


def named(pid: int) -> ProcessResult:
    """Work that tells who did it."""
    return Work(pid, OPTIONS).result(f"{os.getpid()}")


def test_all_are_changed_and_changed_back(crowd: tuple[Path, Hotpatch], start: Start) -> None:
    program, hotpatch = crowd
    pids = [start(program, "2").pid for _ in range(COUNT)][::-1]
    told: list[tuple[int, int]] = []
    results = apply([hotpatch], pids, OPTIONS, lambda *so_far: told.append(so_far))
    assert [(r.pid, r.state) for r in results] == [(pid, "applied") for pid in pids]
    assert told == [(number + 1, COUNT) for number in range(COUNT)]
    assert states(pids) == ["settled"] * COUNT
    assert [(r.pid, r.state) for r in revert(None, pids, OPTIONS)] == [(pid, "reverted") for pid in pids]
    assert states(pids) == ["placed"] * COUNT


def test_a_process_that_ends_or_refuses_does_not_stop_the_others(crowd: tuple[Path, Hotpatch], start: Start) -> None:
    program, hotpatch = crowd
    targets = [start(program, "1") for _ in range(COUNT)]
    gone, stopped, *others = pids = [target.pid for target in targets]
    targets[0].close()
    os.kill(stopped, signal.SIGSTOP)
    try:
        found = {r.pid: r.state for r in apply([hotpatch], pids, OPTIONS)}
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert found == {gone: "gone", stopped: "refused", **dict.fromkeys(others, "applied")}


def test_a_few_need_no_workers() -> None:
    assert {result.state for _, result in each_done(PIDS[:ALONE_MAX], named)} == {f"{os.getpid()}"}


@pytest.fixture
def alone_with_pids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that no process has are told apart like any; and nothing of other tests is left that forbids copies."""
    assert comes_true(lambda: threading.active_count() == 1), threading.enumerate()
    monkeypatch.setattr("hotmend.live.crew.families", lambda pids: [[pid] for pid in pids])


@pytest.mark.usefixtures("alone_with_pids")
def test_workers_do_it() -> None:
    done = dict(each_done(PIDS, named))
    assert done.keys() == set(PIDS)
    assert f"{os.getpid()}" not in {result.state for result in done.values()}


@pytest.mark.usefixtures("alone_with_pids")
def test_how_many_work_at_a_time_is_how_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as many as a machine with so many processors could have: room for all of them is asked for."""
    monkeypatch.setattr("hotmend.live.crew._workers_max", lambda: 200)

    def counted(pid: int) -> ProcessResult:
        return Work(pid, OPTIONS).result(f"{os.getpid()} {most_at_once()}")

    said = [result.state.split() for _, result in each_done(PIDS, counted)]
    assert {number for _, number in said} == {f"{COUNT // 2}"}
    assert [result.state.split()[1] for _, result in each_done(PIDS[:1], counted)] == ["1"]


@pytest.mark.usefixtures("alone_with_pids")
def test_what_is_known_of_neighbours_is_forgotten_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it ends early: numbers of processes come round."""
    monkeypatch.setattr("hotmend.live.crew.neighbours", lambda *_: {PIDS[0]: stop.Neighbours(1, ())})

    def failing(_: int) -> ProcessResult:
        raise LookupError

    with pytest.raises(LookupError):
        list(each_done(PIDS, failing))
    assert not stop._known


@pytest.mark.usefixtures("alone_with_pids")
def test_where_a_worker_dies_the_rest_is_done(tmp_path: Path) -> None:
    def one(pid: int) -> ProcessResult:
        if pid == PIDS[COUNT // 2] and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return named(pid)

    done = dict(each_done(PIDS, one))
    assert (tmp_path / "died").exists()
    assert done.keys() == set(PIDS)
    assert f"{os.getpid()}" in {result.state for result in done.values()}


@pytest.mark.usefixtures("alone_with_pids")
def test_a_worker_that_dies_in_its_turn_holds_nobody_up() -> None:
    """Others would wait for ever for the turn to stop a process, which it had."""
    caller = os.getpid()

    def one(pid: int) -> ProcessResult:
        with calm():
            if os.getpid() != caller:
                os.kill(os.getpid(), signal.SIGKILL)
        return named(pid)

    done = dict(each_done(PIDS, one))
    assert {result.state for result in done.values()} == {f"{caller}"}


@pytest.mark.usefixtures("alone_with_pids")
def test_a_caller_that_is_interrupted_lets_workers_end_what_they_are_at(tmp_path: Path) -> None:
    """And has them begin nothing more."""

    def one(pid: int) -> ProcessResult:
        (tmp_path / f"{pid} begun").touch()
        if pid != PIDS[0]:
            while not (tmp_path / "closing").exists():
                time.sleep(0.01)
            time.sleep(1)  # whoever is done sooner may begin with another one before there are none
        (tmp_path / f"{pid} ended").touch()
        return named(pid)

    before = set(children_of(os.getpid()))  # a server for other tests may be one
    each = each_done(PIDS, one)
    next(each)
    assert set(children_of(os.getpid())) > before
    (tmp_path / "closing").touch()
    cast(Generator[object], each).close()
    assert set(children_of(os.getpid())) == before
    begun, ended = ({path.name.split()[0] for path in tmp_path.glob(f"* {word}")} for word in ("begun", "ended"))
    assert begun == ended
    assert len(ended) < COUNT


@pytest.mark.usefixtures("alone_with_pids")
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (LookupError("what came of it"), LookupError),
        (ProcessGoneError("what came of it"), ProcessGoneError),
        (Refusal(refusal("no-room", "what came of it")), HotmendError),
        (StopFailure(StopFailureKind.LATE, (1,), "what came of it"), HotmendError),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "what came of it"), UnicodeDecodeError),
    ],
)
def test_an_error_is_raised(error: Exception, kind: type[Exception]) -> None:
    """Also one that cannot be sent as it is: in words, then."""

    def one(_: int) -> ProcessResult:
        raise error

    with pytest.raises(kind, match="what came of it"):
        list(each_done(PIDS, one))


@pytest.mark.usefixtures("alone_with_pids")
def test_a_process_with_threads_is_not_copied() -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        done = dict(each_done(PIDS, named))
    finally:
        ended.set()
        thread.join()
    assert {result.state for result in done.values()} == {f"{os.getpid()}"}


def test_processes_on_one_memory_are_one_place(tmp_path: Path, start: Start) -> None:
    """`s` has the target make a process on its own memory."""
    here = Path(__file__).parent
    library = compile_target(here / "loaded.c", tmp_path / "loaded.so", "-shared", "-fPIC")
    program = compile_target(here / "loading.c", tmp_path / "loading")
    first, second = start(program, str(library)), start(program, str(library))
    sharer = int(first.ask("s"))
    found = {frozenset(family) for family in families([first.pid, second.pid, sharer])}
    assert found == {frozenset({first.pid, sharer}), frozenset({second.pid})}
    assert families([first.pid, PIDS[0]]) == []


def test_who_shares_memory_is_found_once_for_all(tmp_path: Path, start: Start) -> None:
    """Also a process that is none of those to be changed, and one that was made later."""
    here = Path(__file__).parent
    library = compile_target(here / "loaded.c", tmp_path / "loaded.so", "-shared", "-fPIC")
    program = compile_target(here / "loading.c", tmp_path / "loading")
    first, second = start(program, str(library)), start(program, str(library))
    sharer, newest = int(first.ask("s")), procfs.newest_pid()
    found = neighbours(families([first.pid, second.pid]), newest)
    assert {pid: seen.sharers for pid, seen in found.items()} == {first.pid: (sharer,), second.pid: ()}
    assert neighbours([[first.pid], [PIDS[0]]], newest) == {}
    stop.know(found)
    try:
        later = int(second.ask("s"))
        for pid, sharers in ((first.pid, (sharer,)), (second.pid, (later,))):
            stopper = stop.Stopper(pid)
            stopper.look_around()
            assert stopper.sharers == sharers
    finally:
        stop.know({})


@pytest.mark.parametrize("turns", [False, True])
def test_where_stops_wait_for_each_other_they_are_fewer(
    crowd: tuple[Path, Hotpatch], start: Start, monkeypatch: pytest.MonkeyPatch, turns: bool
) -> None:
    """The shadow's memory is asked for in the stop that looks whether the old code is in use."""
    program, hotpatch = crowd
    target = start(program, "3")
    asked: list[int] = []
    real = remote.RemoteCaller._try_thread

    def counted(self: remote.RemoteCaller, tid: int, calls: Sequence[remote.Call], *, reluctant: bool) -> str | None:
        asked.extend(call.number for call in calls)
        return real(self, tid, calls, reluctant=reluctant)

    monkeypatch.setattr(remote.RemoteCaller, "_try_thread", counted)
    monkeypatch.setattr("hotmend.linux.calm._turns", [threading.Semaphore()] if turns else [])
    (result,) = apply([hotpatch], [target.pid], OPTIONS)
    assert result.state == "applied"
    assert (remote.SYS_MMAP in asked, remote.SYS_MPROTECT in asked) == (not turns, True)


def test_hands_end_where_something_is_traced(crowd: tuple[Path, Hotpatch], start: Start) -> None:
    program, _ = crowd
    target, threads = start(program, "2"), set()

    def job(seize: bool) -> ProcessResult:
        threads.add(threading.get_native_id())
        if seize:
            sys.seize(target.pid)
        return named(target.pid)

    def failing() -> ProcessResult:
        raise LookupError

    with hands() as own:
        for seize in (False, False, True, False):
            own.do(partial(job, seize))
            assert procfs.read_status(target.pid).tracer == 0
        with pytest.raises(LookupError):
            own.do(failing)
        own.do(partial(job, False))
    assert len(threads) == 2


def test_workers_end_with_their_caller(crowd: tuple[Path, Hotpatch], start: Start, tmp_path: Path) -> None:
    """A killed caller leaves no workers, and processes that are all old or all new; the next one finishes."""
    program, hotpatch = crowd
    pids = [start(program, "2").pid for _ in range(COUNT)]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:

        def one(pid: int) -> ProcessResult:
            result = apply([hotpatch], [pid], OPTIONS)[0]
            if pid == pids[-1]:  # or all may be done before anybody is killed
                signal.pause()
            return result

        for _ in each_done(pids, one):
            os.write(writer, b".")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"."
    workers = children_of(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert workers
    assert comes_true(lambda: not any(is_running(pid) for pid in workers))
    os.close(reader)
    results = apply([hotpatch], pids, OPTIONS)
    assert not [r.reasons for r in results if r.state not in ("applied", "unchanged")]
    assert {state.replace("empty", "").strip(";") for state in states(pids)} == {"settled"}  # a half shadow may be left


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    """Whether any thread is left: the first one is shown as ended before the others are."""
    try:
        return len(procfs.list_threads(pid)) > 1 or procfs.read_stat(pid).state not in "ZX"
    except ProcessGoneError:
        return False
