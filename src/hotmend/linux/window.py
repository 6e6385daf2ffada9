"""The stop window: what is done to every thread of a process between the first interrupt and the last detach.

The process stands still for as long as this takes, and with many threads it is Python's share that grows. So the same
work is there twice: here, and in `window.c`, a shared library that is compiled when the package is built and need not
be there. `load` says whether it is; `python -m bench --only window` puts both side by side. What they do is decided
in `stop` and `live.safety`; a thread that the library does not find *certainly* clear is looked at in Python.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import math
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hotmend.linux import sys
from hotmend.linux.sys import Registers

SOURCE = Path(__file__).with_suffix(".c")
LIBRARY = SOURCE.with_name("libwindow.so")
VARIABLE = "HOTMEND_WINDOW"
"""Environment variable: `python` leaves the library alone."""

ERESTARTNOHAND = -514
BUFFER_BYTES = 4 << 20
"""Stacks beyond that are read in several goes; a single stack beyond it is looked at in Python."""

_POLL_SECONDS = 5e-6
_POLL_SHARE = 1 / 8
"""Sleep an eighth of the time waited so far: a late thread, which needs a processor itself, is not disturbed."""

_CALLS = 512
_MASK32, _MASK64 = (1 << 32) - 1, (1 << 64) - 1
_RAX, _ORIG_RAX = Registers._fields.index("rax"), Registers._fields.index("orig_rax")

Words = npt.NDArray[np.uint64]


class State(IntEnum):
    """What became of a thread that was asked to stop."""

    WAITING = 0
    STOPPED = 1
    DEAD = 2
    JOB_CONTROL = 3


class _Thread(ctypes.Structure):
    _fields_ = (
        ("tid", ctypes.c_int32),
        ("state", ctypes.c_uint8),
        ("clear", ctypes.c_uint8),
        ("signal", ctypes.c_uint16),
        ("registers", ctypes.c_uint64 * len(Registers._fields)),
    )


class _Scene(ctypes.Structure):
    _fields_ = (
        ("pid", ctypes.c_int32),
        ("maps", ctypes.c_uint32),
        ("ranges", ctypes.c_uint32),
        ("restorers", ctypes.c_uint32),
        ("firsts", ctypes.c_uint32),
        ("map_starts", ctypes.c_void_p),
        ("map_ends", ctypes.c_void_p),
        ("range_starts", ctypes.c_void_p),
        ("range_ends", ctypes.c_void_p),
        ("restorer", ctypes.c_void_p),
        ("first", ctypes.c_void_p),
        ("probes_start", ctypes.c_uint64),
        ("probes_bytes", ctypes.c_uint64),
        ("main_stack_end", ctypes.c_uint64),
        ("range_low", ctypes.c_uint64),
        ("range_high", ctypes.c_uint64),
        ("buffer", ctypes.c_void_p),
        ("buffer_bytes", ctypes.c_uint64),
    )


@dataclass(slots=True)
class Scene:
    """What `Table.unclear` looks at beside the threads; all arrays sorted.

    Attributes:
        pid: process whose memory it is.
        map_starts, map_ends: its mappings, half open.
        range_starts, range_ends: code nobody may be in: a word `w` with `start < w <= end` is a hit.
        firsts: those of `range_starts` at which a PC is a hit too.
        restorers: words that begin a signal frame.
        probes: start and bytes of the code that return probes lead to: a hit as well.
        main_stack_end: end of the mapping the kernel calls `[stack]`.
    """

    pid: int
    map_starts: Words
    map_ends: Words
    range_starts: Words
    range_ends: Words
    firsts: Words
    restorers: Words
    probes: tuple[int, int]
    main_stack_end: int
    _packed: _Scene | None = None

    def packed(self) -> _Scene:
        """Return it as C sees it: with pointers into the arrays. Made once, before the stop if asked for then."""
        if self._packed is None:
            self._packed = _c_scene(self)
        return self._packed


class Table:
    """Some threads and their registers, in memory that both forms of the work share."""

    def __init__(self, tids: Sequence[int]) -> None:
        self.tids = tids
        self._raw = (_Thread * len(tids))()
        rows = np.frombuffer(memoryview(self._raw).cast("B"), dtype=np.uint8).reshape(len(tids), ctypes.sizeof(_Thread))
        self._states = rows[:, _Thread.state.offset]
        self._clear = rows[:, _Thread.clear.offset]
        self._registers = rows[:, _Thread.registers.offset :].view(np.uint64)
        rows[:, : _Thread.state.offset] = np.array(tids, dtype=np.int32).view(np.uint8).reshape(len(tids), 4)

    def __len__(self) -> int:
        return len(self.tids)

    def at(self, state: State) -> list[int]:
        """Return the indices of the threads in `state`."""
        found: list[int] = np.flatnonzero(self._states == int(state)).tolist()
        return found

    def count(self, state: State) -> int:
        """Return how many threads are in `state`."""
        return int(np.count_nonzero(self._states == int(state)))

    def registers(self, index: int) -> Registers:
        """Return the registers of a stopped thread."""
        return Registers._make(self._raw[index].registers)

    def restarted(self) -> list[int]:
        """Return the indices of stopped threads whose interrupted call begins anew, with all of its arguments.

        What was seen while they were stopped: it can be asked for when they have been let go.
        """
        anew = self._registers[:, _RAX] == np.uint64(ERESTARTNOHAND & _MASK64)
        found: list[int] = np.flatnonzero((self._states == int(State.STOPPED)) & anew).tolist()
        return found

    def signal(self, index: int) -> int:
        """Return the signal that the stop found on its way to the thread; 0 for none."""
        return int(self._raw[index].signal)

    # --- the work, in C where the library is there ------------------------------------------------------

    def interrupt(self) -> None:
        """Ask all threads that are awaited to stop."""
        if (library := load()) is not None:
            library.window_interrupt(self._raw, len(self))
            return
        for slot in self._waiting():
            try:
                sys.interrupt(slot.tid)
            except OSError:
                slot.state = State.DEAD

    def collect(self) -> bool:
        """See which threads have stopped or ended; return whether none is awaited any more."""
        if (library := load()) is not None:
            return not library.window_collect(self._raw, len(self), _RESTARTABLE)
        for slot in self._waiting():
            _collect(slot)
        return not self.count(State.WAITING)

    def wait(self, limit: float) -> bool:
        """Collect until no thread is awaited any more, or one shows job control.

        Args:
            limit: `time.perf_counter()` after which it returns False.
        """
        if (library := load()) is not None:
            left = library.window_await(self._raw, len(self), _RESTARTABLE, limit, _POLL_SECONDS, _POLL_SHARE)
            return not left
        began = time.perf_counter()
        while not self.collect():
            now = time.perf_counter()
            if now > limit or self.count(State.JOB_CONTROL):
                return False
            # no spinning: the thread may need this very processor to stop
            time.sleep(max(_POLL_SECONDS, (now - began) * _POLL_SHARE))
        return True

    def detach(self) -> None:
        """Let all stopped threads go. One that was killed where it stood cannot be: it is awaited, to be reaped."""
        if (library := load()) is not None:
            library.window_detach(self._raw, len(self))
            return
        for slot in self._raw:
            if slot.state in (State.STOPPED, State.JOB_CONTROL):
                try:
                    sys.detach(slot.tid, slot.signal)
                except OSError:
                    slot.state = State.WAITING

    def unclear(self, scene: Scene, limit: float = math.inf) -> list[int]:
        """Return the indices of stopped threads that are not certainly outside of all ranges; in Python, of all.

        Threads that are not looked at before `time.perf_counter()` passes `limit` are among them.
        """
        if (library := load()) is None:
            return self.at(State.STOPPED)
        if not library.window_clear(ctypes.byref(scene.packed()), self._raw, len(self), limit):
            return []
        left: list[int] = np.flatnonzero((self._states == int(State.STOPPED)) & (self._clear == 0)).tolist()
        return left

    def _waiting(self) -> Iterator[_Thread]:
        return (slot for slot in self._raw if slot.state == State.WAITING)


def _c_scene(scene: Scene) -> _Scene:
    """Return the scene as C sees it."""
    empty = scene.range_starts.size == 0
    return _Scene(
        scene.pid,
        scene.map_starts.size,
        scene.range_starts.size,
        scene.restorers.size,
        scene.firsts.size,
        scene.map_starts.ctypes.data,
        scene.map_ends.ctypes.data,
        scene.range_starts.ctypes.data,
        scene.range_ends.ctypes.data,
        scene.restorers.ctypes.data,
        scene.firsts.ctypes.data,
        *scene.probes,
        scene.main_stack_end,
        0 if empty else int(scene.range_starts[0]),
        0 if empty else int(scene.range_ends.max()),
        _buffer().ctypes.data,
        BUFFER_BYTES,
    )


@functools.cache
def _buffer() -> Words:
    """Return memory for stacks, all of whose pages exist: none has to be found while a process stands still."""
    return np.ones(BUFFER_BYTES // 8, dtype=np.uint64)


def _collect(slot: _Thread) -> None:
    """Ask once; the thread's state tells what came of it. An interrupted call is mended at once.

    The stop stays unreported (WNOWAIT): the kernel forgets a signal that it has reported, should this tracer be killed.
    """
    try:
        found = os.waitid(os.P_PID, slot.tid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT | sys.WALL)
        if found is None:
            return
        if found.si_code != os.CLD_TRAPPED:
            slot.state = State.DEAD
            os.waitpid(slot.tid, os.WNOHANG | sys.WALL)
            return
    except ChildProcessError:
        slot.state = State.DEAD
        return
    number, event = found.si_status & 0xFF, found.si_status >> 8
    try:
        slot.registers[:] = registers = sys.get_registers(slot.tid)
        # At once, not when it is let go: should this tracer be killed, the thread runs on with what it has now.
        # Also with a signal on its way: a traced thread is sent those too that the program ignores.
        if (changed := restarted(registers)) is not None:
            slot.registers[:] = changed
            sys.set_registers(slot.tid, changed)
    except OSError:
        slot.state = State.DEAD
        return
    slot.signal = 0 if event else number
    slot.state = State.JOB_CONTROL if event == sys.EVENT_STOP and number != signal.SIGTRAP else State.STOPPED


RESTARTABLE_CALLS = frozenset(
    {
        0, 1, 7, 17, 18, 19, 20, 23, 42, 43, 44, 45, 46, 47, 61, 65, 69, 70, 72, 73, 128, 202, 208, 219, 220, 232,
        240, 242, 243, 247, 270, 271, 281, 288, 295, 296, 299, 307, 327, 328, 333, 426, 441, 449,
    }
)  # fmt: skip
"""Calls that may be made again after -EINTR: read, write, poll, connect, accept, send*, recv*, wait*, sem*,
msg*, fcntl, flock, sigtimedwait, futex, io_getevents, epoll_*, io_uring_enter and their variants. `close` is not among
them."""

_IOCTL, _TCSBRK = 16, 0x5409
_FALLOCATE, _FALLOCATE_REPEATABLE = 285, 0x53
"""KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE and UNSHARE_RANGE: what has been done already is the same again. Others move what
lies behind."""

_RESTARTABLE = bytes(number in RESTARTABLE_CALLS for number in range(_CALLS))


def is_repeatable(registers: Registers) -> bool:
    """Tell whether the call may be made again after -EINTR: also for `fallocate`, and `ioctl` where it is `tcdrain`."""
    if registers.orig_rax == _FALLOCATE:
        return not registers.rsi & _MASK32 & ~_FALLOCATE_REPEATABLE
    if registers.orig_rax == _IOCTL:
        return registers.rsi & _MASK32 == _TCSBRK and registers.rdx != 0  # else it sends a break
    return registers.orig_rax in RESTARTABLE_CALLS


def restarted(registers: Registers) -> Registers | None:
    """Return registers under which an interrupted call restarts unseen; None where nothing need change."""
    if sys.signed(registers.rax) != -errno.EINTR or not is_repeatable(registers):
        return None
    return registers._replace(rax=ERESTARTNOHAND & _MASK64)


# --- the library ----------------------------------------------------------------------------------------------


def source_identity(source: bytes) -> str:
    """Return what a library says of itself that was compiled from `source`."""
    return hashlib.sha256(source).hexdigest()


def compile_command(compiler: str, output: Path) -> list[str]:
    """Return the command that compiles the library; `hatch_build.py` has the same."""
    identity = source_identity(SOURCE.read_bytes())
    flags = ("-O2", "-shared", "-fPIC", f'-DSOURCE_SHA256="{identity}"')
    return [compiler, *flags, "-o", str(output), str(SOURCE)]


def bind(path: Path) -> Any:
    """Return the library at `path`; None where there is none, or it was compiled from another source."""
    try:
        library, source = ctypes.CDLL(str(path)), SOURCE.read_bytes()
        library.window_identity.restype = ctypes.c_char_p
        if library.window_identity() != source_identity(source).encode():
            return None
    except (OSError, AttributeError):
        return None
    threads, size = ctypes.c_void_p, ctypes.c_size_t
    library.window_interrupt.argtypes = [threads, size]
    library.window_collect.argtypes = [threads, size, ctypes.c_char_p]
    library.window_await.argtypes = [threads, size, ctypes.c_char_p, *[ctypes.c_double] * 3]
    library.window_detach.argtypes = [threads, size]
    library.window_clear.argtypes = [ctypes.c_void_p, threads, size, ctypes.c_double]
    for name in ("collect", "await", "clear"):
        getattr(library, f"window_{name}").restype = size
    for name in ("interrupt", "detach"):
        getattr(library, f"window_{name}").restype = None
    return library


_bound: list[Any] = []


def load() -> Any:
    """Return the library, or None where Python does the work."""
    if not _bound:
        use(None if os.environ.get(VARIABLE) == "python" else LIBRARY)
    return _bound[0]


def use(path: Path | None) -> bool:
    """Do the work with the library at `path` from now on (None: in Python); return whether that is so."""
    _bound[:] = [None if path is None else bind(path)]
    if _bound[0] is not None:
        _buffer()
    return _bound[0] is not None


def stopped_indices(tables: Iterable[Table]) -> Iterator[tuple[Table, int]]:
    """Yield every stopped thread of `tables`."""
    for table in tables:
        for index in table.at(State.STOPPED):
            yield table, index


def count_stopped(tables: Iterable[Table]) -> int:
    """Return how many threads of `tables` have stopped."""
    return sum(table.count(State.STOPPED) for table in tables)
