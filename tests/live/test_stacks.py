"""Whose stack makes our system calls: never one below which somebody else's data is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.linux import procfs
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stacks import find_restorers, lowest_own
from hotmend.linux.stop import Stopped, Stopper
from hotmend.live.driver import Options, apply, revert
from tests.live.conftest import OWN_BUILD_ID, Target, comes_true
from tests.live.handmade import compile_target, make_hotpatch

SOURCE = Path(__file__).with_name("stacks.c")
CALM = Options(deadline_seconds=30, max_pause_us=50_000)
Start = Callable[..., Target]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_target(SOURCE, tmp_path_factory.mktemp("stacks") / "target", OWN_BUILD_ID, "-Wl,-z,now")


def _watched(target: Target) -> None:
    """Wait until all threads wait on their stacks."""
    assert comes_true(lambda: target.ask("c") != "-1")
    time.sleep(0.05)
    assert target.ask("c") == "0"


@pytest.mark.parametrize("mode", ["small", "alternate", "within"])
def test_nothing_below_a_stack_is_written_to(program: Path, start: Start, mode: str) -> None:
    """Threads on the heap, a handler on an alternate stack there, and one within the main thread's stack."""
    target, hotpatch = start(program, mode), make_hotpatch(program, {"first": 2, "second": 2})
    _watched(target)
    for _ in range(2):
        (result,) = apply([hotpatch], [target.pid], CALM)
        assert (result.state, target.ask("a")) == ("applied", "2 2"), result.reasons
        (result,) = revert(None, [target.pid], CALM)
        assert (result.state, target.ask("a"), target.ask("c")) == ("reverted", "1 1", "0"), result.reasons


@pytest.mark.parametrize(("mode", "known"), [("small", 2), ("alternate", 1), ("within", 2)])
def test_which_stacks_are_known(program: Path, start: Start, mode: str, known: int) -> None:
    """The one that answers, and the main thread's; of a handler's within it no more than the handler's."""
    target = start(program, mode)
    _watched(target)
    found = {}
    with ProcessMemory(target.pid) as memory:
        maps = procfs.read_maps(target.pid)
        restorers = find_restorers(memory, maps)
        for thread in _stopped(target.pid).threads.values():
            sp = thread.registers.rsp
            low = lowest_own(memory, maps, thread.registers, restorers, leader=thread.tid == target.pid)
            if low is not None:
                found[thread.tid] = sp - low
    assert len(found) == known
    if mode == "within":
        assert found[target.pid] < 2_000
    assert max(found.values()) > 64 << 10


def _stopped(pid: int) -> Stopped:
    """Return the threads as they were at a stop that is over."""
    stopper = Stopper(pid)
    stopper.look_around()
    stopped = stopper.stop(1.0)
    _ = stopped.threads
    stopper.release(stopped)
    return stopped


@pytest.mark.parametrize("mode", ["poller", "worker"])
def test_threads_of_an_io_uring(program: Path, start: Start, mode: str) -> None:
    target, hotpatch = start(program, mode), make_hotpatch(program, {"first": 2, "second": 2})

    def workers() -> list[int]:
        return [tid for tid in procfs.list_threads(target.pid) if procfs.is_user_worker(target.pid, tid)]

    assert comes_true(lambda: bool(workers()))
    assert len(workers()) == 1
    (result,) = apply([hotpatch], [target.pid], CALM)
    assert (result.state, target.ask("a")) == ("applied", "2 2"), result.reasons
    (result,) = revert(None, [target.pid], CALM)
    assert (result.state, target.ask("a")) == ("reverted", "1 1"), result.reasons
