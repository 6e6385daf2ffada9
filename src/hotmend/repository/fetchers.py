"""Where a client gets bytes from: a folder, an archive (`airgap`), or a web server. None of them is trusted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from hotmend.model.errors import InputError, UsageError
from hotmend.repository.archive import archive_members

LOCAL: Final = "repository:/"
"""What addresses of local sources begin with; they never leave this process."""
CHUNK_BYTES: Final = 1 << 16
SOCKET_SECONDS: Final = 30
FILE_SECONDS_MAX: Final = 1800
"""Longest that one file may take, however steadily it drips."""


class FolderFetcher(FetcherInterface):
    """Reads a folder with `metadata` and `targets` in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._folder / _local_name(url)
        if not path.is_file():
            raise DownloadHTTPError(f"{path}: no such file", 404)
        return _chunks(path, 0, None)


class ArchiveFetcher(FetcherInterface):
    """Reads an archive, of which one pass at the beginning has found the members."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members: dict[str, tuple[int, int]] = {}
        try:
            with path.open("rb") as file:
                for name, size, _ in archive_members(file):
                    self._members[name] = (file.tell(), size)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error

    def _fetch(self, url: str) -> Iterator[bytes]:
        found = self._members.get(_local_name(url))
        if found is None:
            raise DownloadHTTPError(f"{self._path}: {_local_name(url)} is not in it", 404)
        return _chunks(self._path, *found)


class WebFetcher(Urllib3Fetcher):
    """Reads a web server, and gives up where a file takes too long altogether."""

    def __init__(self) -> None:
        super().__init__(socket_timeout=SOCKET_SECONDS, chunk_size=CHUNK_BYTES, app_user_agent="hotmend")

    def _chunks(self, response: urllib3.response.BaseHTTPResponse) -> Iterator[bytes]:
        end = time.monotonic() + FILE_SECONDS_MAX
        try:
            # read1 returns what has come; read would wait for the whole chunk and never look at the clock. Nothing is
            # decompressed: lengths are those of the files.
            while data := response.read1(CHUNK_BYTES, decode_content=False):
                yield data
                if time.monotonic() > end:
                    raise SlowRetrievalError(f"not finished after {FILE_SECONDS_MAX} s")
        except urllib3.exceptions.TimeoutError as error:
            raise SlowRetrievalError from error
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError(str(error)) from error
        finally:
            response.close()


def fetcher_for(source: str) -> tuple[FetcherInterface, str]:
    """Return what reads `source`, and the address that everything in it is below.

    Raises:
        UsageError: neither a folder, nor an archive, nor the address of a web server.
        InputError: the archive is damaged.
    """
    if source.startswith(("https://", "http://")):
        return WebFetcher(), source.rstrip("/") + "/"
    path = Path(source.removeprefix("file://"))
    if path.is_dir():
        return FolderFetcher(path), LOCAL
    if path.is_file():
        return ArchiveFetcher(path), LOCAL
    raise UsageError(
        f"{source}: no folder, no file and no address", "a mirror, a file of `channel bundle`, or https://…"
    )


def _local_name(url: str) -> str:
    name = url.removeprefix(LOCAL)
    if name == url or {"", ".", ".."} & set(name.split("/")):
        raise DownloadHTTPError(f"{url}: no name of a file here", 404)
    return name


def _chunks(path: Path, start: int, size: int | None) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        left = size
        while left is None or left > 0:
            data = file.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
            if not data:
                return
            left = None if left is None else left - len(data)
            yield data
