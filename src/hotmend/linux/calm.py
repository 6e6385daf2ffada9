"""Quiet surroundings for a stop, and little noise outside of it.

In a stop: real-time priority, locked memory, no garbage collector. With the default scheduler 64 stopped threads took
80 ms, nearly all of it in the detach loop, because every thread that is let go competes with the tracer; at
SCHED_FIFO it is 3 ms.

Everything else (planning, placing, searching memory) is done at a lower priority than the program's own.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from hotmend.linux import sys

if TYPE_CHECKING:
    from multiprocessing.synchronize import Semaphore  # takes longer to load than all that is here

_PRIORITY = 10
_NICER = 10
_POLL_SECONDS = 0.0005


def step_back() -> bool:
    """Lower the priority of the calling thread for as long as it lives; return whether that was done.

    Only where `calm` can raise it for a stop: at a low priority a stop would last longer.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
        os.sched_setscheduler(0, policy, parameters)
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + _NICER)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def locked_memory() -> Iterator[bool]:
    """Hold this process's pages in memory for the block; yields whether the kernel allowed it."""
    locked = sys.lock_memory()
    try:
        yield locked
    finally:
        if locked:
            sys.unlock_memory()


_turns: list[Semaphore] = []


def take_turns(turn: Semaphore) -> None:
    """Have every later `calm` of this process wait for `turn`, which it shares with others that stop processes.

    At real-time priority on every processor they would keep the threads that are to stop from getting there.
    """
    _turns[:] = [turn]


def takes_turns() -> bool:
    """Tell whether stops of this process and those of others wait for each other."""
    return bool(_turns)


@contextlib.contextmanager
def calm(meanwhile: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Run the block at SCHED_FIFO without garbage collection, as far as permissions go.

    Args:
        meanwhile: called again and again while others have the turn, until it returns True.
    """
    with contextlib.ExitStack() as turns:
        for turn in _turns:
            while not turn.acquire(timeout=None if meanwhile() else _POLL_SECONDS):
                pass
            turns.callback(turn.release)
        with _raised():
            yield


@contextlib.contextmanager
def _raised() -> Iterator[None]:
    collecting = gc.isenabled()
    gc.disable()
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    raised = True
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    except OSError:
        raised = False
    try:
        yield
    finally:
        if raised:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, policy, parameters)
        if collecting:
            gc.enable()
