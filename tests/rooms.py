"""Which tests may run beside each other: those of one room run one after the other, in their own order.

Tests of the agent hold ports of this machine; live ones, and those that drive servers, want a processor for what they
stop. Elsewhere a folder whose tests share something that takes long to make is one room, or else each file.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling

_TOGETHER = {"live": "processes", "servers": "processes"}
_WHOLE = {"agent", "arc", "pairs", "release", "repository", "scenarios", "server", "survey", "windows"}


_FIRST = ("agent", "server", "windows")
"""The rooms that take longest: begun last, one of them would be worked on alone."""


class Rooms(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    """Hands one room after the other to whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        return room_of(nodeid)


def room_of(nodeid: str) -> str:
    """Return the room of a test: tests/ROOM/FILE.py::NAME."""
    file = PurePosixPath(nodeid.split("::", 1)[0])
    folder = file.parts[1]
    return _TOGETHER.get(folder) or (folder if folder in _WHOLE else str(file))


def place_of(nodeid: str) -> int:
    """Return where the room of a test comes among the others."""
    room = room_of(nodeid)
    return _FIRST.index(room) if room in _FIRST else len(_FIRST)
