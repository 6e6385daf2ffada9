"""The agent's own process: it waits, and starts a run as a child at each turn.

The child loads what comparing and patching need and ends; what stays is small. A turn that fails is told and tried
again at the next one.
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


@dataclass
class Loop:
    """Turns at intervals, until a signal ends them.

    Attributes:
        turn: command line of one turn.
        seconds: what is between the beginnings of two turns; asked each time.
        say: tells a person.
    """

    turn: Sequence[str]
    seconds: Callable[[], float]
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self._end = threading.Event()
        self._now = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Take turns until SIGTERM or SIGINT; SIGHUP begins the next turn at once. A turn under way is waited for."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._signalled)
        while not self._end.is_set():
            began = time.monotonic()
            code = self._one_turn()
            if code not in (0, 3, 4):
                self.say(f"the turn ended with exit code {code}; the next one tries again")
            wait = max(1.0, began + self.seconds() - time.monotonic())
            self._now.wait(wait)
            self._now.clear()

    def _one_turn(self) -> int:
        child = subprocess.Popen(list(self.turn), stdin=subprocess.DEVNULL)
        self._child = child
        code = child.wait()
        self._child = None
        return code

    def _signalled(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as Python calls it
        if number != signal.SIGHUP:
            self._end.set()
        self._now.set()


def command(*arguments: str) -> tuple[str, ...]:
    """Return the command line that runs hotmend with the interpreter of this process."""
    return (sys.executable, "-P", "-m", "hotmend", *arguments)
