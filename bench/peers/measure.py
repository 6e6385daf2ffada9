"""What hotmend and each peer cost the same program, in turn: pause, command, many processes, hostile threads."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.peers.engines import ENGINES, Rig
from bench.peers.sources import NotBuilt
from bench.report import Figure, progress
from bench.stops import Watched

THREADS = (1, 64)
PAUSE_TRIES, START_TRIES = 10, 5
CROWD_TRIES = 3
CROWD_PROCESSES, CROWD_THREADS = 100, 8
HOSTILE_TRIES, HOSTILE_TRIES_MIN = 10, 2
COMMAND_SECONDS_MAX = 60.0
_PATIENCE_SECONDS = 30.0
_OLD, _NEW = 1, 2
_ANSWER = 24
_SEEN_SECONDS, _SEEN_CROWD_SECONDS = 0.2, 2.0
_REAL_TIME = ("chrt", "-f", "20")
"""Peers' commands run at real-time priority: they do not ask for it, and other work would show in their stops.

hotmend runs as it is started. It takes such a priority for the stops alone, and half a second of it would take the
processor from the thread that measures.
"""


@dataclass(frozen=True, slots=True)
class Hostile:
    """A program that makes it hard.

    Attributes:
        name: for people.
        mode: of the program.
        threads: of it, the watching one included.
        wanted: whether the new code is to be there afterwards.
        seconds: that hotmend waits for a safe moment; the peers have their own limits.
    """

    name: str
    mode: str
    threads: int
    wanted: bool
    seconds: float


HOSTILE = (
    Hostile("8 threads, malloc/free", "malloc", 9, wanted=True, seconds=_PATIENCE_SECONDS),
    Hostile("2 threads, create/join", "churn", 3, wanted=True, seconds=_PATIENCE_SECONDS),
    Hostile("1 thread for ever inside", "inside", 2, wanted=False, seconds=3.0),
)


class Asked(Watched):
    """A running target that also tells the last answer it got."""

    def answer(self) -> int:
        """Return the last answer."""
        return self._word(_ANSWER)

    def answers(self, wanted: int, seconds: float) -> bool:
        """Return whether it comes to answer so in time."""
        deadline = time.monotonic() + seconds
        while self.answer() != wanted:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def gap_ms(self, action: Callable[[], object]) -> float:
        """Return the longest time between two looks of the first thread, which sleeps for 1 ms between them."""
        time.sleep(0.02)
        self.forget()
        action()
        time.sleep(0.02)  # a gap is known once the thread looks again
        return self.longest_seen_ms()


@dataclass(slots=True)
class Seen:
    """What tries showed: milliseconds, and how many ended as wanted."""

    gaps: list[float] = field(default_factory=list)
    commands: list[float] = field(default_factory=list)
    right: int = 0
    codes: list[int] = field(default_factory=list)


def peers_measure(folder: Path, prepared: Path | None, seconds: float) -> Iterator[Figure]:
    """Yield every figure of hotmend beside that of each peer that can be built, and why the others cannot.

    Args:
        folder: for what is made.
        prepared: checkouts of the peers, instead of fetching them.
        seconds: after which an engine gets no more tries on a kind of hostile program, once it has had two.
    """
    rigs: list[Rig] = []
    for name, make in ENGINES.items():
        try:
            (folder / name).mkdir(parents=True)
            rigs += make(folder / name, prepared)
        except NotBuilt as error:
            yield Figure("Peers that cannot be built here", name, None, "", note=str(error))
    yield from _starts(rigs)
    yield from _pauses(folder, rigs)
    yield from _crowds(folder, rigs)
    for hostile in HOSTILE:
        yield from _hostile(folder, rigs, hostile, seconds)


def one_run(rig: Rig, target: Asked, seconds: float) -> tuple[float, int]:
    """Change one process; as `command_run`."""
    return command_run([*_priority(rig), *rig.one(target.pid, seconds)])


def _priority(rig: Rig) -> tuple[str, ...]:
    return () if rig.name == "hotmend" else _REAL_TIME


def _starts(rigs: Sequence[Rig]) -> Iterator[Figure]:
    """Yield what of a whole command is its start."""
    for rig in rigs:
        if rig.start is not None:
            took = [command_run([*_priority(rig), *rig.start])[0] for _ in range(START_TRIES)]
            note = f"{min(took):.0f} to {max(took):.0f}, {START_TRIES} tries; load {os.getloadavg()[0]:.1f}"
            yield Figure("Start of the command alone, median", rig.name, statistics.median(took), "ms", note=note)


def command_run(command: Sequence[str]) -> tuple[float, int]:
    """Run a command; return the milliseconds it took and its exit code, 124 when it did not end in time."""
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS_MAX,
        )
        code = done.returncode
    except subprocess.TimeoutExpired:
        code = 124
    return (time.perf_counter() - began) * 1000, code


@contextlib.contextmanager
def _target(folder: Path, rig: Rig, threads: int, mode: str, number: int = 0) -> Iterator[Asked]:
    target = Asked(rig.program, threads, mode, folder / f"shared{number}", rig.prefix)
    try:
        time.sleep(0.1)
        yield target
    finally:
        target.close()


def _pauses(folder: Path, rigs: Sequence[Rig]) -> Iterator[Figure]:
    for threads in THREADS:
        seen = {rig.name: Seen() for rig in rigs}
        for number in range(PAUSE_TRIES):
            progress(f"pause, {threads} threads, try {number + 1} of {PAUSE_TRIES}")
            for rig in rigs:
                with _target(folder, rig, threads, "idle") as target:
                    _pause(rig, target, seen[rig.name])
        yield from _beside(f"Pause, {threads} threads, the target's view, median", "ms", seen, lambda s: s.gaps)
        yield from _beside(f"Whole command, {threads} threads, median", "ms", seen, lambda s: s.commands)


def _pause(rig: Rig, target: Asked, seen: Seen) -> None:
    """Change one target while its first thread spins; only what succeeded is counted."""
    took: list[tuple[float, int]] = []
    gap = target.longest_ms(lambda: took.append(one_run(rig, target, _PATIENCE_SECONDS)))
    (milliseconds, code) = took[0]
    seen.codes.append(code)
    if target.answers(_NEW, _SEEN_SECONDS):
        seen.right += 1
        seen.gaps.append(gap)
        seen.commands.append(milliseconds)


def _crowds(folder: Path, rigs: Sequence[Rig]) -> Iterator[Figure]:
    seen = {rig.name: Seen() for rig in rigs}
    for number in range(CROWD_TRIES):
        progress(f"{CROWD_PROCESSES} processes, try {number + 1} of {CROWD_TRIES}")
        for rig in rigs:
            _crowd(folder, rig, seen[rig.name])
    notes = {
        rig.name: f"{seen[rig.name].right} of {CROWD_TRIES * CROWD_PROCESSES} answer anew"
        + ("" if rig.all else f"; {CROWD_PROCESSES} commands, it has none for all")
        for rig in rigs
    }
    section = f"{CROWD_PROCESSES} processes of {CROWD_THREADS} threads, one command, median"
    yield from _beside(section, "ms", seen, lambda s: s.commands, notes)


def _crowd(folder: Path, rig: Rig, seen: Seen) -> None:
    with contextlib.ExitStack() as stack:
        targets = [
            stack.enter_context(contextlib.closing(Asked(rig.program, CROWD_THREADS, "many", shared, rig.prefix)))
            for shared in (folder / f"shared{n}" for n in range(CROWD_PROCESSES))
        ]
        time.sleep(0.5)
        if rig.all is not None:
            took = [command_run([*_priority(rig), *rig.all])]
        else:
            took = [one_run(rig, target, _PATIENCE_SECONDS) for target in targets]
        seen.commands.append(sum(milliseconds for milliseconds, _ in took))
        seen.codes += [code for _, code in took]
        deadline = time.monotonic() + _SEEN_CROWD_SECONDS
        seen.right += sum(target.answers(_NEW, max(0.0, deadline - time.monotonic())) for target in targets)


def _hostile(folder: Path, rigs: Sequence[Rig], hostile: Hostile, seconds: float) -> Iterator[Figure]:
    seen = {rig.name: Seen() for rig in rigs}
    for rig in rigs:
        progress(f"hostile: {hostile.name}, {rig.name}")
        one, began = seen[rig.name], time.monotonic()
        for number in range(HOSTILE_TRIES):
            if number >= HOSTILE_TRIES_MIN and time.monotonic() - began > seconds:
                break
            with _target(folder, rig, hostile.threads, hostile.mode) as target:
                _try(rig, hostile, target, one)
    wanted = "changed" if hostile.wanted else "refused, old code everywhere"
    section = f"Hostile: {hostile.name}"
    notes = {name: f"{s.right} of {len(s.codes)} tries; exit codes {_codes(s.codes)}" for name, s in seen.items()}
    yield from _beside(f"{section}: {wanted}", "%", seen, lambda s: [100 * s.right / len(s.codes)], notes)
    yield from _beside(f"{section}: longest gap of another thread, median", "ms", seen, lambda s: s.gaps)
    yield from _beside(f"{section}: whole command, median", "ms", seen, lambda s: s.commands)


def _try(rig: Rig, hostile: Hostile, target: Asked, seen: Seen) -> None:
    took: list[tuple[float, int]] = []
    seen.gaps.append(target.gap_ms(lambda: took.append(one_run(rig, target, hostile.seconds))))
    (milliseconds, code) = took[0]
    seen.commands.append(milliseconds)
    seen.codes.append(code)
    alive = target.process.poll() is None
    new = target.answers(_NEW, _SEEN_SECONDS)
    seen.right += alive and (new if hostile.wanted else not new and code != 0)


def _codes(codes: Sequence[int]) -> str:
    return ", ".join(f"{codes.count(code)} x {code}" for code in sorted(set(codes)))


def _beside(
    section: str,
    unit: str,
    seen: dict[str, Seen],
    values: Callable[[Seen], Sequence[float]],
    notes: dict[str, str] | None = None,
) -> Iterator[Figure]:
    """Yield one figure of each engine, with hotmend's beside those of the peers."""
    notes = notes or {}
    ours = values(seen["hotmend"]) if "hotmend" in seen else []
    own = statistics.median(ours) if ours else None
    for name, one in seen.items():
        found = values(one)
        if not found:
            yield Figure(section, name, None, unit, note=f"no try succeeded; exit codes {_codes(one.codes)}")
            continue
        told = notes.get(name, "")
        if len(found) > 1:
            told = f"{min(found):.2f} to {max(found):.2f}, {len(found)} tries; load {os.getloadavg()[0]:.1f}; {told}"
        beside = None if name == "hotmend" else own
        yield Figure(section, name, statistics.median(found), unit, beside, "hotmend" if beside else "", told)
