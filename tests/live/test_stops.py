"""Stops, remote calls and changes of code that the program must not see. The long form: `python -m faults.unseen`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.unseen import Seen, begun, changes, plain_stops, remote_calls, seen_by, unseen_make
from hotmend.linux import procfs, remote, sys, window
from hotmend.linux.stop import StopFailure, Stopper
from hotmend.live.hands import hands
from hotmend.live.work import ProcessResult
from hotmend.model.hotpatch import Hotpatch
from tests.live.conftest import Target

Start = Callable[..., Target]
real_seal = remote.seal_xsave
NOTHING = ProcessResult(0, "", 0, 0, 0, 0.0, 0, (), "unchanged", (), 0)
_TGKILL = 234
STOPS, CALLS, ROUNDS_MAX = 150, 100, 30
NAMES = {
    "epoll_wait", "poll", "select", "nanosleep", "clock_nanosleep", "futex", "futex_bitset", "sigtimedwait", "recv",
    "read", "accept", "floating", "sequences", "lost-sequences", "signalled", "strange-signals", "main",
}  # fmt: skip


@pytest.fixture(scope="module")
def watchful(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Hotpatch]:
    """The target that looks, and a hotpatch for it."""
    return unseen_make(tmp_path_factory.mktemp("unseen"))


def noticed(target: Target) -> dict[str, Seen]:
    """Return what the target saw, by name."""
    return {one.name: one for one in seen_by(target) if not one.unseen}


def called_until_seen(target: Target, name: str, thread: str) -> Seen:
    """Have threads of one kind make calls until the target notices; return what `name` saw."""
    for _ in range(ROUNDS_MAX):
        remote_calls(target.pid, CALLS, thread)
        if found := noticed(target).get(name):
            return found
    pytest.fail(f"{ROUNDS_MAX * CALLS} calls, and nothing was seen")


def test_nothing_is_seen(watchful: tuple[Path, Hotpatch], start: Start) -> None:
    path, hotpatch = watchful
    target = begun(start(path))
    plain_stops(target.pid, STOPS)
    remote_calls(target.pid, CALLS)
    changes(target.pid, hotpatch, 1)
    assert {one.name for one in seen_by(target)} >= NAMES
    assert noticed(target) == {}


def test_it_would_see_an_interrupted_call(
    watchful: tuple[Path, Hotpatch], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result of a call that the stop interrupted is left as the kernel left it."""
    target = begun(start(watchful[0]))
    monkeypatch.setattr(window, "_RESTARTABLE", bytes(512))
    monkeypatch.setattr(window, "RESTARTABLE_CALLS", frozenset())
    plain_stops(target.pid, 20)
    seen = noticed(target)
    assert {"epoll_wait", "sigtimedwait"} <= seen.keys()
    assert seen["epoll_wait"].interrupted > 0


