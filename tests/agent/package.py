"""The project's own Debian package, built as `make deb` builds it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.agent.machine import ROOT

PACKAGING = ROOT / "packaging"


@contextlib.contextmanager
def built() -> Iterator[Path]:
    """Build it in the project's own folder, which machines have as well; their /tmp is empty after the boot."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache", prefix="package-") as name:
        yield build(Path(name, "out"), Path(name, "work"))


def build(output: Path, work: Path) -> Path:
    """Build it into `output`, compressed as fast as can be; return the file."""
    environment = os.environ | {"HOTMEND_DEB_COMPRESSION": "-Zgzip -z1"}
    subprocess.run([PACKAGING / "build-deb", output, work], check=True, capture_output=True, env=environment)
    (file,) = output.glob("hotmend_*_amd64.deb")
    return file
