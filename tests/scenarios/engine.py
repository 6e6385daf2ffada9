"""The engine as the scenarios use it: build, apply, revert, status. Only this file knows hotmend's API."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import Reason, Severity, Verdict

COMMAND_SECONDS_MAX = 300
_PAUSE_US = 50_000
"""The scenarios are about what is changed: threads that have to wait for a processor have the time to stop."""


@dataclass(frozen=True, slots=True)
class Built:
    """What the build said; `patches` is empty unless it is a hotpatch."""

    verdict: Verdict
    reasons: tuple[Reason, ...]
    patches: tuple[Hotpatch, ...] = ()


class Engine(Protocol):
    """What a scenario asks of an engine. An empty tuple of reasons means it was done."""

    def build(self, pairs: Sequence[tuple[Path, Path]], *, partial: bool = False) -> Built:
        """Compare (old, new) images of one update."""

    def apply(self, built: Built, pid: int, deadline_seconds: float) -> tuple[Reason, ...]:
        """Change the process to the new code."""

    def revert(self, built: Built, pid: int, deadline_seconds: float) -> tuple[Reason, ...]:
        """Change it back."""


def refusals(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """Those that stop the work."""
    return tuple(reason for reason in reasons if reason.severity is Severity.REFUSAL)


class HotmendEngine:
    """hotmend itself, in this process: several hundred cases would spend their time starting interpreters."""

    def build(self, pairs: Sequence[tuple[Path, Path]], *, partial: bool = False) -> Built:
        """Compare each pair; the first that is not a hotpatch decides."""
        from hotmend.diff.options import Options
        from hotmend.diff.pipeline import compare
        from hotmend.image.elf import read_image
        from hotmend.publisher.debug import BuildFile, DebugSources

        patches: list[Hotpatch] = []
        reasons: list[Reason] = []
        verdict = Verdict.NO_CHANGE
        for old, new in pairs:
            images = read_image(old), read_image(new)
            with DebugSources() as sources:  # the variant that keeps its debug information has types
                types = sources.load(BuildFile(images[0], old), BuildFile(images[1], new)).types
            outcome = compare(*images, options=Options(partial=partial, types=types))
            reasons += outcome.reasons
            if outcome.verdict is Verdict.BASELINE_REQUIRED:
                return Built(outcome.verdict, tuple(reasons))
            if outcome.hotpatch is not None:
                patches.append(through_file(outcome.hotpatch))
                verdict = outcome.verdict
        return Built(verdict, tuple(reasons), tuple(patches))

    def apply(self, built: Built, pid: int, deadline_seconds: float) -> tuple[Reason, ...]:
        """Apply all images in one switch."""
        from hotmend.live import driver

        options = driver.Options(deadline_seconds=deadline_seconds, max_pause_us=_PAUSE_US)
        (result,) = driver.apply(built.patches, [pid], options)
        return finished(result.state, "applied", result.reasons)

    def revert(self, built: Built, pid: int, deadline_seconds: float) -> tuple[Reason, ...]:
        """Revert all images in one switch."""
        from hotmend.live import driver
        from hotmend.live.gate import hotpatch_id

        ids = [hotpatch_id(patch) for patch in built.patches]
        options = driver.Options(deadline_seconds=deadline_seconds, max_pause_us=_PAUSE_US)
        (result,) = driver.revert(ids, [pid], options)
        return finished(result.state, "reverted", result.reasons)


def finished(state: str, wanted: str, reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """Nothing where the work was done, else why not; a result that is neither is wrong."""
    stopping = refusals(reasons)
    assert bool(stopping) != (state == wanted), f"{state!r} with {reasons}"
    return stopping


def through_file(hotpatch: Hotpatch) -> Hotpatch:
    """What comes back from the hotpatch's file: what is applied in life went through one."""
    from hotmend.package.decode import decode
    from hotmend.package.encode import encode

    return decode(encode(hotpatch))


@dataclass(frozen=True, slots=True)
class Said:
    """What the command left: its exit code and the objects it printed."""

    code: int
    objects: tuple[dict[str, object], ...]
    log: str


def run_hotmend(*arguments: str) -> Said:
    """Run `hotmend ARGUMENTS --json` as an operator would."""
    command = [sys.executable, "-m", "hotmend", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False)
    objects = tuple(json.loads(line) for line in done.stdout.splitlines() if line.strip())
    return Said(done.returncode, objects, done.stderr)
