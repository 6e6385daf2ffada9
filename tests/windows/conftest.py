"""One Windows for all tests of this folder; each test begins with its registry as it was first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.windows.wine import Wine


@pytest.fixture(scope="session")
def prefix() -> Iterator[Wine]:
    with tempfile.TemporaryDirectory(prefix="hotmend-wine-", ignore_cleanup_errors=True) as folder:
        made = Wine(Path(folder))
        yield made
        made.down()


@pytest.fixture
def wine(prefix: Wine) -> Iterator[Wine]:
    prefix.reset()
    prefix.up()
    yield prefix
    prefix.down()
