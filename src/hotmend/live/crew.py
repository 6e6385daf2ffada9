"""Many processes at once: the work is spread over processes of our own.

Between two stops a process has to run for a while, and one pair of hands would only wait. Threads would not do: a stop
of one would wait for the interpreter while another thread has it. A worker that dies, or is killed, leaves what any
patcher leaves; its processes are done again by the caller. If the caller dies, the kernel kills the workers.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager

from hotmend.linux import sys
from hotmend.linux.calm import locked_memory, take_turns
from hotmend.linux.namespaces import end_with_parent
from hotmend.live.work import ProcessResult

ALONE_MAX = 6
"""Up to so many processes one pair of hands is as quick: workers have to be made first."""

_WORKERS_PER_PROCESSOR, _UNITS_PER_WORKER = 4, 2

One = Callable[[int], ProcessResult]
"""Does the work on the process with this number."""

_job: list[One] = []
"""In a worker: what it does."""


def each_done(pids: Sequence[int], one: One) -> Iterator[tuple[int, ProcessResult]]:
    """Do the work for every process and yield what came of it, as it comes; all of it where nothing is raised.

    Args:
        pids: processes.
        one: what to do; it has to work in a copy of this process (fork).
    """
    left = dict.fromkeys(pids)
    if len(left) > ALONE_MAX and threading.active_count() == 1:  # a copy has none of the other threads
        for pid, result in _by_workers(families(left), one):
            del left[pid]
            yield pid, result
    with locked_memory():
        for pid in left:
            yield pid, one(pid)


def families(pids: Iterable[int]) -> list[list[int]]:
    """Return the processes, those with one address space together: they are one place to work at.

    Returns:
        [] where that cannot be told.
    """
    try:
        ordered = sorted(pids, key=functools.cmp_to_key(sys.compare_memory))
        found: list[list[int]] = []
        for pid in ordered:
            if found and sys.share_memory(found[-1][0], pid):
                found[-1].append(pid)
            else:
                found.append([pid])
    except OSError:
        return []
    return found


def _by_workers(units: Sequence[Sequence[int]], one: One) -> Iterator[tuple[int, ProcessResult]]:
    """Yield results until all are there, or a worker has died."""
    processors = len(os.sched_getaffinity(0))
    count = min(_WORKERS_PER_PROCESSOR * processors, len(units) // _UNITS_PER_WORKER)
    if count < 2:
        return
    fork = multiprocessing.get_context("fork")
    turn = fork.BoundedSemaphore(max(1, processors - 1))
    pool = ProcessPoolExecutor(count, fork, _begin, (one, turn, os.getpid()))
    try:
        for done in as_completed([pool.submit(_work, unit) for unit in units]):
            yield from done.result()
    except BrokenProcessPool:
        return
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(one: One, turn: AbstractContextManager[object], caller: int) -> None:
    """Begin as a worker: it ends with its caller, which alone is told of an interrupt."""
    end_with_parent()
    if os.getppid() != caller:  # that has ended already
        os._exit(1)
    _job.append(one)
    take_turns(turn)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.lock_memory()


def _work(pids: Sequence[int]) -> list[tuple[int, ProcessResult]]:
    return [(pid, _job[0](pid)) for pid in pids]
