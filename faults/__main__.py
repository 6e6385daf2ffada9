"""`python -m faults`: a patcher killed, or held, before each of its system calls; how is its target? Needs root."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from faults.crowd import CROWD_DEEDS, PROCESSES_MIN, VICTIMS, CrowdSweep
from faults.sweep import DEEDS, Sweep, Tally, every
from faults.target import lazy_make, program_make, throwing_make
from hotmend.live import transaction

_PROGRESS_EVERY = 50


def main(arguments: list[str] | None = None) -> int:
    """Sweep what was asked for and print what was found; 1 when a target did not survive or was not repaired."""
    options = _parser().parse_args(arguments)
    tallies = []
    if options.together:
        transaction.TOGETHER_MAX = transaction.BATCH_MAX
    with tempfile.TemporaryDirectory(prefix="hotmend-faults-") as folder:
        for tally in _crowd(Path(folder), options) if options.crowd else _alone(Path(folder), options):
            tallies.append(tally)
    clean = all(tally.clean for tally in tallies)
    points, survivals = sum(t.kills for t in tallies), sum(t.survivals for t in tallies)
    word = "held" if options.delay else "killed"
    print(f"{word} at {points} points, {survivals} survivals; load average {os.getloadavg()[0]:.1f}")
    return 0 if clean and points else 1


def _alone(folder: Path, options: argparse.Namespace) -> Iterator[Tally]:
    """Sweep one process at a time."""
    make = throwing_make if options.exceptions else lazy_make if options.lazy else program_make
    deeds = DEEDS if make is program_make else DEEDS[:3]
    sweep = Sweep(make(folder), options.threads, options.delay, folder / "audit.jsonl")
    for deed in options.only or deeds:
        began = time.monotonic()
        step = options.every or max(1, sweep.calls(deed) // options.samples if options.samples else 1)
        tally = sweep.run(deed, every(step), _progress)
        _print(tally, time.monotonic() - began, step)
        yield tally


def _crowd(folder: Path, options: argparse.Namespace) -> Iterator[Tally]:
    """Sweep several processes at once."""
    sweep = CrowdSweep(program_make(folder), options.threads, max(options.crowd, PROCESSES_MIN))
    for deed in options.only or CROWD_DEEDS:
        for victim in VICTIMS:
            began = time.monotonic()
            step = options.every or max(1, sweep.calls(deed, victim) // options.samples if options.samples else 1)
            tally = sweep.run(deed, victim, every(step), _progress)
            _print(tally, time.monotonic() - began, step)
            yield tally


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--threads", type=int, default=16, metavar="N", help="threads of the target (16)")
    parser.add_argument("--only", choices=DEEDS, action="append", help="sweep only this; may be repeated")
    parser.add_argument("--exceptions", action="store_true", help="a target in C++ that throws through what changes")
    parser.add_argument("--lazy", action="store_true", help="threads stay in old code: --consistency lazy")
    parser.add_argument(
        "--crowd",
        type=int,
        default=0,
        metavar="N",
        help="N processes at once: the command is killed, or a worker of it",
    )
    parser.add_argument("--together", action="store_true", help="all entries in one stop, as those of a small update")
    parser.add_argument("--every", type=int, default=0, metavar="N", help="only every Nth system call (every one)")
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="about so many calls, evenly spread")
    parser.add_argument(
        "--delay", type=float, default=0.0, metavar="SECONDS", help="do not kill: hold the patcher for so long"
    )
    return parser


def _print(tally: Tally, seconds: float, step: int) -> None:
    found = ", ".join(f"{tally.found[code]} {code}" for code in ("old", "new", "later", "half", "dead"))
    which = "each system call" if step == 1 else f"every {step}th system call"
    print(
        f"{tally.deed}: {tally.kills} points ({which}), {tally.survivals} survivals; found {found}; "
        f"{tally.left} to repair, {tally.repaired} repaired; {tally.went_on} changed there and back afterwards; "
        f"{tally.wrong} wrong answers, {tally.interrupted} calls interrupted"
        f"{f', {tally.frozen} times it stood still meanwhile' if tally.frozen else ''}; {seconds:.0f} s",
        flush=True,
    )
    for failure in tally.failures:
        print(f"  FAILED {failure}", flush=True)


def _progress(tally: Tally) -> None:
    if tally.kills % _PROGRESS_EVERY == 0:
        print(f"faults: {tally.deed}: {tally.kills} points", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
