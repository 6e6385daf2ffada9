"""What cycles have shown so far, kept in a file: a command that is ended goes on where it was.

A line of the file is a stretch, one run of one server from its start. While it goes on it is written again and again;
of the lines of a stretch the last one counts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import msgspec


@dataclass(frozen=True, slots=True)
class Stretch:
    """Cycles of a server from its start to its end.

    Attributes:
        server: its name.
        began: when it began, UTC, in ISO 8601: with the name it tells stretches from each other.
        cycles: that were made.
        states: state of a process after a change -> how often.
        refusals: reason of a refusal -> how often.
        pauses: longest stop of a change of a process, in units of 10 microseconds -> how often.
        requests, failures: of the load.
        ended: processes that were there at first and are not there any more.
        grown: what the processes hold -> how much after the first cycles, how much at last, of all together.
        seconds: for all cycles.
        load: load average at the end.
        error: what ended it before its time, or empty.
        said: ends of what loads printed that saw failures.
    """

    server: str
    began: str
    cycles: int
    states: dict[str, int]
    refusals: dict[str, int]
    pauses: dict[int, int]
    requests: int
    failures: int
    ended: int
    grown: dict[str, tuple[int, int]]
    seconds: float
    load: float
    error: str = ""
    said: tuple[str, ...] = ()


class Kept:
    """A file of stretches; without a path they are only remembered."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stretches: dict[tuple[str, str], Stretch] = {}
        if path is not None and path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]  # a machine that went down may have left half a line
            if whole != content:
                path.write_bytes(whole)
            for line in whole.splitlines():
                self._remember(msgspec.json.decode(line, type=Stretch))

    def of(self, server: str) -> list[Stretch]:
        """Return the stretches of a server."""
        return [stretch for stretch in self._stretches.values() if stretch.server == server]

    def add(self, stretch: Stretch) -> None:
        """Remember how far a stretch has come, on the disk too."""
        self._remember(stretch)
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(stretch) + b"\n")
                file.flush()
                os.fsync(file.fileno())

    def _remember(self, stretch: Stretch) -> None:
        self._stretches[stretch.server, stretch.began] = stretch
