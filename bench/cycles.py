"""Apply and revert, again and again, on a stock server under load: does anything fail, and does anything grow?"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.kept import Kept, Stretch
from bench.report import Figure, progress
from hotmend.live.driver import Options, ProcessResult, apply, revert
from hotmend.model.hotpatch import Hotpatch
from hotmend.package.bundle import load
from tests.servers import nginx, postgres, redis
from tests.servers.command import hotmend_run
from tests.servers.load import Load, redis_load_start, wrk_start
from tests.servers.packages import Pair, deb_unpack, pair_find
from tests.servers.process import Identity, Server, identity_read

_WARM_CYCLES = 5
WHAT = ("maps", "descriptors", "private_kib")
"""What of a process must not grow."""
_SAID_MAX = 300
STRETCH_SECONDS = 600.0
"""Servers of the tests end by themselves after 900 s: longer runs start them again."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A server and the update of its program.

    Attributes:
        package: binary package.
        image: its program in the package.
        words: further words of `hotmend build`.
        start: starts it from an unpacked tree, in a folder.
        load: starts the load.
        forks: its processes come and go while it serves.
    """

    package: str
    image: str
    words: tuple[str, ...]
    start: Callable[[Path, Path], Server]
    load: Callable[[Server], Load]
    forks: bool = False


SUBJECTS = {
    "nginx": Subject("nginx", "usr/sbin/nginx", ("--accept", nginx.ACCEPT[0]), nginx.nginx_start, wrk_start),
    "redis": Subject(redis.PACKAGE, "usr/bin/redis-check-rdb", (), redis.redis_start, redis_load_start),
    "postgres": Subject(
        postgres.PACKAGE, postgres.PROGRAM, ("--partial",), postgres.postgres_start, postgres.postgres_load_start, True
    ),
}


@dataclass(frozen=True, slots=True)
class Size:
    """What a process holds: lines of its maps but those of its own heap, open descriptors, KiB of private memory."""

    maps: int
    descriptors: int
    private_kib: int


def size_of(pid: int) -> Size:
    """Return what a process holds."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    maps = sum(not line.endswith("[heap]") for line in lines)  # a heap that grows after a fork is in two pieces
    return Size(maps, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()), private)


@dataclass(slots=True)
class Outcome:
    """What the cycles showed.

    Attributes:
        cycles: that were made.
        states: state of a process after a change -> how often.
        refusals: reason of a refusal -> how often.
        pauses: longest stop of each change of a process, in units of 10 microseconds -> how often.
        requests, failures: of the load, as far as it has ended.
        said: what the load printed where it saw failures, the ends of it.
        restarted: processes that were there at first and are not there any more, or whose successors have their pid.
        before, after: the sizes of the processes that are there from first to last.
        seconds: for all cycles.
    """

    cycles: int = 0
    states: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    pauses: Counter[int] = field(default_factory=Counter)
    requests: int = 0
    failures: int = 0
    said: list[str] = field(default_factory=list)
    restarted: list[Identity] = field(default_factory=list)
    before: dict[int, Size] = field(default_factory=dict)
    after: dict[int, Size] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, results: list[ProcessResult]) -> None:
        """Count what became of the processes."""
        for result in results:
            self.states[result.state] += 1
            self.refusals.update(reason.code for reason in result.reasons if result.state == "refused")
            if result.state in ("applied", "reverted"):
                self.pauses[round(result.pause_us / 10)] += 1

    def look(self, born: Mapping[int, Identity]) -> None:
        """See which of the processes that were there at first are still there, and what they hold."""
        self.after = {}
        for pid, identity in born.items():
            with contextlib.suppress(OSError):
                if identity_read(pid) == identity:
                    self.after[pid] = size_of(pid)
        self.restarted = [identity for pid, identity in born.items() if pid not in self.after]

    def stretch(self, server: str, began: str, error: str = "") -> Stretch:
        """Return it as what is kept."""
        grown = {
            what: (
                sum(getattr(self.before[pid], what) for pid in self.after),
                sum(getattr(size, what) for size in self.after.values()),
            )
            for what in WHAT
        }
        return Stretch(
            server,
            began,
            self.cycles,
            dict(self.states),
            dict(self.refusals),
            dict(self.pauses),
            self.requests,
            self.failures,
            len(self.restarted),
            grown,
            self.seconds,
            os.getloadavg()[0],
            error,
            tuple(self.said),
        )


def hotpatch_make(subject: Subject, pair: Pair, folder: Path) -> Path:
    """Unpack both builds and make the hotpatch of the program alone."""
    old, new = deb_unpack(pair.old, folder / "old"), deb_unpack(pair.new, folder / "new")
    target = folder / f"{subject.package}.hotmend"
    ran = hotmend_run("build", str(old / subject.image), str(new / subject.image), "-o", str(target), *subject.words)
    if not target.exists():
        raise RuntimeError(ran.told())
    return target


