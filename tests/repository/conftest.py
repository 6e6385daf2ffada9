"""One repository is made for all tests; each gets its own copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.repository.kit import World


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Canary and stable tier have a baseline and a hotpatch."""
    return World(tmp_path_factory.mktemp("repository")).make_keys().found().fill().promote()


@pytest.fixture
def world(original: World, tmp_path: Path) -> World:
    return original.copy(tmp_path)
