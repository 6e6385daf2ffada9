"""Reading tar streams from untrusted sources.

The standard library parses each header (`TarInfo.frombuf` checks the sum); walking from header to header is
done here, because `TarFile` of Python 3.11 follows negative sizes backwards and reads long names of any length
into memory.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO

from hotmend.model.errors import InputError

_CHUNK_BYTES = 1 << 20
_NAME_BYTES_MAX = 16_384


class TarStream:
    """The members of one tar stream, front to back.

    Attributes:
        members_max: most members before the stream is refused.
        bytes_max: most bytes of the whole stream.
    """

    def __init__(self, stream: IO[bytes], *, members_max: int, bytes_max: int) -> None:
        self._stream = stream
        self._members_max = members_max
        self._bytes_left = bytes_max
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        """Yield each member; `read` gives its content until the next one is asked for.

        Raises:
            InputError: the stream is truncated, damaged or over a limit.
        """
        names: dict[bytes, str] = {}
        for _ in range(self._members_max):
            self._skip()
            header = self._take(tarfile.BLOCKSIZE)
            if header == bytes(tarfile.BLOCKSIZE):
                return
            info = self._parse(header)
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                if info.size > _NAME_BYTES_MAX:
                    raise InputError(f"tar: a name of {info.size} bytes is longer than {_NAME_BYTES_MAX}")
                names[info.type] = self.read(info.size).rstrip(b"\0").decode("utf-8", "surrogateescape")
                continue
            info.name = names.get(tarfile.GNUTYPE_LONGNAME, info.name)
            info.linkname = names.get(tarfile.GNUTYPE_LONGLINK, info.linkname)
            names.clear()
            yield info
        raise InputError(f"tar: more than {self._members_max} members")

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes of what is left of the current member."""
        data = self._take(min(size, self._left))
        self._left -= len(data)
        return data

    def _parse(self, header: bytes) -> tarfile.TarInfo:
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except (tarfile.TarError, ValueError, OverflowError) as error:
            raise InputError(f"tar: damaged header: {error}") from None
        has_content = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES or info.type in _WITH_CONTENT
        size = info.size if has_content else 0
        if not 0 <= size <= self._bytes_left:
            raise InputError(f"tar: member {info.name[:80]!r} claims {size} bytes")
        self._left, self._padding = size, -size % tarfile.BLOCKSIZE
        return info

    def _skip(self) -> None:
        remaining = self._left + self._padding
        self._left = self._padding = 0
        while remaining:
            remaining -= len(self._take(min(remaining, _CHUNK_BYTES)))

    def _take(self, size: int) -> bytes:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise InputError("tar: the archive is longer than is allowed")
        parts = []
        while size:
            part = self._stream.read(min(size, _CHUNK_BYTES))
            if not part:
                raise InputError("tar: the archive is truncated")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


_WITH_CONTENT = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
