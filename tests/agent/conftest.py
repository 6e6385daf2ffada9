"""One build of the Debian package for all tests here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.package import built


@pytest.fixture(scope="session")
def package() -> Iterator[Path]:
    """Built as `make deb` builds it."""
    with built() as file:
        yield file
