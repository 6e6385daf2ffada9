"""A thread that does the work on processes, and ends where the kernel has to let go of what it still traces.

All ptrace requests for a thread have to come from the one that seized it. A thread that did not stop in time is still
traced when the work is over: it is let go, whatever it does, when its tracer ends. Mostly nothing is left, and the same
thread does the next piece of work. Whoever waits for it reaps for it, should it have to seize a thread of a process
that executes a new program (`linux.stop`).
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hotmend.linux import sys
from hotmend.linux.calm import step_back
from hotmend.linux.stop import reap_ended
from hotmend.live.work import ProcessResult

_END_SECONDS = 1.0
_LOOK_SECONDS = 0.1
"""So often the waiting thread looks whether the other one waits for it. Seldom: each look may fall into a stop."""

Job = Callable[[], ProcessResult]


@dataclass(slots=True)
class Hands:
    """Does one piece of work after the other, in a thread that begins with the first."""

    _thread: threading.Thread | None = None
    _busy: bool = False
    _jobs: queue.SimpleQueue[Job | None] = field(default_factory=queue.SimpleQueue)
    _done: queue.SimpleQueue[tuple[ProcessResult | BaseException, bool]] = field(default_factory=queue.SimpleQueue)

    def do(self, job: Job) -> ProcessResult:
        """Do it and return what came of it, once nothing is traced any more; raises what it raises."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="hotmend-driver", daemon=True)
            self._thread.start()
        self._busy = True
        self._jobs.put(job)
        result, traces = self._outcome()
        self._busy = False
        if traces:
            self._await_end()
        if isinstance(result, BaseException):
            raise result
        return result

    def _outcome(self) -> tuple[ProcessResult | BaseException, bool]:
        """Wait for what comes of it. Meanwhile reap for the thread, which may wait for just that in the kernel."""
        while True:
            with contextlib.suppress(queue.Empty):
                return self._done.get(timeout=_LOOK_SECONDS)
            reap_ended()

    def end(self) -> None:
        """End the thread, unless it is at work, which whoever waited for it was called away from."""
        if self._thread is not None and not self._busy:
            self._jobs.put(None)
            self._await_end()

    def _serve(self) -> None:
        step_back()
        while (job := self._jobs.get()) is not None:
            result: ProcessResult | BaseException
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001 - raised again in the caller
                result = error
            traces = sys.traces_any()
            self._done.put((result, traces))
            if traces:
                return

    def _await_end(self) -> None:
        """Wait until the kernel has ended the thread, and let go what it traced: `join` comes back earlier."""
        if (thread := self._thread) is None:
            return
        self._thread = None
        thread.join()
        limit = time.perf_counter() + _END_SECONDS
        place = Path(f"/proc/self/task/{thread.native_id}")
        while place.exists() and time.perf_counter() < limit:
            time.sleep(0.0001)


@contextlib.contextmanager
def hands() -> Iterator[Hands]:
    """Yield hands that end with the block."""
    made = Hands()
    try:
        yield made
    finally:
        made.end()
