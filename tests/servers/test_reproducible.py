"""The same two packages give the same file, whatever order Python's sets have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.command import DONE, REFUSED
from tests.servers.packages import pair_find

pytestmark = [pytest.mark.servers, pytest.mark.archive]


@pytest.mark.parametrize("package", [pytest.param("libssl3", marks=pytest.mark.long), "nginx"])
def test_two_builders_write_the_same_bytes(package: str, tmp_path: Path) -> None:
    pair = pair_find(package)
    written = []
    for seed in ("1", "77"):
        file = tmp_path / f"{seed}.hotmend"
        command = [sys.executable, "-m", "hotmend", "build", str(pair.old), str(pair.new), "-o", str(file)]
        command += ["--partial", "--keep-going"]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode in (DONE, REFUSED), done.stderr
        written.append(file.read_bytes())
    assert written[0] == written[1]
