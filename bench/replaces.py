"""One hotpatch, another over it, back and back again, on a target that checks itself: does anything grow?"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.cycles import Size, size_of
from bench.report import Figure
from faults.target import Health, health_of, program_make, target_start
from hotmend.live.driver import Options, apply, revert
from hotmend.live.gate import hotpatch_id
from tests.live.conftest import Target

WARM_CYCLES = 5
_THREADS = 8
_HEALTH_EVERY = 50


@dataclass(slots=True)
class Outcome:
    """What the cycles showed.

    Attributes:
        cycles: that were made; in each the earlier update is applied, the later one takes over, gives way, takes over
            again, and both are taken back.
        refused: changes that found no safe moment.
        half, wrong: looks at the target that found a mixture; answers that no build gives.
        target, patcher: sizes of the target and of this process, first and last.
        pauses_ms: longest stop of each change.
        seconds: for all cycles.
    """

    cycles: int
    refused: int
    half: int
    wrong: int
    target: tuple[Size, Size]
    patcher: tuple[Size, Size]
    pauses_ms: list[float]
    seconds: float


def replaces_run(folder: Path, cycles: int) -> Outcome:
    """Make the cycles."""
    program = program_make(folder)
    options = Options(deadline_seconds=20.0)
    target, refused, pauses = target_start(program, _THREADS), 0, []
    later = [hotpatch_id(hotpatch) for hotpatch in program.later]
    looks: list[tuple[str, Health]] = []

    def cycle() -> None:
        nonlocal refused
        pids = [target.pid]
        for results in (
            apply(program.hotpatches, pids, options),
            apply(program.later, pids, options),
            revert(later, pids, options),
            apply(program.later, pids, options),
            revert(later, pids, Options(deadline_seconds=20.0, baseline=True)),
        ):
            refused += results[0].state == "refused"
            pauses.append(results[0].pause_us / 1000)

    def look() -> None:
        """Ask the target, with nothing applied and with the later one alone."""
        looks.append(("old", health_of(target)))
        apply(program.later, [target.pid], options)
        looks.append(("later", health_of(target)))
        revert(None, [target.pid], options)

    try:
        look()
        for _ in range(WARM_CYCLES):
            cycle()
        before, began = (_size(target), size_of(os.getpid())), time.monotonic()
        for number in range(cycles):
            cycle()
            if number % _HEALTH_EVERY == 0:
                look()
        look()
        after, seconds = (_size(target), size_of(os.getpid())), time.monotonic() - began
    finally:
        target.close()
    return Outcome(
        cycles=cycles,
        refused=refused,
        half=sum(health.code != wanted for wanted, health in looks),
        wrong=sum(health.wrong for _, health in looks),
        target=(before[0], after[0]),
        patcher=(before[1], after[1]),
        pauses_ms=pauses,
        seconds=seconds,
    )


def _size(target: Target) -> Size:
    return size_of(target.pid)


def replaces_measure(folder: Path, cycles: int) -> Iterator[Figure]:
    """Yield what the cycles showed."""
    outcome = replaces_run(folder, cycles)
    section = "Replacing and giving way"
    note = f"5 changes each; {outcome.seconds:.0f} s; load {os.getloadavg()[0]:.1f}"
    yield Figure(section, "cycles", outcome.cycles, "", note=note)
    yield Figure(section, "refused changes", outcome.refused, "")
    yield Figure(section, "mixtures seen", outcome.half, "")
    yield Figure(section, "wrong answers", outcome.wrong, "")
    for who, (before, after) in (("the target", outcome.target), ("the patcher", outcome.patcher)):
        for what in ("maps", "descriptors", "private_kib"):
            first, last = getattr(before, what), getattr(after, what)
            beside = f"after {WARM_CYCLES} cycles"
            yield Figure(section, f"{what} of {who}", last, "", first, beside, f"{last - first:+}")
    ordered = sorted(outcome.pauses_ms)
    yield Figure(section, "pause: median", ordered[len(ordered) // 2], "ms", note=f"{len(ordered)} changes")
    yield Figure(section, "pause: 99th percentile", ordered[len(ordered) * 99 // 100], "ms")
