"""An assessment of a machine with many processes: how long it takes, and where it would have gone without a census."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.report import Figure, progress
from hotmend.agent.census.assessment import take_assessment
from hotmend.linux.process import processes_mapping
from hotmend.live.driver import Options, apply
from hotmend.live.registry import process_status
from hotmend.model.errors import HotmendError
from tests.live.handmade import compile_target, make_hotpatch

SOURCE = Path(__file__).with_name("crowd.c")
PROCESSES, LIMIT_MS = 500, 2000.0
LIBRARIES = ("libcrypto.so.3", "libssl.so.3", "libexpat.so.1", "libz.so.1", "libsystemd.so.0", "libcurl.so.4")
RUNS = 5


def assessing_measure(folder: Path) -> Iterator[Figure]:
    """Yield the time of one assessment: nothing patched, one in ten, all; and of one process after another."""
    folder.mkdir(parents=True, exist_ok=True)
    program = compile_target(SOURCE, folder / "crowd", f"-Wl,--build-id=0x{secrets.token_hex(20)}")
    hotpatch = make_hotpatch(program, {"first": 2, "second": 2})
    progress(f"{PROCESSES} processes")
    command = [str(program), "1", *LIBRARIES]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(PROCESSES)]
    try:
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline() != b"ready\n":
                raise RuntimeError(f"{command} did not start")
        yield _assessed("nothing patched")
        yield Figure("Assessment", "the same, one process after another", _best(_one_by_one), "ms", LIMIT_MS, "limit")
        pids = [process.pid for process in running]
        apply([hotpatch], pids[::10], Options(deadline_seconds=60.0))
        yield _assessed("one process in ten patched")
        apply([hotpatch], pids, Options(deadline_seconds=60.0))
        yield _assessed("all patched")
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.communicate()


def _assessed(name: str) -> Figure:
    taken = take_assessment()
    images = sum(len(process.images) for process in taken.processes)
    patched = sum(image.patch is not None for process in taken.processes for image in process.images)
    note = f"{len(taken.processes)} processes, {images} images, {patched} patched; best of {RUNS}"
    note += f"; load {os.getloadavg()[0]:.1f}"
    return Figure("Assessment", f"all processes, {name}", _best(take_assessment), "ms", LIMIT_MS, "limit", note)


def _best(work: Callable[[], object]) -> float:
    """Return the shortest time of a few runs, in milliseconds."""
    took = []
    for _ in range(RUNS):
        began = time.perf_counter()
        work()
        took.append((time.perf_counter() - began) * 1000)
    return min(took)


def _one_by_one() -> None:
    for process in processes_mapping():
        try:
            process_status(process.pid)
        except HotmendError:
            continue
