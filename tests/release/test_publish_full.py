"""No space left beside the plan, at any point of a run: nothing is published by halves, and the next run goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotmend.repository.layout import Tier
from tests.release.archive import SECURITY
from tests.release.vendor import Vendor

_SECONDS = 300


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "hotmend-test", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("free_bytes", [200 << 10])
def test_a_full_disk_beside_the_plan(vendor: Vendor, small_disk: Path, free_bytes: int) -> None:
    vendor.plan(f"state = {str(small_disk / 'state')!r}")
    base = vendor.run().published[0]
    vendor.archive.put(SECURITY, "alpha", "1.0-2", factor=5)
    vendor.archive.publish()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(max(shutil.disk_usage(small_disk).free - free_bytes, 0)))
    where = [str(vendor.world.repository), str(vendor.file)]
    command = [sys.executable, "-W", "ignore", "-m", "hotmend", "publish", "run", *where, "--workers", "1"]
    done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    ids = {entry.id for entry in vendor.world.client(Tier.CANARY).channel().index.releases}
    assert ids in ({base}, {base, f"{base}.h1"})
    assert done.returncode == 0 if len(ids) == 2 else done.returncode == 1
    assert b"unexpected" not in done.stderr
    ballast.unlink()
    vendor.run()
    assert vendor.world.client(Tier.CANARY).channel().index.find(f"{base}.h1")
