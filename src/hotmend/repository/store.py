"""Files of a repository: each is there whole or not at all, and stays when the machine loses power.

Whatever a publisher writes goes through here, so that tests can fail any single call of it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hotmend.model.errors import HotmendError, InputError

_BESIDE: Final = ".new"
"""Suffix of a file that is being written; what a kill leaves behind is taken away by `sweep`."""


class Disk:
    """The system calls that change something."""

    def create(self, path: Path) -> int:
        """Open a new, empty file and return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of `data` and return how much."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Wait until it is on the disk."""
        os.fsync(descriptor)

    def rename(self, old: Path, new: Path) -> None:
        """Put `old` in the place of `new`, at once."""
        old.replace(new)

    def unlink(self, path: Path) -> None:
        """Take a file away."""
        path.unlink(missing_ok=True)

    def mkdir(self, path: Path) -> None:
        """Make one folder."""
        path.mkdir(exist_ok=True)


class Store:
    """A folder that one publisher at a time writes to.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self._disk = disk or Disk()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other publishers out.

        Raises:
            HotmendError: another one is at work, or the folder cannot be written.
        """
        try:
            self.make_folder(self.root)
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise HotmendError(f"{self.root}: {error.strerror or error}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise HotmendError(f"{self.root}: another publisher is at work", "wait until it is done") from None
            yield
        finally:
            os.close(descriptor)

    def exists(self, name: str) -> bool:
        """Return whether a file is there."""
        return (self.root / name).is_file()

    def names(self, folder: str) -> tuple[str, ...]:
        """Return the names of the files in a folder, sorted; none where there is no folder."""
        path = self.root / folder
        return tuple(sorted(p.name for p in path.iterdir() if p.is_file())) if path.is_dir() else ()

    def read(self, name: str, bytes_max: int) -> bytes:
        """Return a file's content.

        Raises:
            InputError: it cannot be read or is longer than `bytes_max`.
        """
        try:
            with (self.root / name).open("rb") as file:
                data = file.read(bytes_max + 1)
        except OSError as error:
            raise InputError(f"{self.root / name}: {error.strerror or error}") from error
        if len(data) > bytes_max:
            raise InputError(f"{self.root / name}: longer than {bytes_max} bytes")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file: beside its place, to the disk, then into its place.

        Raises:
            HotmendError: it cannot be written; what was there before is still there.
        """
        path = self.root / name
        beside = path.with_name(path.name + _BESIDE)
        try:
            self.make_folder(path.parent)
            self._write_beside(beside, data)
            self._disk.rename(beside, path)
            self._sync_folder(path.parent)
        except OSError as error:
            raise HotmendError(f"{path}: {error.strerror or error}", "nothing was published") from error

    def remove(self, name: str) -> None:
        """Take a file away.

        Raises:
            HotmendError: it cannot be.
        """
        try:
            self._disk.unlink(self.root / name)
        except OSError as error:
            raise HotmendError(f"{self.root / name}: {error.strerror or error}") from error

    def sweep(self) -> None:
        """Take away what writers that died left beside its place. Call it with the lock held."""
        for path in self.root.rglob(f"*{_BESIDE}"):
            self.remove(str(path.relative_to(self.root)))

    def make_folder(self, path: Path) -> None:
        """Make a folder and those above it, and see that they stay."""
        if path.is_dir():
            return
        self.make_folder(path.parent)
        self._disk.mkdir(path)
        self._sync_folder(path.parent)

    def _write_beside(self, path: Path, data: bytes) -> None:
        descriptor = self._disk.create(path)
        try:
            left = memoryview(data)
            while left:
                left = left[self._disk.write(descriptor, left) :]
            self._disk.sync(descriptor)
        finally:
            os.close(descriptor)

    def _sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._disk.sync(descriptor)
        finally:
            os.close(descriptor)
