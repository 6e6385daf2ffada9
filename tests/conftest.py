"""For all tests: the audit record of what they change is theirs, and goes with them; who runs beside whom; examples."""

from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

from tests.rooms import Rooms, place_of

# As hypothesis does by itself where the variable CI is set. Else it draws other examples each time, and fails where
# one of them takes 0.2 s, which on a machine with other work one of thousands does.
settings.register_profile(
    "tests",
    database=None,
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")

_FOLDER = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Name a file of this run's own; commands that tests start inherit it."""
    config.stash[_FOLDER] = folder = tempfile.TemporaryDirectory(prefix="hotmend-audit-")
    os.environ["HOTMEND_AUDIT"] = f"{folder.name}/audit.jsonl"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take it away."""
    config.stash[_FOLDER].cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the rooms that take longest."""
    items.sort(key=lambda item: place_of(item.nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Rooms:
    """With `--dist loadscope`, keep the tests of one room together."""
    return Rooms(config, log)