def cycles_run(
    subject: Subject,
    server: Server,
    file: Path,
    cycles: int,
    seconds: float,
    keep: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Make cycles under load until so many are made or the time is up; `keep` gets the outcome now and then."""
    hotpatches, options, outcome = load(file), Options(deadline_seconds=20.0), Outcome()
    born = {identity.pid: identity for identity in server.identities()}
    began = time.monotonic()

    def look() -> None:
        outcome.seconds = time.monotonic() - began
        outcome.look(born)
        keep(outcome)

    _under_load(subject, server, outcome, lambda: outcome.cycles < _WARM_CYCLES, hotpatches, options)
    if subject.forks:  # a server that forks has children that end by themselves, such as those that start it up
        born = {pid: identity for pid, identity in born.items() if identity in server.identities()}
    outcome.before = {pid: size_of(pid) for pid in born}
    began = time.monotonic()

    def going() -> bool:
        return outcome.cycles < cycles and time.monotonic() - began < seconds

    try:
        _under_load(subject, server, outcome, going, hotpatches, options, look)
    finally:
        look()
    return outcome


def _under_load(
    subject: Subject,
    server: Server,
    outcome: Outcome,
    going: Callable[[], bool],
    hotpatches: Sequence[Hotpatch],
    options: Options,
    look: Callable[[], None] = lambda: None,
) -> None:
    """Make cycles beside the load while `going()`; `look` is called whenever one load has ended."""
    traffic = subject.load(server)
    try:
        while going():
            if not traffic.running():
                _count(traffic, outcome)
                look()
                traffic = subject.load(server)
            pids = server.pids()
            outcome.add(apply(hotpatches, pids, options))
            outcome.add(revert(None, pids, options))
            outcome.cycles += 1
    finally:
        _count(traffic, outcome)


def _count(ended: Load, outcome: Outcome) -> None:
    result = ended.stop()
    outcome.requests, outcome.failures = outcome.requests + result.requests, outcome.failures + result.failures
    if result.failures:
        outcome.said.append(result.printed[-_SAID_MAX:])


def cycles_measure(
    folder: Path, names: Sequence[str], cycles: int, seconds: float, kept: Path | None = None
) -> Iterator[Figure]:
    """Yield what the cycles of each server showed, those of earlier runs that are in the file `kept` included."""
    stretches = Kept(kept)
    for name in names:
        subject, deadline = SUBJECTS[name], time.monotonic() + seconds
        file = None
        while (left := cycles - sum(s.cycles for s in stretches.of(name))) > 0 and time.monotonic() < deadline:
            if file is None:
                progress(f"building the update of {name}")
                file = hotpatch_make(subject, pair_find(subject.package), folder / name)
            progress(f"{left} cycles on {name}")
            until = min(STRETCH_SECONDS, deadline - time.monotonic())
            _stretch_run(subject, name, file, left, until, stretches)
        yield from _figures(name, cycles, stretches.of(name))


def _stretch_run(subject: Subject, name: str, file: Path, cycles: int, seconds: float, stretches: Kept) -> None:
    """Start the server, make cycles, end it."""
    began = datetime.now(UTC).isoformat(timespec="milliseconds")
    last = Outcome()

    def keep(outcome: Outcome) -> None:
        nonlocal last
        last = outcome
        stretches.add(outcome.stretch(name, began))

    run = Path(tempfile.mkdtemp(prefix="run-", dir=file.parent))
    run.chmod(0o755)
    try:
        with subject.start(file.parent / "old", run) as server:
            cycles_run(subject, server, file, cycles, seconds, keep)
    except Exception as error:
        stretches.add(last.stretch(name, began, f"{type(error).__name__}: {error}"[:500]))
        raise


def _figures(name: str, cycles: int, stretches: Sequence[Stretch]) -> Iterator[Figure]:
    section = f"Cycles of {name} under load"
    states, refusals, pauses = _added(stretches, "states"), _added(stretches, "refusals"), _added(stretches, "pauses")
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    refused = ", ".join(f"{count} {code}" for code, count in refusals.most_common()) or "nothing refused"
    took, loads = sum(s.seconds for s in stretches), [s.load for s in stretches]
    note = f"{told}; {refused}; {len(stretches)} starts of the server; {took:.0f} s"
    yield Figure(section, "cycles", sum(s.cycles for s in stretches), "", cycles, "asked for", note)
    if not stretches:
        return
    note = f"of {sum(s.requests for s in stretches):,}; load {min(loads):.1f} to {max(loads):.1f}"
    note += "".join(f"; {text}" for s in stretches for text in s.said)
    yield Figure(section, "failed requests", sum(s.failures for s in stretches), "", note=note)
    errors = "; ".join(s.error for s in stretches if s.error)
    yield Figure(section, "processes that ended", sum(s.ended for s in stretches), "", note=errors)
    for what in WHAT:
        before, after = (sum(s.grown[what][side] for s in stretches) for side in (0, 1))
        most = max(s.grown[what][1] - s.grown[what][0] for s in stretches)
        note = f"{after - before:+} in all, at most {most:+} in one start of the server"
        yield Figure(section, f"{what} of all processes", after, "", before, f"after {_WARM_CYCLES} cycles", note)
    ordered = sorted(pauses.elements())
    if ordered:
        yield Figure(section, "pause: median", ordered[len(ordered) // 2] / 100, "ms", note=f"{len(ordered)} changes")
        yield Figure(section, "pause: 99th percentile", ordered[len(ordered) * 99 // 100] / 100, "ms")
        yield Figure(section, "pause: longest", ordered[-1] / 100, "ms")


def _added(stretches: Sequence[Stretch], what: str) -> Counter[Any]:
    total: Counter[Any] = Counter()
    for stretch in stretches:
        total.update(getattr(stretch, what))
    return total
