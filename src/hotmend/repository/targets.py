"""The signed files of a repository: fetched and verified, and what the errors of TUF's client mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tuf.api import exceptions as tuf_errors
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater

from hotmend.model.errors import FetchError, HotmendError, InputError
from hotmend.repository.refusal import refused


class SignedFiles:
    """Targets, by path; each has one place on this disk."""

    def __init__(self, updater: Updater, folder: Path) -> None:
        self._updater = updater
        self._folder = folder

    def place(self, path: str) -> Path:
        """Return where a target is on this disk, once it is here."""
        return self._folder / path

    def find(self, path: str) -> TargetFile | None:
        """Return what is signed of a target, None where nothing is."""
        with explained(path):
            return self._updater.get_targetinfo(path)

    def info(self, path: str, bytes_max: int, sha256: str | None = None) -> TargetFile:
        """Return what is signed of a target.

        Raises:
            Refusal: nothing is, it is longer than `bytes_max`, or has another hash.
        """
        info = self.find(path)
        if info is None:
            raise refused("release-unknown", f"the repository has no {path}, or nobody may sign for it", path)
        if info.length > bytes_max:
            raise refused("repository-too-long", f"{path}: {info.length} bytes, more than {bytes_max}", path)
        if sha256 is not None and info.hashes.get("sha256") != sha256:
            raise refused("release-does-not-fit", f"{path}: the metadata names another file than the release", path)
        return info

    def is_here(self, info: TargetFile) -> bool:
        """Return whether a target is here, as it is signed."""
        return self._updater.find_cached_target(info, str(self.place(info.path))) is not None

    def read(self, info: TargetFile) -> bytes:
        """Return the content of a target that is here.

        Raises:
            Refusal: it has changed meanwhile.
        """
        with explained(info.path):
            with self.place(info.path).open("rb") as file:
                data = file.read(info.length + 1)
            info.verify_length_and_hashes(data)
            return data

    def fetch(self, path: str, bytes_max: int, sha256: str | None = None) -> bytes:
        """Return the content of a target; it is downloaded where it is not here already.

        Raises:
            Refusal: as `info`, or what came is not what is signed.
            FetchError: it could not be reached.
        """
        info = self.info(path, bytes_max, sha256)
        if not self.is_here(info):
            with explained(path):
                self._updater.download_target(info, str(self.place(path)))
        return self.read(info)


@contextmanager
def explained(source: str) -> Iterator[None]:
    """Turn errors of TUF's client into refusals where it refused, and into errors where it got nothing."""
    try:
        yield
    except tuf_errors.DownloadLengthMismatchError as error:
        raise refused("repository-too-long", f"{source}: sends more than is allowed: {error}") from error
    except tuf_errors.DownloadError as error:
        cause = error.__cause__ or error
        raise FetchError(f"{source}: {str(cause) or type(cause).__name__}", "try again, or another mirror") from error
    except tuf_errors.RepositoryError as error:
        raise refused(_code_of(error), f"{source}: {error}") from error
    except OSError as error:
        raise HotmendError(f"{source}: {error}") from error


def _code_of(error: tuf_errors.RepositoryError) -> str:
    match error:
        case tuf_errors.ExpiredMetadataError():
            return "repository-expired"
        case tuf_errors.BadVersionNumberError():
            return "repository-rolled-back"
        case tuf_errors.UnsignedMetadataError():
            return "repository-not-signed"
        case tuf_errors.LengthOrHashMismatchError():
            return "repository-files-do-not-fit"
    return "repository-damaged"


D = TypeVar("D")


def decoded(decode: Callable[[bytes, str], D], data: bytes, path: str) -> D:
    """Signed, and still not believed: what cannot be read is refused."""
    try:
        return decode(data, path)
    except InputError as error:
        raise refused("release-damaged", str(error), path) from error
