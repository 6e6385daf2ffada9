"""The ELF files of a Debian package, written to disk one by one: no more than a piece of one is ever in memory."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hotmend.image.deb import DEB_BYTES_MAX, is_deb, read_control, walk_files
from hotmend.image.tar import TarStream
from hotmend.model.errors import InputError

STORED_BYTES_MAX: Final = 8 << 30
"""Most bytes of ELF files of one package on disk."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An x86-64 executable or shared library of a package, on disk.

    Attributes:
        path: in the package, without a leading slash.
        content: SHA-256 of its bytes, which stands for them where files are compared.
        stored: where its bytes are.
        size: in bytes.
    """

    path: str
    content: bytes
    stored: Path
    size: int


@dataclass(frozen=True, slots=True)
class UnpackedDeb:
    """What `image.deb.Deb` says of a package, with its ELF files on disk."""

    package: str
    source: str
    version: str
    elf_files: tuple[StoredFile, ...]
    changelog: str
    file_bytes: int


def unpack_deb(path: Path, directory: Path) -> UnpackedDeb:
    """Write the ELF files of the package at `path` into `directory`, under names of our own.

    Raises:
        InputError: it is not a Debian package for amd64, or is damaged, or is over a limit, or there is no space.
    """
    try:
        size = path.stat().st_size
        if not is_deb(path):
            raise InputError(f"{path}: not a Debian package")
        if size > DEB_BYTES_MAX:
            raise InputError(f"{path}: package of {size} bytes is longer than {DEB_BYTES_MAX}")
        directory.mkdir(parents=True, exist_ok=True)
        control = read_control(path)
        elf_files, changelog = _store_files(path, directory)
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}", error.hint) from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    source = control.get("Source", control["Package"]).split(" ")[0]
    return UnpackedDeb(control["Package"], source, control["Version"], elf_files, changelog, size)


def _store_files(path: Path, directory: Path) -> tuple[tuple[StoredFile, ...], str]:
    numbers = itertools.count()
    return walk_files(
        path,
        STORED_BYTES_MAX,
        lambda archive, head, _, name: _store(archive, head, name, directory / str(next(numbers))),
    )


def _store(archive: TarStream, head: bytes, name: str, target: Path) -> StoredFile:
    digest = hashlib.sha256(head)
    size = len(head)
    with target.open("wb") as file:
        file.write(head)
        while chunk := archive.read(_CHUNK_BYTES):
            file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return StoredFile(name, digest.digest(), target, size)
