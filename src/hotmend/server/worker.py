"""What a server process does beside answering is a thread for each such task, from the process's start to its end."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from hotmend.model.errors import HotmendError

AGAIN_SECONDS: Final = 30.0
"""At the latest so long after a round that failed comes the next one."""
LEAVE_SECONDS: Final = 15.0
"""So long a process that was told to end waits for what is under way."""
UNFINISHED: Final = 1
"""Exit status of a process that did not wait any longer."""
_LOG: Final = logging.getLogger("hotmend.server")


class Leaving(BaseException):
    """This process ends. It is no error of what was under way, which stays as it is for the next process."""


class Worker:
    """One task, done in rounds: `_round`, which looks at `_leaving` (or calls `_go_on`) where it takes long.

    A round that fails, whatever the error, is logged and taken again: the task never ends before its process.

    Args:
        name: of the task.
        seconds: from round to round.

    Attributes:
        name: of the task.
    """

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self._seconds = seconds
        self._trouble = ""
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def leave(self) -> None:
        """Begin no round any more; what is under way ends where it can."""
        self._leaving.set()

    def stop(self) -> None:
        """End after what is under way."""
        self.leave()
        self._thread.join()

    @property
    def runs(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread.is_alive()

    @property
    def trouble(self) -> str:
        """Why the task is not done now: the error of its last round; "" where it went well."""
        return self._trouble if self.runs else "it does not run"

    def _work(self) -> None:
        while True:
            try:
                pause = self._round() or self._seconds
            except Leaving:
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the task goes on
                self._failed(error)
                pause = min(self._seconds, AGAIN_SECONDS)
            else:
                self._trouble = ""
            if self._leaving.wait(pause):
                return

    def _go_on(self) -> None:
        """Let the round end here, where that loses nothing.

        Raises:
            Leaving: the process ends.
        """
        if self._leaving.is_set():
            raise Leaving

    def _failed(self, error: Exception) -> None:
        self._trouble = type(error).__name__
        if isinstance(error, SQLAlchemyError | HotmendError):
            _LOG.warning("%s: not done, and tried again: %s", self.name, error)
        else:
            _LOG.error("%s: not done, and tried again", self.name, exc_info=error)

    def _round(self) -> float | None:
        """Do what is to be done now; return the seconds to the next round where it is not the usual time."""
        raise NotImplementedError


def end_all(workers: Sequence[Worker]) -> None:
    """End the tasks of a process that ends, all at once, and the process itself after `LEAVE_SECONDS` at the latest.

    A network that drips, or a database that another one has locked, may hold a thread for as long as they like, and so
    would the threads that the interpreter joins at its end. Nothing is lost by not waiting for them: whatever a task
    does it does in transactions, of which one that was not committed never was; what it has claimed is free for others
    when the claim ends, and a workflow goes on behind its last step. That is what `kill -9` leaves, and tests do that.
    """
    clock = threading.Timer(LEAVE_SECONDS, _end_now, [workers])
    clock.daemon = True
    clock.start()
    end_together(workers)


def end_together(workers: Sequence[Worker]) -> None:
    """Tell all of them to end before one is waited for."""
    for each in workers:
        each.leave()
    for each in workers:
        each.stop()


def _end_now(workers: Sequence[Worker]) -> None:
    left = [each.name for each in workers if each.runs] or sorted(
        each.name for each in threading.enumerate() if not each.daemon
    )
    _LOG.warning("ended after %g seconds, without waiting for: %s", LEAVE_SECONDS, ", ".join(left))
    os._exit(UNFINISHED)
