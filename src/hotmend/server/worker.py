"""What a server process does beside answering is a thread for each such task, from the process's start to its end."""

from __future__ import annotations

import logging
import threading
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from hotmend.model.errors import HotmendError

AGAIN_SECONDS: Final = 30.0
"""At the latest so long after a round that failed comes the next one."""
_LOG: Final = logging.getLogger("hotmend.server")


class Worker:
    """One task, done in rounds: `_round`, which looks at `_leaving` where it takes long.

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

    def stop(self) -> None:
        """End after what is under way."""
        self._leaving.set()
        self._thread.join()

    @property
    def trouble(self) -> str:
        """Why the task is not done now: the error of its last round; "" where it went well."""
        return self._trouble if self._thread.is_alive() else "it does not run"

    def _work(self) -> None:
        while True:
            try:
                pause = self._round() or self._seconds
            except Exception as error:  # noqa: BLE001 - whatever it is, the task goes on
                self._failed(error)
                pause = min(self._seconds, AGAIN_SECONDS)
            else:
                self._trouble = ""
            if self._leaving.wait(pause):
                return

    def _failed(self, error: Exception) -> None:
        self._trouble = type(error).__name__
        if isinstance(error, SQLAlchemyError | HotmendError):
            _LOG.warning("%s: not done, and tried again: %s", self.name, error)
        else:
            _LOG.error("%s: not done, and tried again", self.name, exc_info=error)

    def _round(self) -> float | None:
        """Do what is to be done now; return the seconds to the next round where it is not the usual time."""
        raise NotImplementedError
