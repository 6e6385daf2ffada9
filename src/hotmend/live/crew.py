"""Many processes at once: the work is spread over processes of our own.

Between two stops a process has to run for a while, and one pair of hands would only wait. Threads would not do: a stop
of one would wait for the interpreter while another thread has it. A worker that dies, or is killed, leaves what any
patcher leaves; its processes are done again by the caller. If the caller dies, the kernel kills the workers.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import TYPE_CHECKING

from hotmend.linux import procfs, stop, sys
from hotmend.linux.calm import locked_memory, take_turns
from hotmend.linux.namespaces import end_with_parent
from hotmend.live.work import ProcessResult
from hotmend.model.errors import HotmendError

if TYPE_CHECKING:
    from multiprocessing.synchronize import Semaphore  # loaded where there are workers

ALONE_MAX = 6
"""Up to so many processes one pair of hands is as quick: workers have to be made first."""

_WORKERS_PER_PROCESSOR, _UNITS_PER_WORKER = 3, 2
_JOBS_MAX = 8192
"""So many numbers fit into a pipe before anybody reads them."""

_NUMBER_BYTES = 4

One = Callable[[int], ProcessResult]
"""Does the work on the process with this number."""

Units = Sequence[Sequence[int]]
"""Processes that one worker does one after the other."""

Done = list[tuple[int, ProcessResult]]

_at_once = [1]
"""How many workers there are; one where this process is none of them."""


class _WorkerDiedError(Exception):
    """A worker was killed. It may have had the turn to stop processes, which no other one will get then."""


def each_done(pids: Sequence[int], one: One) -> Iterator[tuple[int, ProcessResult]]:
    """Do the work for every process and yield what came of it, as it comes; all of it where nothing is raised.

    Args:
        pids: processes.
        one: what to do; it has to work in a copy of this process (fork).
    """
    left = dict.fromkeys(pids)
    if len(left) > ALONE_MAX and threading.active_count() == 1:  # a copy has none of the other threads
        newest = procfs.newest_pid()
        units = families(left)
        stop.know(neighbours(units, newest))
        try:
            for pid, result in _by_workers(units, one):
                del left[pid]
                yield pid, result
        finally:
            stop.know({})
    with locked_memory():
        for pid in left:
            yield pid, one(pid)


def most_at_once() -> int:
    """Return in how many processes at a time things may be written, this one's work among them."""
    return _at_once[0]


def _workers_max() -> int:
    return _WORKERS_PER_PROCESSOR * len(os.sched_getaffinity(0))


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


def neighbours(families_: Units, newest: int) -> dict[int, stop.Neighbours]:
    """Return for each process which others share its memory, of all that this machine has; {} where one has ended.

    Args:
        families_: as `families` returns them, in its order.
        newest: `procfs.newest_pid()` from before that.
    """
    sharers = [list(family) for family in families_]
    named = {pid for family in families_ for pid in family}
    try:
        for other in procfs.list_processes():
            if other not in named and (at := _place_of(other, families_)) is not None:
                sharers[at].append(other)
    except OSError:
        return {}
    return {
        pid: stop.Neighbours(newest, tuple(other for other in group if other != pid))
        for family, group in zip(families_, sharers, strict=True)
        for pid in family
    }


def _place_of(other: int, families_: Units) -> int | None:
    """Return which family a process belongs to; None where to none, or it has ended meanwhile.

    Raises:
        OSError: a member of a family has ended.
    """
    low, high = 0, len(families_)
    while low < high:
        middle = (low + high) // 2
        member = families_[middle][0]
        try:
            order = sys.compare_memory(other, member)
        except OSError:
            sys.compare_memory(member, member)
            return None
        if order == 0:
            return middle
        low, high = (low, middle) if order < 0 else (middle + 1, high)
    return None


def _by_workers(units: Units, one: One) -> Iterator[tuple[int, ProcessResult]]:
    """Yield results until all are there, or a worker has died."""
    processors = len(os.sched_getaffinity(0))
    count = min(_workers_max(), len(units) // _UNITS_PER_WORKER)
    if count < 2:
        return
    each = -(-len(units) // _JOBS_MAX)
    units = [[pid for unit in units[n : n + each] for pid in unit] for n in range(0, len(units), each)]
    fork = multiprocessing.get_context("fork")
    turn = fork.BoundedSemaphore(max(1, processors - 1))
    jobs, filling = os.pipe()
    os.write(filling, b"".join(number.to_bytes(_NUMBER_BYTES, "little") for number in range(len(units))))
    os.close(filling)  # whoever finds the pipe empty knows that nothing more comes
    workers: dict[Connection, ForkProcess] = {}
    gc.freeze()  # or the first collection in each worker would write to every object there is
    try:
        for _ in range(count):
            reading, writing = fork.Pipe(duplex=False)
            worker = fork.Process(target=_serve, args=(units, one, turn, count, os.getpid(), jobs, writing))
            worker.start()
            writing.close()
            workers[reading] = worker
        for found in _received(workers):
            yield from found
    except _WorkerDiedError:
        for worker in workers.values():
            worker.kill()
    finally:
        gc.unfreeze()
        while os.read(jobs, _JOBS_MAX * _NUMBER_BYTES):  # where this ends early, workers end what they are at
            pass
        os.close(jobs)
        for reading in workers:
            reading.close()
        for worker in workers.values():
            worker.join()
            worker.close()  # or its descriptors last until the collector comes by


def _received(workers: dict[Connection, ForkProcess]) -> Iterator[Done]:
    """Yield what workers send until all have ended.

    Raises:
        _WorkerDiedError: one has ended otherwise than it should.
        Exception: what the work on a process has raised.
    """
    left = list(workers)
    while left:
        for reading in (one for one in wait(left) if isinstance(one, Connection)):
            try:
                found: Done | Exception = reading.recv()
            except (EOFError, OSError):
                left.remove(reading)
                workers[reading].join()
                if workers[reading].exitcode:
                    raise _WorkerDiedError from None
                continue
            if isinstance(found, Exception):
                raise found
            yield found


def _sendable(error: Exception) -> Exception:
    """Return what is raised in the caller: this, or the same in words, where no copy of it can be made."""
    with contextlib.suppress(Exception):
        if str(copy.copy(error)) == str(error):
            return error
    general = HotmendError if isinstance(error, HotmendError) else RuntimeError
    return general(f"{type(error).__name__}: {error}")


def _serve(units: Units, one: One, turn: Semaphore, count: int, caller: int, jobs: int, results: Connection) -> None:
    """Work as long as there is something to do; a worker ends with its caller, which alone is told of an interrupt."""
    end_with_parent()
    if os.getppid() != caller:  # that has ended already
        os._exit(1)
    take_turns(turn)
    _at_once[0] = count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.lock_memory()
    with contextlib.suppress(BrokenPipeError):  # the caller wants to know no more
        while word := os.read(jobs, _NUMBER_BYTES):
            found: Done | Exception
            try:
                found = [(pid, one(pid)) for pid in units[int.from_bytes(word, "little")]]
            except Exception as error:  # noqa: BLE001 - raised again in the caller
                found = _sendable(error)
            results.send(found)
            if isinstance(found, Exception):
                return
