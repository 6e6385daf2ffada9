"""A running nginx, patched and restored again and again: pauses and throughput."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from bench.report import Figure, progress
from tests.servers.command import DONE, hotmend_run, pauses_us, pid_words
from tests.servers.load import Load, Result, wrk_start
from tests.servers.process import Server

PAUSE_MS_GOAL = 0.5
LOAD_SECONDS = 5.0
LOAD_CONNECTIONS = 16


class Changer:
    """Applies and reverts one hotpatch to the processes of one server.

    Attributes:
        pauses_ms: "apply" or "revert" -> the pause of every process so far, in milliseconds.
    """

    def __init__(self, server: Server, hotpatch: Path) -> None:
        self._server = server
        self._hotpatch = hotpatch
        self.pauses_ms: dict[str, list[float]] = {"apply": [], "revert": []}

    def change(self, word: str) -> None:
        """Run `apply` or `revert`.

        Raises:
            RuntimeError: it did not do it.
        """
        ran = hotmend_run(word, str(self._hotpatch), *pid_words(self._server.pids()))
        if ran.code != DONE:
            raise RuntimeError(f"{word}: {ran.told()}")
        self.pauses_ms[word] += [us / 1000 for us in pauses_us(ran)]

    def cycle(self) -> None:
        """Apply and revert."""
        self.change("apply")
        self.change("revert")


def pauses_measure(server: Server, hotpatch: Path, cycles: int, *, loaded: bool) -> Iterator[Figure]:
    """Yield the median and the worst pause of `cycles` apply/revert cycles."""
    state = "under load" if loaded else "idle"
    progress(f"{cycles} cycles on {server.name}, {state}")
    changer = Changer(server, hotpatch)
    load = wrk_start(server, connections=LOAD_CONNECTIONS) if loaded else None
    for _ in range(cycles):
        if load is not None and not load.running():
            load = _load_next(server, load.stop())
        changer.cycle()
    failed = load.stop().failures if load is not None else 0
    section = f"Pause per process, {cycles} apply/revert cycles of {server.name}, {state}"
    everything = [pause for pauses in changer.pauses_ms.values() for pause in pauses]
    note = f"{len(everything)} pauses" + (f"; {failed} failed requests" if loaded else "")
    yield Figure(section, "median", statistics.median(everything), "ms", PAUSE_MS_GOAL, "goal", note)
    yield Figure(section, "worst", max(everything), "ms", PAUSE_MS_GOAL, "goal for the median")
    for word, pauses in changer.pauses_ms.items():
        yield Figure(section, f"{word} alone, median", statistics.median(pauses), "ms", PAUSE_MS_GOAL, "goal")
        yield Figure(section, f"{word} alone, worst", max(pauses), "ms", PAUSE_MS_GOAL, "goal for the median")


def _load_next(server: Server, ended: Result) -> Load:
    if ended.failures:
        raise RuntimeError(f"{ended.failures} requests failed under load\n{ended.printed}")
    return wrk_start(server, connections=LOAD_CONNECTIONS)


def throughput_measure(server: Server, hotpatch: Path) -> Iterator[Figure]:
    """Yield requests per second before, while the code is switched over and over, and after."""
    progress(f"throughput of {server.name}")
    section = f"Requests per second, {server.name}, {LOAD_CONNECTIONS} connections"
    before = _run(server, None)
    changer = Changer(server, hotpatch)
    during = _run(server, changer)
    changer.change("apply")
    after = _run(server, None)
    changer.change("revert")
    yield Figure(section, "before", before.per_second, "1/s", note=f"{before.failures} failed")
    switched = f"{during.failures} failed; the command shares the two cores with server and load"
    peer = ("before", before.per_second)
    yield Figure(section, "while patching without a break", during.per_second, "1/s", peer[1], peer[0], switched)
    yield Figure(section, "after, new code", after.per_second, "1/s", peer[1], peer[0], f"{after.failures} failed")


def _run(server: Server, changer: Changer | None) -> Result:
    load = wrk_start(server, connections=LOAD_CONNECTIONS)
    deadline = time.monotonic() + LOAD_SECONDS
    while time.monotonic() < deadline:
        if changer is None:
            time.sleep(0.05)
        else:
            changer.cycle()
    return load.stop()