def test_it_would_see_registers_and_stacks(
    watchful: tuple[Path, Hotpatch], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame of a remote call with valid flags for the alternate stack, and without the floating-point registers."""
    target = begun(start(watchful[0]))
    monkeypatch.setattr(remote, "_INVALID_SS_FLAGS", 2)  # SS_DISABLE, which the kernel believes
    monkeypatch.setattr(remote, "seal_xsave", lambda area: real_seal(area[:160] + bytes(256) + area[416:]))
    floating = called_until_seen(target, "floating", "floating")
    assert floating.changed + floating.early > 0
    assert called_until_seen(target, "poll", "poll").changed > 0


def test_it_would_see_a_broken_sequence(
    watchful: tuple[Path, Hotpatch], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads inside a restartable sequence make the call, and come back without the sequence's protection."""
    target = begun(start(watchful[0]))
    monkeypatch.setattr(remote.RemoteCaller, "_in_critical_section", lambda *_: False)
    # a sequence is lost only where the other thread comes on the same processor meanwhile
    assert called_until_seen(target, "lost-sequences", "sequences").changed > 0


def _seize_and_signal(pid: int, tid: int, number: int) -> None:
    """Trace a thread, and send it a signal before it is asked to stop."""
    sys.seize(tid)
    assert not ctypes.CDLL(None).syscall(_TGKILL, pid, tid, int(number))
    time.sleep(0.005)


def _stopped_by(pid: int, tid: int, number: int) -> window.Table:
    """Stop a thread with a signal on its way."""
    table = window.Table([tid])
    _seize_and_signal(pid, tid, number)
    table.interrupt()
    assert table.wait(time.perf_counter() + 1.0), procfs.read_thread_stat(pid, tid)
    return table


def _signalled(pid: int, tid: int, number: int) -> int:
    """Stop a thread with a signal on its way and let it go; return what it stopped for."""
    table = _stopped_by(pid, tid, number)
    table.detach()
    return table.signal(0)


def test_a_signal_that_the_program_ignores_interrupts_no_call(form: str, program: Path, start: Start) -> None:
    """A traced thread is sent it all the same; one with a handler interrupts `epoll_wait` as it ever does."""
    target = start(program, "1", "1")
    (tid,) = procfs.list_threads(target.pid) - {target.pid}
    assert signal.SIGWINCH in {_signalled(target.pid, tid, signal.SIGWINCH) for _ in range(20)}, form
    assert target.ask("c").split()[2] == "0"
    _signalled(target.pid, tid, signal.SIGUSR2)
    limit = time.monotonic() + 10
    while (interrupted := target.ask("c").split()[2]) == "0" and time.monotonic() < limit:
        time.sleep(0.1)
    assert interrupted == "1"


def test_a_signal_outlives_who_has_stopped_its_thread(form: str, program: Path, start: Start) -> None:
    """The kernel forgets a signal that a tracer has been told of, and lets the thread go without it."""
    target = start(program, "1", "1")
    (tid,) = procfs.list_threads(target.pid) - {target.pid}
    if not (child := os.fork()):
        with contextlib.suppress(BaseException):
            _stopped_by(target.pid, tid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert target.ended() == -signal.SIGTERM, form


def test_a_signal_outlives_the_work_that_left_its_thread_traced(program: Path, start: Start) -> None:
    target = start(program, "1", "1")
    (tid,) = procfs.list_threads(target.pid) - {target.pid}
    assert _by_hands(lambda: _seize_and_signal(target.pid, tid, signal.SIGTERM))
    assert target.ended() == -signal.SIGTERM


def _executes(target: Target) -> bool:
    """Tell whether the target, which is about to execute a new program, comes to that within a while."""
    assert target.process.stdout is not None
    return bool(select.select([target.process.stdout], [], [], 20.0)[0]) and target.read() == "ready"


def _by_hands(job: Callable[[], None]) -> bool:
    """Have it done as all work on processes is, and tell whether that came to its end."""

    def work() -> ProcessResult:
        job()
        return NOTHING

    def do() -> None:
        with hands() as own:
            own.do(work)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(40.0)
    return not thread.is_alive()


def test_a_new_program_while_threads_are_being_seized(form: str, program: Path, start: Start) -> None:
    """The kernel executes it when the other threads are reaped, by their tracer too, and lets nobody seize before."""
    target = start(program, "3")
    stopper = Stopper(target.pid)
    stopper.look_around()
    idle = min(procfs.list_threads(target.pid) - {target.pid})

    def seize_and_stop() -> None:
        stopper._seize({idle: target.pid}, set())
        target.send("x")
        while procfs.read_thread_stat(target.pid, idle).state != "Z":
            time.sleep(0.001)
        stopper.release(stopper.stop(1.0))

    assert _by_hands(seize_and_stop), form
    assert _executes(target)
    assert target.ask("a") == "1 1 1"


def test_a_new_program_while_a_thread_is_stopped(form: str, program: Path, start: Start) -> None:
    """The thread is killed where it stands: it cannot be let go, and has to be reaped."""
    target = start(program, "3")
    stopper = Stopper(target.pid)
    stopper.look_around()
    executed = []

    def stop_and_release() -> None:
        stopped = stopper.stop(1.0, only=min(procfs.list_threads(target.pid) - {target.pid}))
        target.send("x")
        time.sleep(0.1)
        stopper.release(stopped)
        stopper.pause(0.01)
        executed.append(_executes(target))

    assert _by_hands(stop_and_release), form
    assert executed == [True]


@pytest.mark.parametrize("where", ["while it is let go", "in the next stop"])
def test_a_thread_that_is_late_twice_is_waited_for_once(
    form: str, program: Path, start: Start, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Whoever asks a second time is told nothing, of a child of ours for ever: an apply took two seconds more."""
    target = start(program)
    stopper = Stopper(target.pid)
    with monkeypatch.context() as patched:
        patched.setattr(window.Table, "wait", lambda *_: False)
        patched.setattr(window.Table, "collect", lambda *_: False)
        for _ in range(2):
            with pytest.raises(StopFailure):
                stopper.stop(1.0, only=target.pid)
    if where == "in the next stop":
        with monkeypatch.context() as patched:
            patched.setattr(Stopper, "release_late", lambda _: False)
            stopper.release(stopper.stop(10.0, only=target.pid))
    limit = time.monotonic() + 10
    while not stopper.release_late():
        assert time.monotonic() < limit, form
        time.sleep(0.001)
    assert target.ask("a") == "1 1 1"


def test_numbers_of_processes_that_shared_the_memory(program: Path, start: Start) -> None:
    """They have ended, and their numbers are free, or another process's, or a thread's of the target."""
    target, stranger, ended = start(program, "1"), start(program, "1"), start(program)
    ended.close()
    mine = min(procfs.list_threads(target.pid) - {target.pid})
    stopper = Stopper(target.pid)
    stopper.look_around()
    stopper.sharers = (stranger.pid, ended.pid, mine)
    stopped = stopper.stop(1.0)
    try:
        assert {t.tid: t.pid for t in stopped.threads.values()} == {target.pid: target.pid, mine: target.pid}
        assert procfs.read_stat(stranger.pid).state != "t"
        assert not stopper.sharers
    finally:
        stopper.release(stopped)
