"""One build of the Debian package for all tests here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.machine import ROOT
from tests.agent.package import build


@pytest.fixture(scope="session")
def package() -> Iterator[Path]:
    """In the project's own folder, which machines of the tests have as well; their /tmp is empty after the boot."""
    (ROOT / ".cache").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache", prefix="package-") as name:
        yield build(Path(name, "out"), Path(name, "work"))
