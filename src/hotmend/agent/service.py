"""The agent's own process: it waits, and starts a run as a child at each turn.

The child loads what comparing and patching need and ends; what stays is small. A turn that needs little and comes often
is taken by the process itself: to start an interpreter takes a hundred times as long as a check-in. A turn that fails
is told and tried again at the next one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Final

NEWS_SECONDS: Final = 2.0
"""How often news are looked for."""


@dataclass
class Loop:
    """Turns at intervals, until a signal ends them.

    Attributes:
        turn: command line of one turn, or the turn itself, which returns its exit code.
        seconds: what is between the beginnings of two turns; asked each time.
        say: tells a person.
        news: changes when a turn is to begin before its time; None: nothing does that.
    """

    turn: Sequence[str] | Callable[[], int]
    seconds: Callable[[], float]
    say: Callable[[str], None]
    news: Callable[[], object] | None = None

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._now = threading.Event()

    def run(self) -> None:
        """Take turns until SIGTERM or SIGINT; SIGHUP begins the next turn at once. A turn under way is waited for."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._signalled)
        while not self._end.is_set():
            began = time.monotonic()
            seen = self.news() if self.news is not None else None
            code = self._one_turn()
            if code not in (0, 3, 4):
                self.say(f"the turn ended with exit code {code}; the next one tries again")
            self._wait(began + self.seconds(), seen)
            self._now.clear()

    def _wait(self, until: float, seen: object) -> None:
        left = max(1.0, until - time.monotonic())
        if self.news is None:
            self._now.wait(left)
            return
        end = time.monotonic() + left
        while (left := end - time.monotonic()) > 0 and not self._now.wait(min(left, NEWS_SECONDS)):
            if self.news() != seen:
                return

    def _one_turn(self) -> int:
        if callable(self.turn):
            return self.turn()
        return subprocess.run(list(self.turn), stdin=subprocess.DEVNULL, check=False).returncode

    def _signalled(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as Python calls it
        if number != signal.SIGHUP:
            self._end.set()
        self._now.set()


def command(*arguments: str) -> tuple[str, ...]:
    """Return the command line that runs hotmend with the interpreter of this process."""
    return (sys.executable, "-P", "-m", "hotmend", *arguments)
