"""One distribution and one repository are made for all tests of a file; each test gets copies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.release.archive import MAIN, Archive, keyring
from tests.release.vendor import PACKAGES, Vendor
from tests.repository.kit import World


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Three packages, as they were released."""
    root = tmp_path_factory.mktemp("archive") / "root"
    with keyring("sample") as (home, public):
        archive = Archive(root, home, public)
        for package in PACKAGES:
            archive.put(MAIN, package, "1.0-1")
        archive.publish()
        yield archive


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A repository with a baseline and a hotpatch that nobody built."""
    return World(tmp_path_factory.mktemp("pages")).make_keys().found().fill().promote()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("channel")).make_keys().found()


@pytest.fixture
def vendor(distribution: Archive, repository: World, tmp_path: Path) -> Vendor:
    return Vendor(distribution.copy(tmp_path / "archive"), repository.copy(tmp_path), tmp_path)
