"""How long a process stands still: as one of its own threads sees it, and as hotmend reports it."""

from __future__ import annotations

import mmap
import os
import secrets
import statistics
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.report import Figure, progress
from hotmend.linux import window
from hotmend.live.driver import Options, ProcessResult, apply, revert
from hotmend.model.hotpatch import Hotpatch
from tests.live.handmade import compile_target, make_hotpatch

SOURCE = Path(__file__).with_name("target.c")
THREADS = (1, 8, 64, 256)
FUNCTIONS = (10, 2000)
MODES = ("idle", "busy")
GOALS_MS: dict[int, tuple[float, float | None]] = {1: (0.2, 1.0), 64: (2.0, 10.0), 256: (5.0, None)}
"""Threads -> goals for the median and for the 99th percentile."""

_SHARED_BYTES, _WORD = 4096, struct.Struct("<q")
_SPIN, _LONGEST, _ROUNDS = 0, 8, 16
_WARM_SECONDS = 0.01
_LAST_LOOK_SECONDS = 0.005
_REST_SECONDS = 0.06
"""The kernel takes the processor from real-time threads for 50 ms of each second: they run for less than that."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program with a number of functions that change, and the hotpatch for it."""

    path: Path
    hotpatch: Hotpatch
    functions: int


def program_make(folder: Path, functions: int) -> Program:
    """Compile it; every run has a build-id of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"changed{n}" for n in range(functions)]
    bodies = "\n".join(f"int {name}(void) {{ return 1; }}" for name in names)
    table = ", ".join(names)
    (folder / "functions.h").write_text(
        f"#define FUNCTIONS {functions}\n{bodies}\nstatic int (*const functions[])(void) = {{ {table} }};\n"
    )
    # Aligned: a pointer to the function right behind a changed one would count as its last return address.
    flags = ("-falign-functions=16", f"-I{folder}", f"-Wl,--build-id=0x{secrets.token_hex(20)}")
    path = compile_target(SOURCE, folder / f"target{functions}", *flags)
    return Program(path, make_hotpatch(path, dict.fromkeys(names, 2)), functions)


class Watched:
    """A running target whose first thread measures how long it did not run."""

    def __init__(self, program: Path, threads: int, mode: str, file: Path, prefix: Sequence[str] = ()) -> None:
        file.write_bytes(bytes(_SHARED_BYTES))
        self._descriptor = os.open(file, os.O_RDWR)
        self._shared = mmap.mmap(self._descriptor, _SHARED_BYTES)
        command = [*prefix, str(program), str(threads), mode, str(file)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        assert self.process.stdout is not None
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{program} did not start")

    def _word(self, offset: int) -> int:
        return int(_WORD.unpack_from(self._shared, offset)[0])

    def forget(self) -> None:
        """Begin anew with the longest time."""
        _WORD.pack_into(self._shared, _LONGEST, 0)

    def longest_seen_ms(self) -> float:
        """Return the longest time between two looks of the first thread at the clock, in milliseconds."""
        return self._word(_LONGEST) / 1e6

    def longest_ms(self, action: Callable[[], object]) -> float:
        """Return the longest time for which the spinning thread did not run while `action` ran, in milliseconds."""
        _WORD.pack_into(self._shared, _SPIN, 1)
        before = self._word(_ROUNDS)
        while self._word(_ROUNDS) == before:
            time.sleep(0.001)
        time.sleep(_WARM_SECONDS)
        self.forget()
        try:
            action()
            time.sleep(_LAST_LOOK_SECONDS)  # a gap is known once the thread looks again
            return self.longest_seen_ms()
        finally:
            _WORD.pack_into(self._shared, _SPIN, 0)
            time.sleep(_REST_SECONDS)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._shared.close()
        os.close(self._descriptor)


@dataclass(slots=True)
class Pauses:
    """What was seen, in milliseconds: one number for each change, the longest of its stops."""

    seen: list[float] = field(default_factory=list)
    reported: list[float] = field(default_factory=list)
    refused: int = 0


def pauses_of(program: Program, watched: Watched, cycles: int, options: Options) -> Pauses:
    """Apply and revert `cycles` times."""
    pauses = Pauses()
    pids = [watched.pid]

    def change(deed: Callable[[], list[ProcessResult]]) -> None:
        results: list[ProcessResult] = []
        seen = watched.longest_ms(lambda: results.extend(deed()))
        if results[0].state not in ("applied", "reverted"):
            pauses.refused += 1
            return
        pauses.seen.append(seen)
        pauses.reported.append(results[0].pause_us / 1000)

    for _ in range(cycles):
        change(lambda: apply([program.hotpatch], pids, options))
        change(lambda: revert(None, pids, options))
    return pauses


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * int(share * 1000) // 1000) - 1))]


def window_measure(folder: Path, cycles: int) -> Iterator[Figure]:
    """Yield the same pauses with the stop window in C and in Python, in one run."""
    program = program_make(folder, FUNCTIONS[0])
    library = folder / "libwindow.so"
    subprocess.run(window.compile_command("gcc", library), check=True)
    try:
        for threads in THREADS:
            medians = []
            for name, path in (("Python", None), ("C", library)):
                window.use(path)
                watched = Watched(program.path, threads, "idle", folder / "shared")
                try:
                    pauses = pauses_of(program, watched, cycles, Options(max_pause_us=20_000))
                finally:
                    watched.close()
                medians.append(statistics.median(pauses.seen))
                section, note = "Stop window, the target's view, median", f"{len(pauses.seen)} changes; load {_load()}"
                beside = medians[0] if path else None
                yield Figure(section, f"{threads} threads, {name}", medians[-1], "ms", beside, "Python", note)
    finally:
        window.use(window.LIBRARY)


def budget_measure(folder: Path, cycles: int, threads: Sequence[int]) -> Iterator[Figure]:
    """Yield how often `--max-pause` is kept where it is what half of the changes would go over without it."""
    program = program_make(folder, FUNCTIONS[0])
    for number in threads:
        watched = Watched(program.path, number, "idle", folder / "shared")
        try:
            free = pauses_of(program, watched, cycles, Options(deadline_seconds=5.0, max_pause_us=20_000)).reported
            budget = statistics.median(free)
            kept = pauses_of(program, watched, cycles, Options(deadline_seconds=5.0, max_pause_us=int(budget * 1000)))
        finally:
            watched.close()
        section = f"--max-pause {budget:.3f} ms, {number} threads: longest stop of a change"
        for name, values, refused in (("budget of 20 ms", free, 0), ("that budget", kept.reported, kept.refused)):
            over, far = (sum(value > budget * share for value in values) for share in (1.0, 1.1))
            note = f"{over} of {len(values)} over it, {far} by more than a tenth; {refused} refused; load {_load()}"
            yield Figure(section, f"{name}: median", statistics.median(values), "ms", budget, "budget", note)
            yield Figure(section, f"{name}: longest", max(values), "ms", budget, "budget")


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def stops_measure(
    folder: Path, cycles: int, threads: Sequence[int], functions: Sequence[int], modes: Sequence[str]
) -> Iterator[Figure]:
    """Yield median, 99th percentile and longest, as the target saw them and as they were reported."""
    for count in functions:
        program = program_make(folder / str(count), count)
        for number in threads:
            for mode in modes:
                yield from _figures(folder, program, number, mode, cycles)


def _figures(folder: Path, program: Program, threads: int, mode: str, cycles: int) -> Iterator[Figure]:
    progress(f"{cycles} cycles on {threads} threads, {mode}, {program.functions} functions")
    watched = Watched(program.path, threads, mode, folder / "shared")
    try:
        quiet = watched.longest_ms(lambda: time.sleep(0.2))
        pauses = pauses_of(program, watched, cycles, Options(deadline_seconds=3.0, max_pause_us=20_000))
    finally:
        watched.close()
    section = f"Pause, {threads} threads, {mode}, {program.functions} functions"
    if not pauses.seen:
        yield Figure(section, "not measured", None, "ms", note=f"{pauses.refused} changes refused")
        return
    median_goal, late_goal = GOALS_MS.get(threads, (None, None))
    form = "Python" if window.load() is None else "C"
    note = f"{len(pauses.seen)} changes, {pauses.refused} refused; nothing done {quiet:.3f} ms; load {_load()}; {form}"
    for name, values in (("the target's view", pauses.seen), ("as reported", pauses.reported)):
        median = statistics.median(values)
        yield Figure(section, f"{name}: median", median, "ms", median_goal, "goal" if median_goal else "", note)
        late = percentile(values, 0.99)
        yield Figure(section, f"{name}: 99th percentile", late, "ms", late_goal, "goal" if late_goal else "")
        yield Figure(section, f"{name}: longest", max(values), "ms")
