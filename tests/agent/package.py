"""The project's own Debian package, built as `make deb` builds it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.agent.machine import ROOT

PACKAGING = ROOT / "packaging"


def build(output: Path, work: Path) -> Path:
    """Build it into `output`; return the file."""
    subprocess.run([PACKAGING / "build-deb", output, work], check=True, capture_output=True)
    (file,) = output.glob("hotmend_*_amd64.deb")
    return file
