"""`python -m faults.unseen`: what a target sees of thousands of stops and changes of its code. Needs root."""

from __future__ import annotations

import argparse
import os
import random
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hotmend.linux import procfs, remote
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.stacks import find_restorers
from hotmend.linux.stop import Stopper
from hotmend.live.driver import Options, apply, revert
from hotmend.model.hotpatch import Hotpatch
from tests.live.conftest import Target
from tests.live.handmade import compile_target, make_hotpatch

SOURCE = Path(__file__).with_name("unseen.c")
_END = "."
_GETPID = remote.Call(39, ())
_CALLS = (1, 2, remote.CALLS_MAX)
"""How many calls a thread makes on one way."""
_STOP_SECONDS = 20.0
"""On a busy machine a thread waits for its turn before it can stop."""

_LATE_SECONDS = 0.01
_CHANGING_SHARE = 20
_OPTIONS = Options(deadline_seconds=120.0, max_pause_us=5_000_000)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one thread of the target, or the target as a whole, says of itself.

    Attributes:
        name: how the thread waits, or what was counted.
        rounds: how often it did.
        interrupted: calls that returned -EINTR.
        early: calls that came back before their time, without what they waited for, or with the wrong thing.
        changed: times that its alternate stack, mask, rseq area or floating-point registers were not as before; signals
            and sequences that should not be, or are missing.
    """

    name: str
    rounds: int
    interrupted: int
    early: int
    changed: int

    @property
    def unseen(self) -> bool:
        """Whether nothing was seen, by a thread that looked."""
        return self.rounds > 0 and not (self.interrupted or self.early or self.changed)


def unseen_make(folder: Path) -> tuple[Path, Hotpatch]:
    """Compile the target; return it and the hotpatch that changes two of its functions."""
    path = compile_target(SOURCE, folder / "unseen", f"-Wl,--build-id=0x{secrets.token_hex(20)}")
    return path, make_hotpatch(path, {"first": 2, "second": 2})


def seen_by(target: Target) -> list[Seen]:
    """Ask the target."""
    target.send("c")
    lines = []
    while (line := target.read()) != _END:
        name, *words = line.split()
        lines.append(Seen(name, *map(int, words)))
    return lines


def begun(target: Target) -> Target:
    """Return the target when each of its threads has waited at least once: on a busy machine that takes a while."""
    while not all(one.rounds for one in seen_by(target)):
        time.sleep(_LATE_SECONDS)
    return target


def plain_stops(pid: int, count: int) -> None:
    """Stop and let go, nothing else."""
    stopper = Stopper(pid)
    stopper.look_around()
    try:
        for _ in range(count):
            stopper.release(stopper.stop(_STOP_SECONDS))
            stopper.rest()
    finally:
        _let_go(stopper)


def _let_go(stopper: Stopper) -> None:
    """Let the threads go that did not stop in time: who is traced cannot end."""
    while not stopper.release_late():
        time.sleep(_LATE_SECONDS)


def remote_calls(pid: int, count: int, name: str = "") -> None:
    """Have threads chosen at random make system calls for us, wherever they are: one or several, each time in a stop.

    Args:
        pid: of the target.
        count: how many times.
        name: only by threads of this name.
    """
    chance = random.SystemRandom()
    with ProcessMemory(pid, writable=True) as memory:
        maps = procfs.read_maps(pid)
        gadgets = remote.find_gadgets(memory, maps)
        if gadgets is None:
            raise RuntimeError("no code to make system calls with")
        stopper = Stopper(pid)
        caller = remote.RemoteCaller(stopper, memory, gadgets, find_restorers(memory, maps))
        made, limit = 0, time.monotonic() + 60 + count
        try:
            while made < count:
                threads = sorted(procfs.list_threads(pid))
                tid = chance.choice([t for t in threads if not name or procfs.read_thread_stat(pid, t).comm == name])
                made += caller._try_thread(tid, [_GETPID] * chance.choice(_CALLS), reluctant=True) is None
                if time.monotonic() > limit:
                    raise RuntimeError(f"{made} of {count} calls were made")
        finally:
            _let_go(stopper)


def changes(pid: int, hotpatch: Hotpatch, stops: int) -> int:
    """Apply and revert until so many stops were made; return how many."""
    made = 0
    while made < stops:
        for result in (*apply([hotpatch], [pid], _OPTIONS), *revert(None, [pid], _OPTIONS)):
            if result.state not in ("applied", "reverted"):
                raise RuntimeError(str(result))
            made += result.attempts
    return made


def main(arguments: list[str] | None = None) -> int:
    """Make the stops and print what was seen; 1 where anything was.

    Most are plain stops and stops with a system call, as many of each. Changes of code take the time of all the rest of
    an apply, for few stops each.
    """
    parser = argparse.ArgumentParser(prog="python -m faults.unseen", description=__doc__)
    parser.add_argument("--stops", type=int, default=10_000, metavar="N", help="in all (10000)")
    stops = parser.parse_args(arguments).stops
    changing = stops // _CHANGING_SHARE + 1
    rest = (stops - changing) // 2 + 1
    with tempfile.TemporaryDirectory(prefix="hotmend-unseen-") as folder:
        path, hotpatch = unseen_make(Path(folder))
        target, began = begun(Target(path)), time.monotonic()
        try:
            plain_stops(target.pid, rest)
            remote_calls(target.pid, rest)
            made = 2 * rest + changes(target.pid, hotpatch, changing)
            seen = seen_by(target)
        finally:
            target.close()
    for one in seen:
        print(
            f"{one.name:16} {one.rounds:>10,} {one.interrupted} interrupted, {one.early} early, {one.changed} changed"
        )
    seconds, load = time.monotonic() - began, os.getloadavg()[0]
    which = f"{rest} of them with a system call made, {changing} in changes of code"
    print(f"{made} stops in {seconds:.0f} s, {which}; load average {load:.1f}")
    return 0 if seen and all(one.unseen for one in seen) else 1


if __name__ == "__main__":
    sys.exit(main())
