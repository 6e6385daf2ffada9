"""What a server process does beside answering: a thread for each such task, from the process's start to its end."""

from __future__ import annotations

import threading


class Worker:
    """One task; what it does is `_work`, which ends when `_leaving` is set.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is under way."""
        self._leaving.set()
        self._thread.join()

    def _work(self) -> None:
        raise NotImplementedError
