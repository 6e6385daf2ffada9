"""How long does a new process run its old code beside `hotmend watch`? Told by the process itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.report import Figure
from hotmend.package.encode import encode
from tests.live.conftest import OWN_BUILD_ID
from tests.live.handmade import compile_target, make_hotpatch

SOURCE = Path(__file__).parents[1] / "tests" / "live" / "beginning.c"
_REST_US = "100"
_AT_ONCE = 10
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Window:
    """What one process said: milliseconds of old code from the beginning of its `main`, and old answers in them."""

    milliseconds: float
    answers: int


def windows_run(folder: Path, count: int, at_once: int, words: tuple[str, ...] = ()) -> list[Window]:
    """Start processes beside a watch, `at_once` together, until `count` have said how it went.

    Raises:
        RuntimeError: one never came to run the new code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = compile_target(SOURCE, folder / "beginning", OWN_BUILD_ID)
    file = folder / "beginning.hotpatch"
    file.write_bytes(encode(make_hotpatch(program, {"answer": 2})))
    command = [sys.executable, "-m", "hotmend", "watch", str(file), "--audit", str(folder / "audit"), *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as watch:
        assert watch.stderr is not None
        try:
            while not (line := watch.stderr.readline()).startswith("Watching"):
                if not line:
                    raise RuntimeError("hotmend watch ended")
            windows: list[Window] = []
            while len(windows) < count:
                windows += _start(program, min(at_once, count - len(windows)))
                time.sleep(_PAUSE_SECONDS)
            return windows
        finally:
            watch.send_signal(signal.SIGTERM)
            watch.wait(30)


def _start(program: Path, count: int) -> list[Window]:
    running = [subprocess.Popen([program, _REST_US], stdout=subprocess.PIPE, text=True) for _ in range(count)]
    said = [process.communicate(timeout=60)[0].split() for process in running]
    if not all(said):
        raise RuntimeError("a process never ran the new code")
    return [Window(int(words[0]) / 1000, int(words[1])) for words in said]


def watching_measure(folder: Path, count: int) -> Iterator[Figure]:
    """Yield the windows of single processes, of several started together, and without the kernel's events."""
    section = "New processes beside hotmend watch"
    for name, at_once, words in (
        ("one at a time", 1, ()),
        (f"{_AT_ONCE} together", _AT_ONCE, ()),
        ("without events, every second", 1, ("--no-events", "--interval", "1")),
    ):
        number = count if not words else max(3, count // 10)
        times = sorted(window.milliseconds for window in windows_run(folder, number, at_once, words))
        note = f"{number} processes; old code from the beginning of main; load {os.getloadavg()[0]:.1f}"
        yield Figure(section, f"{name}: median", times[len(times) // 2], "ms", note=note)
        yield Figure(section, f"{name}: 99th percentile", times[len(times) * 99 // 100], "ms")
        yield Figure(section, f"{name}: longest", times[-1], "ms")
