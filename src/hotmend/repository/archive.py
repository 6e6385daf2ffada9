"""Several files in one: plain tar, written reproducibly and read with a limit on everything.

What is inside is compressed already, and nobody has to unpack anything before it is known to be signed.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

from hotmend.image.tar import TarStream
from hotmend.model.errors import HotmendError, InputError

ARCHIVE_BYTES_MAX: Final = 64 << 30
MEMBERS_MAX: Final = 200_000
NAME_LETTERS_MAX: Final = 400


def archive_write(path: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files to an archive at `path`; it is there whole or not at all.

    Raises:
        HotmendError: it cannot be written.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        try:
            with beside.open("wb") as file:
                _write(file, files)
                file.flush()
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise HotmendError(f"{path}: {error.strerror or error}", "choose another place") from error


def archive_bytes(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of files, in their order."""
    blob = io.BytesIO()
    _write(blob, files.items())
    return blob.getvalue()


def archive_members(file: IO[bytes], bytes_max: int = ARCHIVE_BYTES_MAX) -> Iterator[tuple[str, int, TarStream]]:
    """Yield name, size and stream of each member; the stream reads it until the next is asked for.

    Raises:
        InputError: damaged, too long, or with members that are no plain files.
    """
    stream = TarStream(file, members_max=MEMBERS_MAX, bytes_max=bytes_max)
    seen: set[str] = set()
    for info in stream:
        name = info.name
        if not info.isreg() or name in seen or not _plain(name):
            raise InputError(f"archive: member {name[:80]!r} does not belong there")
        seen.add(name)
        yield name, info.size, stream


def archive_read(data: bytes, member_bytes_max: int) -> dict[str, bytes]:
    """Return all files of an archive.

    Raises:
        InputError: as `archive_members`, or a member is longer than allowed.
    """
    members: dict[str, bytes] = {}
    for name, size, stream in archive_members(io.BytesIO(data), len(data)):
        if size > member_bytes_max:
            raise InputError(f"archive: member {name[:80]!r} is longer than {member_bytes_max} bytes")
        members[name] = stream.read(size)
    return members


def _write(file: IO[bytes], files: Iterable[tuple[str, bytes]]) -> None:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o644, 0
            info.uname = info.gname = "root"
            archive.addfile(info, io.BytesIO(data))


def _plain(name: str) -> bool:
    parts = name.split("/")
    return len(name) <= NAME_LETTERS_MAX and name.isprintable() and not {"", ".", ".."} & set(parts)
