"""A process that lives on while its channel publishes: each cumulative hotpatch takes over from the one before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotmend.package.bundle import load
from hotmend.repository.client import Fetched
from hotmend.repository.layout import Tier
from tests.release.archive import MAIN, SECURITY
from tests.release.vendor import Vendor
from tests.servers.command import DONE, hotmend_run

pytestmark = pytest.mark.live

_PROGRAM = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.make_alpha.restype = ctypes.c_void_p
library.count_alpha.argtypes = [ctypes.c_void_p]
made = library.make_alpha(b"name")
for _ in sys.stdin:
    print(library.count_alpha(made), flush=True)
"""
_MADE = 3 * 3 + 4 // 3
"""What the object holds that the old build made."""


def _expected(factor: int) -> int:
    return _MADE + _MADE * factor + 7 // (_MADE | 1)


def _hotpatch_of(vendor: Vendor, identity: str, version: str) -> Path:
    """Return what a canary machine that runs a version of alpha fetches of a release."""
    fetched = vendor.world.client(Tier.CANARY).channel().fetch(identity)
    assert isinstance(fetched, Fetched)
    found = [path for path, hotpatches in fetched.files if hotpatches[0].versions[0] == version]
    assert len(found) == 1
    assert load(found[0])
    return found[0]


def test_a_process_follows_its_channel(vendor: Vendor, tmp_path: Path) -> None:
    vendor.run()
    tree = tmp_path / "tree"
    subprocess.run(["dpkg-deb", "-x", vendor.archive.offers[MAIN]["alpha"], tree], check=True)
    command = [sys.executable, "-c", _PROGRAM, str(tree / "usr/lib/libalpha.so.1")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask() -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        assert ask() == _expected(3)
        for number, factor in ((2, 5), (3, 7)):
            vendor.archive.put(SECURITY, "alpha", f"1.0-{number}", factor=factor)
            release = vendor.run().published[0]
            file = _hotpatch_of(vendor, release, "1.0-1")
            applied = hotmend_run("apply", str(file), "--pid", str(process.pid))
            assert applied.code == DONE, applied.told()
            assert ask() == _expected(factor)
        process.stdin.close()
        assert process.wait(60) == 0
