"""The .deb files of a survey: from the cache where they are there, else by apt, many at once, and bounded on disk."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from hotmend.model.errors import FetchError
from hotmend.publisher import feed
from hotmend.publisher.feed import PackageVersion
from hotmend.publisher.survey.suites import Candidate

BATCH_MAX: Final = 40
"""Packages that one apt-get is asked for when the store is filled ahead of the work."""
_WAIT_SECONDS = 0.5


def versions_of(candidate: Candidate) -> tuple[PackageVersion, PackageVersion]:
    """Return what apt is asked for: the old package and the new."""
    name = candidate.package
    return PackageVersion(name, candidate.old_version), PackageVersion(name, candidate.new_version)


class Store:
    """Packages on disk.

    What other commands have fetched into hotmend's cache is used where it lies and is never deleted. What the
    survey fetches goes into a directory of its own, and goes away after use unless `keep` is set; then it goes
    into the cache.

    Args:
        directory: of its own, on the disk that is to be bounded.
        bytes_max: how much may lie there at once before filling ahead waits.
        keep: fetch into the cache and delete nothing.
    """

    def __init__(self, directory: Path, *, bytes_max: int, keep: bool) -> None:
        self._directory = feed.cache_directory() if keep else directory
        self._keep = keep
        self._bytes_max = bytes_max
        self._lock = threading.Lock()

    def get(self, candidate: Candidate) -> tuple[Path, Path]:
        """Return the two files of `candidate`, fetched now if they are not there.

        Raises:
            FetchError: apt does not offer one of them.
        """
        wanted = versions_of(candidate)
        missing = [version for version in wanted if self._find(version) is None]
        if missing:
            with self._lock:
                missing = [version for version in missing if self._find(version) is None]
                if missing:
                    feed.fetch_many(missing, self._directory)
        old, new = (self._find(version) for version in wanted)
        if old is None or new is None:
            raise FetchError(f"apt downloaded another file than {wanted[0]} and {wanted[1]}")
        return old, new

    def release(self, candidate: Candidate) -> None:
        """Delete the files of `candidate` that the survey has fetched."""
        if self._keep:
            return
        for version in versions_of(candidate):
            path = feed.find(self._directory, version)
            if path is not None:
                path.unlink(missing_ok=True)

    def fill(self, candidates: Sequence[Candidate], stop: threading.Event) -> None:
        """Fetch ahead, in the order of the work, as far as the bound allows; until all are there or `stop` is set.

        What cannot be fetched is left to `get`, which says so for the package concerned.
        """
        for batch in _batches([c for c in candidates if any(self._find(v) is None for v in versions_of(c))]):
            size = sum(c.old_bytes + c.new_bytes for c in batch)
            while not stop.is_set() and self._used() + size > self._bytes_max and self._used():
                time.sleep(_WAIT_SECONDS)
            if stop.is_set():
                return
            missing = [v for c in batch for v in versions_of(c) if self._find(v) is None]
            try:
                if missing:
                    with self._lock:
                        feed.fetch_many(missing, self._directory)
            except FetchError:
                continue

    def _find(self, version: PackageVersion) -> Path | None:
        return feed.find(feed.cache_directory(), version) or feed.find(self._directory, version)

    def _used(self) -> int:
        if self._keep or not self._directory.is_dir():
            return 0
        return sum(path.stat().st_size for path in _present(self._directory.glob("*.deb")))


def _present(paths: Iterable[Path]) -> list[Path]:
    """Return those that have not been deleted meanwhile."""
    return [path for path in paths if path.exists()]


def _batches(candidates: Sequence[Candidate]) -> Iterable[Sequence[Candidate]]:
    step = BATCH_MAX // 2
    return (candidates[i : i + step] for i in range(0, len(candidates), step))


def scratch(directory: Path, name: str) -> Path:
    """Return a new empty directory for the files of one package."""
    directory.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=directory))
