"""Debug files from debuginfod servers, if any is configured.

The protocol is elfutils': `GET URL/buildid/BUILDID/debuginfo`, with servers in `DEBUGINFOD_URLS`, blanks between them;
nothing is asked when that is unset. `DEBUGINFOD_TIMEOUT` (seconds without progress), `DEBUGINFOD_MAXTIME` (seconds for
one file) and `DEBUGINFOD_MAXSIZE` (bytes) are heeded. What a server sends counts only with the build-id asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from hotmend.image.debugfile import read_debug_file
from hotmend.model.addresses import BuildId
from hotmend.model.errors import InputError

if TYPE_CHECKING:
    import urllib.request

TIMEOUT_SECONDS: Final = 30
FILE_SECONDS_MAX: Final = 600
FILE_BYTES_MAX: Final = 2 << 30
_CHUNK_BYTES = 1 << 20
_BUILD_ID = re.compile(r"[0-9a-f]{16,128}")
_SERVER = re.compile(r"https?://\S+")


class Servers:
    """The configured servers; one that cannot be reached is not asked again."""

    def __init__(self, urls: tuple[str, ...], cache: Path) -> None:
        self._urls = [url.rstrip("/") for url in urls if _SERVER.fullmatch(url)]
        self._cache = cache
        self._idle_seconds = _setting("DEBUGINFOD_TIMEOUT", TIMEOUT_SECONDS)
        self._seconds_max = _setting("DEBUGINFOD_MAXTIME", FILE_SECONDS_MAX)
        self._bytes_max = _setting("DEBUGINFOD_MAXSIZE", FILE_BYTES_MAX)

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        return _opener()

    @classmethod
    def configured(cls) -> Self:
        """Return those that the environment names; the cache is `$XDG_CACHE_HOME/hotmend/debug`."""
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return cls(tuple(os.environ.get("DEBUGINFOD_URLS", "").split()), Path(base) / "hotmend" / "debug")

    def fetch(self, build_id: BuildId) -> Path | None:
        """Return the debug file of a build-id, from the cache or a server; None where none has it."""
        if not self._urls or not _BUILD_ID.fullmatch(build_id):
            return None
        path = self._cache / f"{build_id}.debug"
        if path.is_file():
            return path
        import http.client
        import urllib.error

        for url in list(self._urls):
            try:
                self._download(f"{url}/buildid/{build_id}/debuginfo", build_id, path)
            except urllib.error.HTTPError:
                continue  # it does not have the file
            except (OSError, http.client.HTTPException):
                self._urls.remove(url)
            except InputError:
                continue
            else:
                return path
        return None

    def _download(self, url: str, build_id: BuildId, path: Path) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + self._seconds_max
        with tempfile.NamedTemporaryFile(dir=self._cache, suffix=".part") as file:
            with self._opener.open(url, timeout=self._idle_seconds) as answer:
                size = 0
                while chunk := answer.read1(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > self._bytes_max or time.monotonic() > end:
                        raise InputError(f"{url}: larger or slower than is allowed")
                    file.write(chunk)
            file.flush()
            if read_debug_file(Path(file.name)).build_id != build_id:
                raise InputError(f"{url}: the server sent another file")
            with contextlib.suppress(FileExistsError):  # somebody else fetched it at the same time
                os.link(file.name, path)


def _setting(name: str, default: int) -> int:
    """Return a number of the environment, `default` where it is unset, zero or none."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and 0 < int(text) < 1 << 40 else default


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener that knows HTTP and nothing else: a redirection cannot lead to a file."""
    import urllib.request

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "hotmend")]
    return opener
