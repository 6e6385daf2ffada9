"""Reading a core file as the memory of the process it was."""

from __future__ import annotations

import bisect
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Self

from hotmend.linux.procfs import Mapping
from hotmend.model.errors import InputError

_HEADER = struct.Struct("<4sBB10xHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_SECTION_INFO_OFFSET = 44
_ET_CORE, _EM_X86_64, _PT_LOAD = 4, 62, 1
_MANY_HEADERS = 0xFFFF
_HEADERS_MAX = 1 << 20


class CoreMemory:
    """The memory that a core file holds.

    Attributes:
        maps: what was mapped, sorted by address; what came from files is not told from anonymous memory.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            InputError: it cannot be read, or is no core file of a 64-bit x86 process.
        """
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        try:
            self._loads = sorted(self._read_headers())
        except (struct.error, InputError) as error:
            os.close(self._descriptor)
            raise InputError(f"{path} is no core file of a 64-bit x86 process") from error
        self._starts = [start for start, *_ in self._loads]
        self.maps = tuple(
            Mapping(start, start + size, _permissions(flags), 0, "00:00", 0, "")
            for start, size, _, _, flags in self._loads
        )

    def _read_headers(self) -> list[tuple[int, int, int, int, int]]:
        """Return (address, size, offset in the file, size in the file, flags) of each segment."""
        head = os.pread(self._descriptor, 64, 0)
        magic, bits, _, kind, machine, _, _, table, sections, _, _, size, count, _, _, _ = _HEADER.unpack(head)
        if magic != b"\x7fELF" or bits != 2 or kind != _ET_CORE or machine != _EM_X86_64:
            raise InputError("no core file")
        if count == _MANY_HEADERS:
            count = int.from_bytes(os.pread(self._descriptor, 4, sections + _SECTION_INFO_OFFSET), "little")
        if size != _PROGRAM_HEADER.size or count > _HEADERS_MAX:
            raise InputError("no core file")
        raw = os.pread(self._descriptor, size * count, table)
        return [
            (address, memory_size, offset, file_size, flags)
            for kind, flags, offset, address, _, file_size, memory_size, _ in _PROGRAM_HEADER.iter_unpack(raw)
            if kind == _PT_LOAD
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def try_read(self, address: int, size: int) -> bytes | None:
        """Read `size` bytes, also across segments; None where the file does not have them all."""
        parts = []
        while size > 0:
            number = bisect.bisect_right(self._starts, address) - 1
            if number < 0:
                return None
            start, _, offset, held, _ = self._loads[number]
            count = min(size, start + held - address)
            part = os.pread(self._descriptor, count, offset + address - start) if count > 0 else b""
            if not part:
                return None
            parts.append(part)
            address, size = address + len(part), size - len(part)
        return b"".join(parts)


def _permissions(flags: int) -> str:
    return "".join(letter if flags & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1))) + "p"
