"""The other end of `child`: a fixed number of nurseries, each with at most one child at a time."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
from types import TracebackType
from typing import Self

import msgspec

from hotmend.publisher.survey.child import Answer, Request

_TRIES = 2
"""A child that somebody kills from outside is started once more; one that crashes, or is over a limit, is not."""


class Nursery:
    """A process that forks one child for each request. It is started at the first one, and again if it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process else None

    def ask(self, request: Request) -> Answer:
        """Return the child's answer. Whatever goes wrong in it is in the answer; nothing is raised."""
        answer = _lost("was not tried")
        for _ in range(_TRIES):
            answer = self._ask_once(request)
            if answer.error_kind != "killed":
                break
        return answer

    def close(self) -> None:
        """End it, and the child it may have."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - Popen was told to
        with contextlib.suppress(OSError):
            process.stdin.close()
        process.wait()
        process.stdout.close()

    def _ask_once(self, request: Request) -> Answer:
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        try:
            process.stdin.write(msgspec.json.encode(request) + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
            return msgspec.json.decode(line, type=Answer)
        except (OSError, msgspec.DecodeError):
            self.close()
            return _lost("lost its process, which was killed from outside")

    def _start(self) -> subprocess.Popen[bytes]:
        # One thread in numpy's libraries too: they would be lost in a forked child, and cost address space.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "hotmend.publisher.survey.child"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        return self._process


def _lost(what: str) -> Answer:
    return Answer(None, f"The comparison {what}.", "killed", 0.0, 0.0, 0)


class Pool:
    """As many nurseries as children may run at once on this machine. Safe to use from several threads.

    Attributes:
        size: how many.
    """

    def __init__(self, count: int, *, memory_bytes: int, seconds: float) -> None:
        self.size = count
        self._all = tuple(Nursery() for _ in range(count))
        self._free: queue.SimpleQueue[Nursery] = queue.SimpleQueue()
        for nursery in self._all:
            self._free.put(nursery)
        self._memory_bytes = memory_bytes
        self._seconds = seconds

    def run(self, task: str, argument: msgspec.Struct) -> Answer:
        """Wait for a free nursery and let it do `task`."""
        request = Request(task, msgspec.to_builtins(argument), self._memory_bytes, self._seconds)
        nursery = self._free.get()
        try:
            return nursery.ask(request)
        finally:
            self._free.put(nursery)

    def __enter__(self) -> Self:
        """Nothing is started before it is needed."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all nurseries and their children."""
        for nursery in self._all:
            nursery.close()
