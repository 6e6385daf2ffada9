"""Publishing: from signed lists to the signed canary release, with one worker, with two, and with two processes.

Eleven packages of Debian 12, released versions to the security archive's, each hotpatch built twice. Every measurement
begins with a channel that has its baseline and nothing built.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import Figure
from demo.quarter import PACKAGES, SOURCES
from hotmend.publisher.release.plan import plan_load
from hotmend.publisher.release.run import Settings, run_publish
from hotmend.repository.layout import Tier
from hotmend.repository.releases import HotpatchRelease
from tests.release.archive import MAIN, SECURITY, Archive, keyring
from tests.repository.kit import CHANNEL, World
from tests.servers.packages import pair_find
from tests.survey.cluster import postgresql, rows

BUILDS = 2 * len(PACKAGES)
_SECTION = "Publishing"
_WAIT_SECONDS = 60.0


class _Vendor:
    """A channel with its baseline, and a distribution that has updates for all packages."""

    def __init__(self, folder: Path, home: Path, public: Path) -> None:
        self.archive = Archive(folder / "archive", home, public)
        self.world = World(folder).make_keys().found()
        self.plan = self.archive.plan(folder, CHANNEL, SOURCES, 'manifest = "watched"')
        pairs = {name: pair_find(name) for name in PACKAGES}
        for name, pair in pairs.items():
            self.archive.offer(MAIN, name, pair.old)
        self.archive.publish()
        self.run(Settings())
        for name, pair in pairs.items():
            self.archive.offer(SECURITY, name, pair.new)
        self.archive.publish()

    def run(self, settings: Settings) -> tuple[float, list[str]]:
        """Return how long it takes to publish what the signed lists have, and what was published."""
        begin = time.monotonic()
        done = run_publish(
            plan_load(self.plan), self.world.publisher(), settings, lambda: self.world.now, lambda *_: None
        )
        return time.monotonic() - begin, done.published

    def builders(self) -> set[str]:
        """Return the processes that built the newest hotpatch."""
        _, _, contents = self.world.publisher().contents()
        releases = next(content for content in contents if content.tier is Tier.CANARY).releases.values()
        hotpatch = next(release for release in releases if isinstance(release, HotpatchRelease))
        return {builder.rpartition("-")[0] for file in hotpatch.files for builder in file.builders}


def publishing_measure() -> Iterator[Figure]:
    """Yield seconds, and builds and releases an hour, for each way of working."""
    for workers in (1, 2):
        with _vendor() as vendor:
            yield from _figures(f"one process, {workers} at once, SQLite", vendor, Settings(workers=workers))
    with _vendor() as vendor, postgresql() as database:
        yield from _figures("one process, 2 at once, PostgreSQL", vendor, Settings(database, workers=2))
    with _vendor() as vendor, postgresql() as database, _worker(vendor, database) as worker:
        yield from _figures("two processes, 1 each, PostgreSQL", vendor, Settings(database, workers=1))
        if not any(f"-{worker.pid}" in name for name in vendor.builders()):
            raise AssertionError(f"the second process built nothing: {vendor.builders()}")


def _figures(how: str, vendor: _Vendor, settings: Settings) -> Iterator[Figure]:
    seconds, published = vendor.run(settings)
    note = f"{BUILDS} builds, {len(published)} releases; {len(vendor.builders())} processes"
    yield Figure(_SECTION, f"{how}: lists signed to release signed", seconds, "s", note=note)
    yield Figure(_SECTION, f"{how}: builds", BUILDS * 3600 / seconds, "an hour")
    yield Figure(_SECTION, f"{how}: releases", len(published) * 3600 / seconds, "an hour")


@contextmanager
def _vendor() -> Iterator[_Vendor]:
    with tempfile.TemporaryDirectory(prefix="hotmend-publishing-") as name, keyring("bench") as (home, public):
        yield _Vendor(Path(name), home, public)


@contextmanager
def _worker(vendor: _Vendor, database: str) -> Iterator[subprocess.Popen[bytes]]:
    """Let another process take builds from the queue, with a folder of its own; it is ended by its process id."""
    folder = vendor.plan.parent / "worker"
    folder.mkdir()
    plan = folder / "plan.toml"
    plan.write_text(f"state = {str(folder / 'state')!r}\n{vendor.plan.read_text()}")
    words = [sys.executable, "-m", "hotmend", "publish", "worker", str(plan), "--workers", "1"]
    words += ["--database", database, "--wait", str(_WAIT_SECONDS)]
    with (folder / "log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            end = time.monotonic() + _WAIT_SECONDS
            while not rows(database, "SELECT name FROM dbos.queues"):
                if process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((folder / "log").read_text())
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            process.wait()
