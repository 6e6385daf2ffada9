"""What the server tests share: packages unpacked once a session, hotpatches built once a session."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.command import update_build
from tests.servers.packages import Pair, candidate_version, deb_fetch, deb_unpack, pair_find

Trees = Callable[..., tuple[Path, Path]]
Build = Callable[..., Path]


@pytest.fixture(scope="session")
def served() -> Iterator[Path]:
    """A folder that the servers' unprivileged workers may read; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="hotmend-servers-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def trees(served: Path) -> Trees:
    """Return a function (package, *libraries) -> (old tree, new tree), unpacked."""
    known: dict[str, tuple[Path, Path]] = {}

    def unpack(package: str, *libraries: str) -> tuple[Path, Path]:
        if package not in known:
            pair = pair_find(package)
            known[package] = (served / package / "old", served / package / "new")
            for deb, tree in zip((pair.old, pair.new), known[package], strict=True):
                for library in libraries:
                    deb_unpack(deb_fetch(library, candidate_version(library)), tree)
                deb_unpack(deb, tree)
        return known[package]

    return unpack


@pytest.fixture(scope="session")
def hotpatch(served: Path) -> Build:
    """Return a function (package, *needed images, accept=codes) -> hotpatch file of the whole package."""
    known: dict[str, Path] = {}

    def build(package: str, *needed: str, accept: tuple[str, ...] = ()) -> Path:
        if package not in known:
            pair: Pair = pair_find(package)
            target = served / f"{package}.hotmend"
            update_build(pair.old, pair.new, target, *needed, accept=accept)
            known[package] = target
        return known[package]

    return build


@pytest.fixture
def run_folder(served: Path, request: pytest.FixtureRequest) -> Path:
    """A fresh folder for one server."""
    folder: Path = served / str(request.node.name).replace("[", "-").replace("]", "")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    folder.chmod(0o755)
    return folder
