"""How long `hotmend build` takes for each pair, and how large its hotpatches are beside the packages."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.report import Figure, progress
from tests.servers import apache, nginx
from tests.servers.command import Ran, hotmend_run, images_list
from tests.servers.packages import deb_unpack, pair_find

BUILD_RUNS = 3
_NO_BYTE_CODE = "PYTHONDONTWRITEBYTECODE"
"""Where this is set, every run compiles the sources anew; an installed hotmend has them compiled."""

SIZE_PERCENT_GOAL = 5.0
MEMORY_MIB_GOAL = 2048


@dataclass(frozen=True, slots=True)
class Subject:
    """One image that is built.

    Attributes:
        package: binary package.
        image: its path in the package.
        seconds_goal: from the issue; None where it names none.
        accept: refusals that the operator accepts, so that there is a file to measure.
    """

    package: str
    image: str
    seconds_goal: float | None
    accept: tuple[str, ...] = ()


SUBJECTS = (
    Subject("nginx", "usr/sbin/nginx", 0.5, nginx.ACCEPT),
    Subject("libssl3", "usr/lib/x86_64-linux-gnu/libcrypto.so.3", 1.5),
    Subject("postgresql-15", "usr/lib/postgresql/15/bin/postgres", 4.0),
    Subject("redis-tools", "usr/bin/redis-check-rdb", None),
    Subject("haproxy", "usr/sbin/haproxy", None),
    Subject("apache2-bin", "usr/sbin/apache2", None, apache.ACCEPT),
)


def builds_measure(folder: Path) -> Iterator[Figure]:
    """Yield build time and size for every pair, and verdicts as notes."""
    progress("build times")
    for subject in SUBJECTS:
        yield from _time_figures(subject, folder)
    progress("sizes")
    for subject in SUBJECTS:
        yield _size_figure(subject, folder)


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run of the command took: wall and processor time in seconds, peak of its memory in MiB."""

    ran: Ran
    processor_seconds: float
    peak_mib: float


def _run(words: list[str]) -> Cost:
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "hotmend", words[0], "--json", *words[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != _NO_BYTE_CODE},
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        objects = [json.loads(line) for line in output.read().splitlines() if line.strip()]
    ran = Ran(process.returncode, objects, "", seconds)
    return Cost(ran, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _time_figures(subject: Subject, folder: Path) -> Iterator[Figure]:
    pair = pair_find(subject.package)
    old = deb_unpack(pair.old, folder / subject.package / "old") / subject.image
    new = deb_unpack(pair.new, folder / subject.package / "new") / subject.image
    target = folder / f"{subject.package}.hotpatch"
    words = ["build", str(old), str(new), "-o", str(target), "--keep-going", *_accepted(subject)]
    runs = [_run(words) for _ in range(BUILD_RUNS)]
    name = f"{Path(subject.image).name} {pair.old_version} -> {pair.new_version}"
    section = "Build, whole command, median of three"
    goal, verdicts = subject.seconds_goal, _verdicts(runs[-1].ran)
    wall = statistics.median(run.ran.seconds for run in runs)
    processor = statistics.median(run.processor_seconds for run in runs)
    yield Figure(section, f"{name}: time", wall, "s", goal, "goal" if goal else "", verdicts)
    yield Figure(section, f"{name}: processor time", processor, "s", goal, "goal of the time" if goal else "")
    yield Figure(section, f"{name}: memory", max(run.peak_mib for run in runs), "MiB", MEMORY_MIB_GOAL, "goal, peak")


def _size_figure(subject: Subject, folder: Path) -> Figure:
    pair = pair_find(subject.package)
    target = folder / f"{subject.package}.hotmend"
    words = ["build", str(pair.old), str(pair.new), "-o", str(target), "--keep-going", *_accepted(subject)]
    ran = hotmend_run(*words)
    section = "Hotpatch bundle beside the package"
    name = f"{subject.package} {pair.new_version}"
    if not target.exists():
        return Figure(section, name, None, "% of the .deb", SIZE_PERCENT_GOAL, "goal", _verdicts(ran))
    share = 100 * target.stat().st_size / pair.new.stat().st_size
    note = f"{target.stat().st_size:,} of {pair.new.stat().st_size:,} bytes; {_verdicts(ran)}"
    return Figure(section, name, share, "% of the .deb", SIZE_PERCENT_GOAL, "goal", note)


def _accepted(subject: Subject) -> list[str]:
    return [word for code in subject.accept for word in ("--accept", code)]


def _verdicts(ran: Ran) -> str:
    if not any("images" in shape for shape in ran.objects):
        return f"exit code {ran.code}"
    verdicts = [str(image["verdict"]) for image in images_list(ran)]
    return ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts)) or "no code changed"
