"""What the target must not notice: interrupted calls, floating point, mixed versions; and a patcher that dies."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.linux import procfs, remote
from hotmend.linux import sys as sys_calls
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stacks import find_restorers
from hotmend.linux.stop import Stopper
from hotmend.live.driver import Options, apply, revert
from hotmend.live.machine import State
from hotmend.live.registry import process_status
from hotmend.model.errors import ProcessGoneError
from tests.live.conftest import OWN_BUILD_ID, Target, comes_true
from tests.live.handmade import compile_target, make_hotpatch

Start = Callable[..., Target]
ANSWERS = {"first": 2, "second": 2}
STOPS = 200


@pytest.mark.parametrize(("mode", "what"), [("1", "epoll_wait"), ("2", "nanosleep"), ("3", "poll")])
def test_no_interrupted_call(program: Path, start: Start, mode: str, what: str) -> None:
    target = start(program, "2", mode)
    stopper = Stopper(target.pid)
    stopper.look_around()
    for _ in range(STOPS):
        stopper.release(stopper.stop(0.5))
        time.sleep(0.005)
    _, loops, interrupted, _ = map(int, target.ask("c").split())
    assert loops > 0
    assert interrupted == 0, what


def test_no_interrupted_call_of_threads_that_stop_too_late(program: Path, start: Start) -> None:
    """Every stop is given up before all threads have stopped; the work ends while some are still on their way."""
    target, hotpatch = start(program, "4", "1"), make_hotpatch(program, {"first": 2, "second": 2})
    for _ in range(8):
        (result,) = apply([hotpatch], [target.pid], Options(deadline_seconds=0.1, max_pause_us=1))
        assert result.state == "refused"
    _, loops, interrupted, _ = map(int, target.ask("c").split())
    assert loops > 0
    assert interrupted == 0, "epoll_wait"


@pytest.mark.parametrize("mode", ["4", "1"])
def test_remote_calls(program: Path, start: Start, mode: str) -> None:
    """200 times, one or several, in a floating-point loop and in epoll_wait: sums right, no EINTR, sigaltstack kept."""
    target = start(program, "1", mode)
    with ProcessMemory(target.pid, writable=True) as memory:
        maps = procfs.read_maps(target.pid)
        gadgets = remote.find_gadgets(memory, maps)
        assert gadgets is not None
        caller = remote.RemoteCaller(Stopper(target.pid), memory, gadgets, find_restorers(memory, maps))
        (tid,) = procfs.list_threads(target.pid) - {target.pid}
        getpid = remote.Call(39, ())
        made = 0
        limit = time.monotonic() + 60
        while made < STOPS and time.monotonic() < limit:
            calls = [getpid] * (1 + made % remote.CALLS_MAX)
            made += caller._try_thread(tid, calls, reluctant=True) is None
            time.sleep(0.0005)
        assert made == STOPS
    _, loops, interrupted, wrong = map(int, target.ask("c").split())
    assert comes_true(lambda: int(target.ask("c").split()[1]) > loops)
    assert (interrupted, wrong) == (0, 0)
    assert target.ask("k") == "1 0 65536"


@pytest.mark.parametrize("call", ["sigsuspend", "ppoll", "pselect", "epoll_pwait"])
def test_a_signal_on_the_way_to_a_call(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """It comes when the thread has been found to have none: the wait for it ends all the same."""
    program = compile_target(Path(__file__).with_name("signals.c"), tmp_path / "signals", OWN_BUILD_ID)
    target, real = start(program, call), sys_calls.set_registers
    while procfs.read_stat(target.pid).state != "S":
        time.sleep(0.001)

    def set_registers(tid: int, registers: sys_calls.Registers) -> None:
        os.kill(target.pid, signal.SIGUSR1)
        real(tid, registers)

    monkeypatch.setattr(sys_calls, "set_registers", set_registers)
    with ProcessMemory(target.pid, writable=True) as memory:
        maps = procfs.read_maps(target.pid)
        gadgets = remote.find_gadgets(memory, maps)
        assert gadgets is not None
        caller = remote.RemoteCaller(Stopper(target.pid), memory, gadgets, find_restorers(memory, maps))
        page = remote.Call(remote.SYS_MMAP, (0x10000000, 4096, 1, 0x100022, -1))
        made = caller.call([page], lambda: memory.try_read(0x10000000, 1) is not None, time.perf_counter() + 30)
        assert made is None
    assert target.process.stdout is not None
    assert select.select([target.process.stdout], [], [], 30)[0], "it sleeps on"
    assert target.read() == "woken"


def test_a_thread_that_has_ended_is_not_the_process(
    program: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads end between the list of them and the stop: the next one makes the call, or stops for the write."""
    target = start(program, "2", "0")
    real_list, ended = procfs.list_threads, 1 << 30  # no number of a thread
    monkeypatch.setattr(procfs, "list_threads", lambda pid: real_list(pid) | {ended})
    stopper = Stopper(target.pid)
    with ProcessMemory(target.pid, writable=True) as memory:
        maps = procfs.read_maps(target.pid)
        gadgets = remote.find_gadgets(memory, maps)
        assert gadgets is not None
        caller = remote.RemoteCaller(stopper, memory, gadgets, find_restorers(memory, maps))
        getpid = remote.Call(39, ())
        assert caller._try_thread(ended, [getpid], reluctant=True) == f"thread {ended} has ended"
        monkeypatch.setattr("builtins.sorted", lambda *_, **__: [ended, target.pid])
        with stopper.one_stopped() as tid:
            assert tid == target.pid
        monkeypatch.undo()
        target.process.kill()
        target.process.wait()
        with pytest.raises(ProcessGoneError):
            caller._try_thread(target.pid, [getpid], reluctant=True)


LOOP = """
import sys
from pathlib import Path
from hotmend.live.driver import Options, apply, revert
from tests.live.handmade import make_hotpatch
pid, program = int(sys.argv[1]), Path(sys.argv[2])
hotpatch = make_hotpatch(program, {"first": 2, "second": 2})
print("go", flush=True)
while True:
    apply([hotpatch], [pid], Options()); revert(None, [pid], Options())
"""


def test_killed_patcher(program: Path, start: Start) -> None:
    """Killed anywhere, the patcher leaves all-old or all-new, and the next apply and revert work."""
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    target, hotpatch = start(program, "2", "0"), make_hotpatch(program, ANSWERS)
    root = Path(__file__).parents[2]
    for _ in range(12):
        patcher = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(target.pid), str(program)],
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": f"{root}:{root / 'src'}"},
        )
        assert patcher.stdout is not None
        patcher.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.15))
        patcher.send_signal(signal.SIGKILL)
        patcher.wait()
        patcher.stdout.close()
        assert target.ask("a") in ("1 1 1", "2 2 2"), seed
        assert all(s.state is not State.DAMAGED for s in process_status(target.pid)), seed
        result = apply([hotpatch], [target.pid], Options())[0]
        assert result.state in ("applied", "unchanged"), (seed, result)
        assert target.ask("a") == "2 2 2", seed
        assert revert(None, [target.pid], Options())[0].state == "reverted", seed
        assert target.ask("a") == "1 1 1", seed
