"""Processes that begin from a file whose fix is in memory alone wake the agent, whose turn changes them.

A turn that may change processes by itself leaves the paths of such files behind (`record.unfinished`). Between two
turns the agent's own process looks at the processes that are new since; it loads next to nothing for that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 10.0, 3600.0
"""Between two turns that newcomers begin: doubled each time, so that a service that forever starts new processes which
nothing can be done with does not keep the agent busy. What comes meanwhile is not forgotten."""
_YOUNG_SECONDS: Final = 5.0
"""So long a process is looked at again: it may not have become its program yet."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Newcomers:
    """Processes that began since the last turn and run an old file whose fix is in memory; they count as news.

    Attributes:
        file: what the last turn left.
        patched: whether a process has a hotpatch already: it is the child of one.
        clock: seconds, for pauses.
    """

    file: Path
    patched: Callable[[int], bool]
    clock: Callable[[], float] = time.monotonic
    _left: tuple[int, int] = (0, 0)
    _since: float = 0.0
    _paths: tuple[bytes, ...] = ()
    _seen: set[int] = field(default_factory=set)
    _young: dict[int, float] = field(default_factory=dict)
    _waits: bool = False
    _number: int = 0
    _pause: float = PAUSE_SECONDS_MIN
    _last: float = -PAUSE_SECONDS_MAX

    def number(self) -> int:
        """Look; return a number that is another one when a turn is to begin."""
        if not self._read():
            self._waits = False
            return self._number
        now = self.clock()
        self._waits |= bool([pid for pid in self._fresh(now) if self._is_wanted(pid)])
        if self._waits and now - self._last >= self._pause:
            again = now - self._last < PAUSE_SECONDS_MAX
            self._pause = min(2 * self._pause, PAUSE_SECONDS_MAX) if again else PAUSE_SECONDS_MIN
            self._waits, self._last = False, now
            self._number += 1
        return self._number

    def _read(self) -> bool:
        """See what the last turn left; tell whether there is anything to look for."""
        try:
            status = self.file.stat()
            left = status.st_ino, status.st_mtime_ns
            if left != self._left:
                since, *paths = self.file.read_bytes().split(b"\n")
                self._since, self._paths, self._left = float(since), tuple(paths), left
                self._seen, self._young, self._waits = set(), {}, False
        except (OSError, ValueError):
            self._paths, self._left = (), (0, 0)
        return bool(self._paths)

    def _fresh(self, now: float) -> list[int]:
        """Return the processes that were not there before, or are young."""
        with os.scandir("/proc") as entries:
            here = {int(entry.name) for entry in entries if entry.name.isdigit()}
        self._young = {pid: until for pid, until in self._young.items() if pid in here and until > now}
        self._young |= dict.fromkeys(here - self._seen, now + _YOUNG_SECONDS)
        self._seen = here
        return list(self._young)

    def _is_wanted(self, pid: int) -> bool:
        """Tell whether a process is new, maps one of the files and has no hotpatch."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
            began = int(stat.rpartition(b")")[2].split()[19]) / _TICKS
            if began < self._since:
                self._young.pop(pid)
                return False
            maps = Path(f"/proc/{pid}/maps").read_bytes()
            lines = (line.split(None, 5) for line in maps.split(b"\n"))
            mapped = any(len(parts) > 5 and parts[5] in self._paths for parts in lines)
        except (OSError, ValueError, IndexError):
            return False
        if not mapped or self.patched(pid):
            return False
        self._young.pop(pid)
        return True


def has_hotpatch(pid: int) -> bool:
    """Return whether a process has a hotpatch; also where that cannot be seen."""
    from hotmend.live.registry import process_status  # what it loads is needed here alone
    from hotmend.model.errors import HotmendError

    try:
        return any(hotpatch.active for hotpatch in process_status(pid))
    except (HotmendError, OSError):
        return True
