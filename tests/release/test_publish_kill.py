"""`hotmend publish run`, killed again and again; and a queue in PostgreSQL that two processes work on."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.publisher.release.plan import plan_load
from hotmend.repository.layout import Tier
from hotmend.repository.releases import HotpatchRelease
from tests.release.archive import SECURITY
from tests.release.vendor import PACKAGES, Vendor
from tests.repository.kit import CHANNEL
from tests.survey.cluster import postgresql, rows

_SECONDS = 400.0


def _command(vendor: Vendor, *words: str) -> list[str]:
    plan = str(vendor.file)
    where = [str(vendor.world.repository), plan] if words[0] == "run" else [plan]
    options = ["--workers", "1", "--json"]
    return [sys.executable, "-W", "ignore", "-m", "hotmend", "publish", words[0], *where, *options, *words[1:]]


def _builds_done(vendor: Vendor) -> int:
    """How many builds are recorded in the queue."""
    queue = Path(plan_load(vendor.file).state) / "queue.sqlite"
    try:
        with contextlib.closing(sqlite3.connect(f"file:{queue}?mode=ro", uri=True)) as database:
            query = "SELECT count(*) FROM operation_outputs WHERE function_name = 'build'"
            return int(database.execute(query).fetchone()[0])
    except sqlite3.Error:
        return 0


def _published(vendor: Vendor) -> int:
    """How many bundles lie in the repository."""
    return len(list((vendor.world.mirror / "targets").rglob("*.hotmend*")))


def _kill_when(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> bool:
    """Kill a process once something is so; return whether it came to that before its end."""
    end = time.monotonic() + _SECONDS
    while process.poll() is None:
        assert time.monotonic() < end
        if condition():
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.005)
    return False


def test_however_often_a_run_is_killed_the_releases_are_the_same(vendor: Vendor, tmp_path: Path) -> None:
    base = vendor.run().published[0]
    vendor.archive.put(SECURITY, "alpha", "1.0-2", factor=5)
    vendor.archive.put(SECURITY, "beta", "1.0-2", factor=5)
    vendor.archive.put(SECURITY, "gamma", "1.0-2", grows=True)
    vendor.archive.publish()
    undisturbed = Vendor(
        vendor.archive.copy(tmp_path / "second"), vendor.world.copy(tmp_path / "other"), tmp_path / "other"
    )
    expected = set(undisturbed.run().published)
    conditions: list[Callable[[], bool]] = [
        *(lambda n=n: _builds_done(vendor) >= n for n in (3,)),
        lambda: _published(vendor) >= 1,
        lambda: _published(vendor) >= 2,
    ]
    kills = 0
    for condition in conditions:
        with subprocess.Popen(_command(vendor, "run"), stdout=subprocess.PIPE) as process:
            kills += _kill_when(process, condition)
        client = vendor.world.client(Tier.CANARY).channel()
        assert {entry.id for entry in client.index.releases} <= {base, *expected}
    assert kills >= 2, "it was done before anybody could kill it"
    done = subprocess.run(_command(vendor, "run"), stdout=subprocess.PIPE, check=False)
    assert done.returncode in (0, 3), done.stdout
    assert _builds_done(vendor) == 6, "three packages, two builders, nothing twice"
    mine, theirs = vendor.releases(), undisturbed.releases()
    assert mine.keys() == theirs.keys() == {base, *expected}
    for identity in expected:
        one, other = mine[identity], theirs[identity]
        if isinstance(one, HotpatchRelease) and isinstance(other, HotpatchRelease):
            assert [file.sha256 for file in one.files] == [file.sha256 for file in other.files]


def _count(database: str, status: str, pid: int) -> int:
    query = f"SELECT 1 FROM dbos.workflow_status WHERE status = '{status}' AND executor_id LIKE '%-{pid}-%'"
    return len(rows(database, query))


@pytest.mark.long  # who gets which build is a race: on a busy machine the worker may be done before it is caught
def test_what_a_killed_worker_had_is_built_elsewhere_and_the_release_names_both(vendor: Vendor, tmp_path: Path) -> None:
    vendor.run()
    for number, package in enumerate(PACKAGES):
        vendor.archive.put(SECURITY, package, "1.0-2", factor=5 + number)
    vendor.archive.publish()
    worker_plan = vendor.archive.plan(tmp_path, CHANNEL, PACKAGES, f"state = {str(tmp_path / 'w')!r}\nbuilders = 2")
    worker_plan = worker_plan.rename(tmp_path / "worker.toml")
    vendor.plan("builders = 1")  # so that the worker has done one, and does another, before all are done
    with postgresql() as database:
        option = ("--database", database)
        words = _command(vendor, "worker", *option, "--wait", "60")
        words[words.index(str(vendor.file))] = str(worker_plan)
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as worker:
            end = time.monotonic() + _SECONDS
            while not rows(database, "SELECT name FROM dbos.queues"):
                assert time.monotonic() < end
                time.sleep(0.05)
            with subprocess.Popen(_command(vendor, "run", *option), stdout=subprocess.PIPE) as ran:
                held = 0
                while not held:
                    while not _count(database, "SUCCESS", worker.pid) or not _count(database, "PENDING", worker.pid):
                        assert ran.poll() is None
                        assert time.monotonic() < end
                    worker.send_signal(signal.SIGSTOP)  # it holds what it has taken, and is killed with it
                    held = _count(database, "PENDING", worker.pid)
                    if not held:  # it was done between the look and the stop
                        worker.send_signal(signal.SIGCONT)
                worker.send_signal(signal.SIGKILL)
                told, _ = ran.communicate(timeout=_SECONDS)
    assert ran.returncode == 0, told
    release = vendor.releases()[json.loads(told)["published"][0]]
    assert isinstance(release, HotpatchRelease)
    assert {image.package for file in release.files for image in file.images} == set(PACKAGES)
    names = {name for file in release.files for name in file.builders}
    assert {name.split("-")[-2] for name in names} == {str(worker.pid), str(ran.pid)}
