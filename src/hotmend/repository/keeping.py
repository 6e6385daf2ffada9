"""A copy of what a client fetches, in the form of a repository: for another client, which has no network, to read.

Nothing in the copy is believed; whoever reads it verifies all of it again. The timestamp comes last, so that a reader
finds everything that it leads to.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tuf.ngclient import FetcherInterface

from hotmend.repository.layout import METADATA_FOLDER, TIMESTAMP

_BESIDE = ".new"
"""Suffix of a file that is being written; what a kill leaves behind is written over by the next one."""
_LAST = f"{METADATA_FOLDER}/{TIMESTAMP}.json"


class KeepingFetcher(FetcherInterface):
    """Fetches by another fetcher, and keeps a copy of each file that was read to its end."""

    def __init__(self, inner: FetcherInterface, address: str, folder: Path) -> None:
        self._inner = inner
        self._address = address
        self._folder = folder
        self._waiting: Path | None = None

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(self._address)
        chunks = self._inner.fetch(url)
        if name == url or {"", ".", ".."} & set(name.split("/")):
            return chunks
        return self._kept(name, chunks)

    def _kept(self, name: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        place = self._folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f"{place.name}{_BESIDE}")
        try:
            with new.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                    yield chunk
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        if name == _LAST:
            self._waiting = new
        else:
            new.replace(place)

    def finish(self) -> None:
        """Let the copy lead to what was fetched."""
        if self._waiting is not None:
            self._waiting.replace(self._folder / _LAST)
            self._waiting = None
