"""Processes that begin to run an old build after the update was applied: found, and changed as soon as that can be.

The kernel tells of each execve (`linux.execs`). A process is looked at again and again, in growing steps, until its
dynamic linker is at rest; if it maps an old build then, it is changed. Every few seconds all processes are looked at
as well: that finds libraries that are opened later, children of processes that were changed just then, and events that
were lost. A process whose mappings are the same as the last time is not looked at again. What an operator takes back
while it is watched stays taken back, also in children of that process, until it runs another program.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hotmend.linux import procfs
from hotmend.linux.execs import ExecEvents
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import process_images
from hotmend.live.driver import Options, ProcessResult, apply
from hotmend.live.gate import hotpatch_id
from hotmend.live.imports import linker_at_rest
from hotmend.live.machine import State
from hotmend.live.registry import has_lost, process_status
from hotmend.model.errors import HotmendError
from hotmend.model.hotpatch import Hotpatch

_FIRST_SECONDS, _LATER_SECONDS_MAX = 0.001, 0.1
"""Pauses between two looks at a process whose dynamic linker works: doubled from the first to the last."""
_STARTING_SECONDS_MAX = 30.0
_REFUSED_SECONDS_MIN, _REFUSED_SECONDS_MAX = 0.05, 60.0
_IDLE_SECONDS_MAX = 0.25
"""How long a signal may have to wait for us."""

_OLD = frozenset({State.PLACED, State.EMPTY})
"""Of an update that was in a process, and is not any more."""

Key = tuple[int, int]
"""Pid and start time of a process."""

Report = Callable[[ProcessResult, float | None], None]
"""Called with what became of a process, and the seconds since its execve where that was told."""


@dataclass(slots=True)
class _Sighting:
    """A process to look at.

    Attributes:
        key: which.
        since: `time.monotonic()` of its execve; None where that was not told.
        until: when its dynamic linker is no longer waited for.
        pause: seconds until the next look.
        refused: codes of the reasons of the last refusal.
    """

    key: Key
    since: float | None
    until: float
    pause: float = _FIRST_SECONDS
    refused: tuple[str, ...] = ()


@dataclass(slots=True)
class Watch:
    """Keeps processes on an update; all its methods belong to one thread.

    Attributes:
        hotpatches: of the update.
        options: of each change.
        report: told of each process that was changed, or refused for another reason than before.
        interval_seconds: between two looks at all processes.
        events: None: all processes are looked at, and nothing else.
        lost: how often events were lost.
    """

    hotpatches: Sequence[Hotpatch]
    options: Options
    report: Report
    interval_seconds: float
    events: ExecEvents | None = None
    lost: int = 0
    _due: list[tuple[float, int, _Sighting]] = field(default_factory=list)
    _waiting: set[Key] = field(default_factory=set)
    _mapped: dict[Key, int] = field(default_factory=dict)
    _changed: set[Key] = field(default_factory=set)
    _taken_back: set[Key] = field(default_factory=set)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _next_sweep: float = 0.0

    def run(self, going: Callable[[], bool], ready: Callable[[], None]) -> None:
        """Watch while `going()`; `ready` is called once all processes that are there have been looked at."""
        self._sweep()
        self._look_at_due(going)
        ready()
        while going():
            now = time.monotonic()
            due = self._due[0][0] if self._due else now + _IDLE_SECONDS_MAX
            self._wait(max(0.0, min(due, self._next_sweep, now + _IDLE_SECONDS_MAX) - now))
            self._look_at_due(going)
            if time.monotonic() >= self._next_sweep:
                self._sweep()

    def _wait(self, seconds: float) -> None:
        """Wait for events, and take note of those processes."""
        if self.events is None:
            time.sleep(seconds)
            return
        if not select.select([self.events], [], [], seconds)[0]:
            return
        told, lost = self.events.read()
        for event in told:
            try:
                key = event.pid, procfs.read_stat(event.pid).start_time_ticks
            except HotmendError:
                continue
            self._waiting.discard(key)
            self._mapped.pop(key, None)
            self._changed.discard(key)
            self._note(key, event.at_ns / 1e9)
        if lost:
            self.lost += 1
            self._next_sweep = time.monotonic()

    def _note(self, key: Key, since: float | None) -> None:
        """Have a process looked at right away."""
        if key not in self._waiting:
            self._later(_Sighting(key, since, time.monotonic() + _STARTING_SECONDS_MAX), 0.0)

    def _later(self, sighting: _Sighting, seconds: float) -> None:
        self._waiting.add(sighting.key)
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), sighting))

    def _sweep(self) -> None:
        """Have every process looked at whose mappings are not those of the last time."""
        seen: dict[Key, int] = {}
        for pid in procfs.list_processes():
            try:
                key = pid, procfs.read_stat(pid).start_time_ticks
                seen[key] = _code_mappings(pid)
            except HotmendError:
                continue
            if self._mapped.get(key) != seen[key] or (key in self._changed and _has_lost(pid)):
                self._note(key, None)
        self._mapped = seen
        self._changed &= seen.keys()
        self._taken_back &= seen.keys()
        self._next_sweep = time.monotonic() + self.interval_seconds

    def _look_at_due(self, going: Callable[[], bool]) -> None:
        """Look at every process whose time has come."""
        while going() and self._due and self._due[0][0] <= time.monotonic():
            _, _, sighting = heapq.heappop(self._due)
            self._waiting.discard(sighting.key)
            try:
                self._look(sighting)
            except HotmendError:  # it ended, or became somebody's we may not look at
                continue

    def _look(self, sighting: _Sighting) -> None:
        """Change a process if it maps an old build; look again later where that cannot be yet."""
        pid, start = sighting.key
        if procfs.read_stat(pid).start_time_ticks != start:
            return
        with ProcessMemory(pid) as memory:
            images = process_images(pid, memory, disk=False).images
            at_rest = linker_at_rest(memory, images)
        if not at_rest:
            if time.monotonic() < sighting.until:
                self._later(sighting, sighting.pause)
                sighting.pause = min(2 * sighting.pause, _LATER_SECONDS_MAX)
            return
        wanted = {hotpatch.old_build_id for hotpatch in self.hotpatches}
        if any(image.build_id in wanted for image in images) and not self._is_taken_back(sighting.key):
            self._change(sighting)

    def _is_taken_back(self, key: Key) -> bool:
        """Tell whether somebody has taken the update back here, or in the process that this one was forked from."""
        states = self._states(key[0])
        if not states or not states <= _OLD:  # another program, or it was applied again
            self._taken_back.discard(key)
            return False
        if key in self._taken_back:
            return True
        parent = procfs.read_stat(key[0]).ppid
        with contextlib.suppress(HotmendError):
            above = parent, procfs.read_stat(parent).start_time_ticks
            for each in (key, above):
                known = each in self._taken_back or (
                    each in self._changed and State.PLACED in (states if each == key else self._states(each[0]))
                )
                if known:
                    self._taken_back |= {key, each}
                    return True
        return False

    def _states(self, pid: int) -> set[State]:
        """Return how the update stands in a process that may have it."""
        ours = {hotpatch_id(hotpatch) for hotpatch in self.hotpatches}
        return {found.state for found in process_status(pid) if found.id in ours}

    def _change(self, sighting: _Sighting) -> None:
        """Apply; where that is refused, try again later, and later each time."""
        (result,) = apply(self.hotpatches, [sighting.key[0]], self.options)
        waited = None if sighting.since is None else time.monotonic() - sighting.since
        if result.start_time_ticks != sighting.key[1]:
            return
        if result.state == "refused":
            codes = tuple(reason.code for reason in result.reasons)
            pause = max(sighting.pause, _REFUSED_SECONDS_MIN)
            if codes != sighting.refused and pause > _REFUSED_SECONDS_MIN:
                self.report(result, waited)
                sighting.refused = codes
            sighting.pause = min(2 * pause, _REFUSED_SECONDS_MAX)
            self._later(sighting, pause)
            return
        self._changed.add(sighting.key)
        if result.state == "applied":
            self.report(result, waited)


def _has_lost(pid: int) -> bool:
    """Tell whether a library was closed, and perhaps opened again at its old place: its mapping looks the same."""
    try:
        with ProcessMemory(pid) as memory:
            return has_lost(memory)
    except HotmendError:
        return False


def _code_mappings(pid: int) -> int:
    """Return a hash of which files' code a process maps, and where."""
    maps = procfs.read_maps(pid)
    return hash(tuple((m.start, m.device, m.inode) for m in maps if m.executable and m.inode))
