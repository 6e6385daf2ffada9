"""Apply and revert, again and again, on a stock server under load: does anything fail, and does anything grow?"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
_PAGE_KIB = 4


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
    """What a process holds: lines of its maps, open descriptors, KiB of private memory."""

    maps: int
    descriptors: int
    private_kib: int


def size_of(pid: int) -> Size:
    """Return what a process holds."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
    maps = Path(f"/proc/{pid}/maps").read_text().count("\n")
    return Size(maps, sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()), private)


@dataclass(slots=True)
class Outcome:
    """What the cycles showed.

    Attributes:
        cycles: that were made.
        states: state of a process after a change -> how often.
        refusals: reason of a refusal -> how often.
        pauses_ms: longest stop of each change of a process.
        requests, failures: of the load.
        restarted: processes that were there at first and are not there any more, or whose successors have their pid.
        before, after: the sizes of the processes that are there from first to last.
        seconds: for all cycles.
    """

    cycles: int = 0
    states: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    pauses_ms: list[float] = field(default_factory=list)
    requests: int = 0
    failures: int = 0
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
                self.pauses_ms.append(result.pause_us / 1000)


def hotpatch_make(subject: Subject, pair: Pair, folder: Path) -> Path:
    """Unpack both builds and make the hotpatch of the program alone."""
    old, new = deb_unpack(pair.old, folder / "old"), deb_unpack(pair.new, folder / "new")
    target = folder / f"{subject.package}.hotmend"
    ran = hotmend_run("build", str(old / subject.image), str(new / subject.image), "-o", str(target), *subject.words)
    if not target.exists():
        raise RuntimeError(ran.told())
    return target


def cycles_run(subject: Subject, server: Server, file: Path, cycles: int, seconds: float) -> Outcome:
    """Make cycles under load until so many are made or the time is up."""
    hotpatches, options, outcome = load(file), Options(deadline_seconds=20.0), Outcome()
    born = {identity.pid: identity for identity in server.identities()}
    _under_load(subject, server, outcome, lambda: outcome.cycles < _WARM_CYCLES, hotpatches, options)
    if subject.forks:  # a server that forks has children that end by themselves, such as those that start it up
        born = {pid: identity for pid, identity in born.items() if identity in server.identities()}
    outcome.before = {pid: size_of(pid) for pid in born}
    began = time.monotonic()

    def going() -> bool:
        return outcome.cycles < cycles and time.monotonic() - began < seconds

    _under_load(subject, server, outcome, going, hotpatches, options)
    outcome.seconds = time.monotonic() - began
    for pid, identity in born.items():
        with contextlib.suppress(OSError):
            if identity_read(pid) == identity:
                outcome.after[pid] = size_of(pid)
    outcome.restarted = [identity for pid, identity in born.items() if pid not in outcome.after]
    return outcome


def _under_load(
    subject: Subject,
    server: Server,
    outcome: Outcome,
    going: Callable[[], bool],
    hotpatches: Sequence[Hotpatch],
    options: Options,
) -> None:
    """Make cycles beside the load while `going()`."""
    traffic = subject.load(server)
    while going():
        if not traffic.running():
            traffic = _next(subject, server, traffic, outcome)
        pids = server.pids()
        outcome.add(apply(hotpatches, pids, options))
        outcome.add(revert(None, pids, options))
        outcome.cycles += 1
    _count(traffic, outcome)


def _next(subject: Subject, server: Server, ended: Load, outcome: Outcome) -> Load:
    _count(ended, outcome)
    return subject.load(server)


def _count(ended: Load, outcome: Outcome) -> None:
    result = ended.stop()
    outcome.requests, outcome.failures = outcome.requests + result.requests, outcome.failures + result.failures


def cycles_measure(folder: Path, names: list[str], cycles: int, seconds: float) -> Iterator[Figure]:
    """Yield what the cycles of each server showed."""
    for name in names:
        subject = SUBJECTS[name]
        progress(f"building the update of {name}")
        file = hotpatch_make(subject, pair_find(subject.package), folder / name)
        (folder / name / "run").mkdir()
        (folder / name / "run").chmod(0o755)
        with subject.start(folder / name / "old", folder / name / "run") as server:
            progress(f"{cycles} cycles on {name}")
            outcome = cycles_run(subject, server, file, cycles, seconds)
        yield from _figures(name, outcome)


def _figures(name: str, outcome: Outcome) -> Iterator[Figure]:
    section = f"Cycles of {name} under load"
    states = ", ".join(f"{count} {state}" for state, count in outcome.states.most_common())
    refused = ", ".join(f"{count} {code}" for code, count in outcome.refusals.most_common()) or "nothing refused"
    note = f"{states}; {refused}; {outcome.seconds:.0f} s; load {os.getloadavg()[0]:.1f}"
    yield Figure(section, "cycles", outcome.cycles, "", note=note)
    yield Figure(section, "failed requests", outcome.failures, "", note=f"of {outcome.requests:,}")
    yield Figure(section, "processes that ended", len(outcome.restarted), "")
    for what in ("maps", "descriptors", "private_kib"):
        pairs = [(getattr(outcome.before[pid], what), getattr(outcome.after[pid], what)) for pid in outcome.after]
        before, after = sum(b for b, _ in pairs), sum(a for _, a in pairs)
        beside = f"after {_WARM_CYCLES} cycles"
        yield Figure(section, f"{what} of all processes", after, "", before, beside, f"{after - before:+} in all")
    ordered = sorted(outcome.pauses_ms)
    if ordered:
        yield Figure(section, "pause: median", ordered[len(ordered) // 2], "ms", note=f"{len(ordered)} changes")
        yield Figure(section, "pause: 99th percentile", ordered[len(ordered) * 99 // 100], "ms")
        yield Figure(section, "pause: longest", ordered[-1], "ms")
