"""One command over many processes: how long it takes after its start-up, and what it costs each of them in memory."""

from __future__ import annotations

import os
import resource
import secrets
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.cycles import size_of
from bench.report import Figure, progress
from hotmend.live.driver import Options, apply, revert
from tests.live.handmade import compile_target, make_hotpatch

SOURCE = Path(__file__).with_name("crowd.c")
_OPTIONS = Options(deadline_seconds=30.0)
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many processes of so many threads.

    Attributes:
        processes, threads: how many.
        goal_ms: for one command over all of them.
        libraries: further ones that each maps.
    """

    processes: int
    threads: int
    goal_ms: float
    libraries: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For people."""
        mapped = f" that map {', '.join(self.libraries)}" if self.libraries else ""
        return f"{self.processes} processes of {self.threads} thread{'s' * (self.threads > 1)}{mapped}"


CROWDS = (Crowd(100, 8, 150.0), Crowd(200, 1, 2000.0, ("libcrypto.so.3",)), Crowd(1000, 1, 10_000.0))


def crowds_measure(folder: Path, crowds: tuple[Crowd, ...] = CROWDS) -> Iterator[Figure]:
    """Yield the time of one apply and one revert over each crowd, and what a process holds more afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    program = compile_target(SOURCE, folder / "crowd", f"-Wl,--build-id=0x{secrets.token_hex(20)}")
    for crowd in crowds:
        progress(crowd.name)
        yield from _measure(program, crowd)


def _measure(program: Path, crowd: Crowd) -> Iterator[Figure]:
    hotpatch = make_hotpatch(program, {"first": 2, "second": 2})
    command = [str(program), str(crowd.threads), *crowd.libraries]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(crowd.processes)]
    try:
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{command} did not start")
        time.sleep(_SETTLE_SECONDS)
        before = [size_of(process.pid).private_kib for process in running]
        began, processor = time.perf_counter(), _processor_seconds()
        applied = apply([hotpatch], None, _OPTIONS)
        took, busy = time.perf_counter() - began, _processor_seconds() - processor
        after = [size_of(process.pid).private_kib for process in running]
        began = time.perf_counter()
        reverted = revert(None, [process.pid for process in running], _OPTIONS)
        back = time.perf_counter() - began
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.communicate()
    done = sum(result.state == "applied" for result in applied)
    note = f"{done} applied, {sum(r.state == 'reverted' for r in reverted)} reverted; load {os.getloadavg()[0]:.1f}"
    yield Figure(crowd.name, "one apply over all", took * 1000, "ms", crowd.goal_ms, "goal", note)
    yield Figure(crowd.name, "processor time of it", busy * 1000, "ms", crowd.goal_ms, "goal")
    yield Figure(crowd.name, "one revert over all", back * 1000, "ms")
    pauses = sorted(result.pause_us / 1000 for result in applied)
    yield Figure(
        crowd.name, "pause of a process: median", statistics.median(pauses), "ms", note=f"longest {pauses[-1]:.2f}"
    )
    more = statistics.median(b - a for a, b in zip(before, after, strict=True))
    yield Figure(crowd.name, "private memory of a process, more", more, "KiB", note="median; shadow and changed pages")


def _processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended, the workers."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in spent)
