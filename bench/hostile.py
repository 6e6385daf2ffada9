"""Ten tries each on targets that make it hard, and how long their other threads stood still meanwhile."""

from __future__ import annotations

import os
import secrets
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.report import Figure, progress
from hotmend.live.driver import Options, apply, revert
from hotmend.live.registry import process_status
from tests.live.conftest import Target
from tests.live.handmade import compile_target, make_hotpatch

SOURCE = Path(__file__).parents[1] / "tests" / "live" / "hostile.c"
TRIES = 10
_PATIENT = Options(deadline_seconds=30.0, max_pause_us=20_000)
_QUICK = Options(deadline_seconds=3.0, max_pause_us=20_000)


@dataclass(frozen=True, slots=True)
class Kind:
    """A hostile target.

    Attributes:
        name: for people.
        arguments: of the program.
        functions: that change.
        goal: how many of the tries are to end as `wanted`.
        wanted: state of the process after an apply.
        peers: what others did with the same kind of target; quoted, not measured here.
    """

    name: str
    arguments: tuple[str, ...]
    functions: tuple[str, ...]
    wanted: str
    peers: str


KINDS = (
    Kind("8 threads, malloc/free", ("malloc", "8"), ("first", "second"), "applied", "peers 0 to 10 of 10"),
    Kind("2 threads, create/join", ("churn", "2"), ("first", "second"), "applied", "peers 1 to 4 of 10"),
    Kind("1 thread for ever inside", ("inside", "1"), ("first", "stays"), "refused", "peers freeze the others for 3 s"),
)


def hostile_measure(folder: Path) -> Iterator[Figure]:
    """Yield what came of ten tries on each kind."""
    folder.mkdir(parents=True, exist_ok=True)
    program = compile_target(SOURCE, folder / "hostile", f"-Wl,--build-id=0x{secrets.token_hex(20)}")
    for kind in KINDS:
        progress(kind.name)
        yield from _measure(program, kind)


def _measure(program: Path, kind: Kind) -> Iterator[Figure]:
    hotpatch = make_hotpatch(program, dict.fromkeys(kind.functions, 2))
    right, pauses, attempts, seen = 0, [], [], []
    for _ in range(TRIES):
        target = Target(program, *kind.arguments)
        try:
            target.ask("g")
            (result,) = apply([hotpatch], [target.pid], _PATIENT if kind.wanted == "applied" else _QUICK)
            seen.append(int(target.ask("g")) / 1000)
            if kind.wanted == "applied":
                good = target.ask("a") == "2 2" and revert(None, [target.pid], _PATIENT)[0].state == "reverted"
            else:
                named = {reason.code for reason in result.reasons} == {"function-active"}
                good = named and not process_status(target.pid) and target.ask("a") == "1 1"
            right += good and result.state == kind.wanted
            pauses.append(result.pause_us / 1000)
            attempts.append(result.attempts)
        finally:
            target.close()
    note = f"{kind.peers}; load {os.getloadavg()[0]:.1f}"
    section = f"Hostile: {kind.name}"
    yield Figure(section, f"{kind.wanted}, of {TRIES}", right, "", TRIES, "goal", note)
    note = f"{statistics.median(attempts):.0f} stops in the median"
    yield Figure(section, "longest stop of each try: median", statistics.median(pauses), "ms", note=note)
    yield Figure(section, "longest stop of each try: longest", max(pauses), "ms")
    if any(seen):
        note = "by a spinning thread at ordinary priority, which others delay too"
        yield Figure(section, "longest gap of another thread: median", statistics.median(seen), "ms", note=note)
