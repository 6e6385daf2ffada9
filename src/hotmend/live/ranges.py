"""Letting the process's own unwinder find new code: one more row in the dynamic linker's list of images.

libgcc (12 and later) asks the C library's `_dl_find_object` (2.35 and later) where the frame descriptions for an
address are. For images loaded at start that reads a sorted array that is never changed afterwards, through three
words side by side: where it begins, how many rows it has, where the last range ends. A longer copy of the array stands
in the shadow; one write of the three words makes it the one that is read. Nothing in the process is called.

Where the three words are is decoded from the code of `_dl_find_object` and proven by what they say: a row for each
image, sorted, each with exactly the table of frame descriptions that the image's program headers name. A process
where any of this is otherwise is not touched.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import MappedImage, process_images, read_program_headers
from hotmend.live.gate import FramesRecord, FunctionRecord
from hotmend.live.imports import Library
from hotmend.live.needs import Refusal, Target, link_map
from hotmend.live.safety import Forbidden
from hotmend.live.transaction import Transaction
from hotmend.model.addresses import PAGE_BYTES, page_ceil
from hotmend.model.verdict import Reason, refusal

_FINDER, _FINDER_VERSION = "_dl_find_object", "GLIBC_2.35"
_RAISE, _RAISE_VERSION = "_Unwind_RaiseException", "GCC_3.0"
_LINKER_DATA, _LINKER_DATA_VERSION = "_rtld_global_ro", "GLIBC_PRIVATE"
_LINKER_DATA_BYTES_MAX = 4096
# mov _rtld_global_ro@GOT(%rip), %rax; jmp *offset(%rax)
_FORWARDER = re.compile(rb"(?:\xf3\x0f\x1e\xfa)?\x48\x8b\x05(.{4})\xff\xa0(.{4})", re.DOTALL)
_FORWARDER_BYTES_MAX = 32
# any 64-bit mov, cmp or lea with an operand relative to rip
_OPERAND = re.compile(rb"(?=[\x48\x4c][\x8b\x3b\x39\x8d][\x05\x0d\x15\x1d\x25\x2d\x35\x3d](.{4}))", re.DOTALL)
_OPERAND_BYTES = 7
_FINDER_BYTES_MAX = 4096
_PT_GNU_EH_FRAME = 0x6474E550
_TABLE_HEAD = b"\x01\x1b\x03\x3b"
_FUNCTIONS_MAX = 1 << 20
_ROW = struct.Struct("<4Q")
_WORDS = struct.Struct("<3Q")
WORDS_BYTES = _WORDS.size
_ROWS_MAX = 4096
_ROWS_SPARE = 64
"""Rows that other updates of the process may add while a shadow stands ready."""


@dataclass(frozen=True, slots=True)
class Row:
    """One range of code: load addresses of its start and end, of its image's link map and its frame table (or 0)."""

    start: int
    end: int
    link_map: int
    table: int


@dataclass(frozen=True, slots=True)
class Ranges:
    """The list as a process has it.

    Attributes:
        address: load address of the three words.
        words: what they hold, 24 bytes.
        rows: the array.
        reader: the code that reads it, in which no thread may be while it changes.
    """

    address: int
    words: bytes
    rows: tuple[Row, ...]
    reader: FunctionRecord


@dataclass(frozen=True, slots=True)
class Room:
    """What a shadow needs for a copy of the list: whole pages in bytes, 0 where there is none; and `Ranges.address`."""

    size: int = 0
    words: int = 0


def ranges_room(targets: Sequence[Target], images: Sequence[MappedImage], memory: ProcessMemory) -> Room:
    """Return the room a shadow needs for a copy of the list.

    Raises:
        Refusal: there is none, and exceptions may have to pass new code.
    """
    wanting = [t for t in targets if t.hotpatch.unwinding is not None]
    if not wanting:
        return Room()
    libraries = link_map(images, memory)
    found = find_ranges(libraries, images, memory)
    needing = [t.hotpatch.name for t in wanting if t.hotpatch.unwinding is not None and t.hotpatch.unwinding.needed]
    objection = found if isinstance(found, str) else unwinder_objection(libraries)
    if needing and objection:
        raise Refusal(_no_way(objection, *needing))
    if isinstance(found, str):
        return Room()
    return Room(page_ceil(_ROW.size * (len(found.rows) + len(wanting) + _ROWS_SPARE)), found.address)


def _no_way(objection: str, *names: str) -> Reason:
    sentence = f"exceptions may have to pass new code, and this process's unwinder cannot be told of it: {objection}"
    return refusal("unwind-through-new-code", sentence, *names)


def unwinder_objection(libraries: Sequence[Library]) -> str:
    """Return why exceptions do not find what the list says, or ""."""
    unwinders = [library for library in libraries if library.lookup(_RAISE, _RAISE_VERSION)]
    if not unwinders:
        return "no library that unwinds is loaded"
    for library in unwinders:
        if next(library.slots(_FINDER), None) is None:
            return f"{library.soname()} does not ask {_FINDER}"
    return ""


def find_ranges(libraries: Sequence[Library], images: Sequence[MappedImage], memory: ProcessMemory) -> Ranges | str:
    """Return the list, or why it is not known where it is."""
    reader = _find_reader(libraries, images, memory)
    if isinstance(reader, str):
        return reader
    code = memory.try_read(reader.address, reader.size) or b""
    operands = {
        reader.address + m.start() + _OPERAND_BYTES + int.from_bytes(m[1], "little", signed=True)
        for m in _OPERAND.finditer(code)
    }
    found = [
        ranges
        for address in sorted(operands)
        if {address + 8, address + 16} <= operands and (ranges := _read_ranges(memory, address, reader)) is not None
    ]
    if len(found) != 1:
        return f"the code of {_FINDER} is not of a known form"
    return found[0]


def _find_reader(
    libraries: Sequence[Library], images: Sequence[MappedImage], memory: ProcessMemory
) -> FunctionRecord | str:
    """Return the dynamic linker's function behind the C library's `_dl_find_object`, or why there is none."""
    if not libraries:
        return "it has no dynamic linker"
    forwarder = next((s for lib in libraries if (s := lib.lookup(_FINDER, _FINDER_VERSION))), None)
    data = next((s for lib in libraries if (s := lib.lookup(_LINKER_DATA, _LINKER_DATA_VERSION))), None)
    if forwarder is None or data is None:
        return f"its C library has no {_FINDER}"
    code = memory.try_read(forwarder.value, _FORWARDER_BYTES_MAX) or b""
    match = _FORWARDER.match(code)
    if match is None:
        return f"the code of {_FINDER} is not of a known form"
    slot = forwarder.value + match.end(1) + int.from_bytes(match[1], "little", signed=True)
    offset = int.from_bytes(match[2], "little", signed=True)
    if _word(memory, slot) != data.value or not 0 <= offset < _LINKER_DATA_BYTES_MAX:
        return f"the code of {_FINDER} is not of a known form"
    address = _word(memory, data.value + offset)
    linker = next((image for image in images if image.start <= address < image.end), None)
    if linker is None or not linker.start <= data.value < linker.end:
        return f"{_FINDER} leads out of the dynamic linker"
    size = _function_bytes(memory, frame_table(memory, linker.start), address)
    if not 0 < size <= _FINDER_BYTES_MAX:
        return f"the extent of {_FINDER} is not known"
    return FunctionRecord(_FINDER, address, size)


def _word(memory: ProcessMemory, address: int) -> int:
    return int.from_bytes(memory.try_read(address, 8) or b"", "little")


def frame_table(memory: ProcessMemory, base: int) -> int | None:
    """Return the frame table of the image whose ELF header is at `base`; 0 without one, None if it is no image."""
    headers = read_program_headers(memory.try_read, base)
    first = next((h for h in headers if h.kind == 1), None)
    if first is None:
        return None
    bias = base - (first.address & -PAGE_BYTES)
    return next((bias + h.address for h in headers if h.kind == _PT_GNU_EH_FRAME), 0)


def _function_bytes(memory: ProcessMemory, table: int | None, start: int) -> int:
    """Return the size of the function that starts at `start`, as its frame description says; 0 where unknown."""
    head = memory.try_read(table, 12) if table else None
    if head is None or head[:4] != _TABLE_HEAD or table is None:
        return 0
    count = int.from_bytes(head[8:], "little")
    rows = memory.try_read(table + 12, 8 * count) if count <= _FUNCTIONS_MAX else None
    for row, description in struct.iter_unpack("<ii", rows or b""):
        if table + row == start:
            return int.from_bytes(memory.try_read(table + description + 12, 4) or b"", "little")
    return 0


def _read_ranges(memory: ProcessMemory, address: int, reader: FunctionRecord) -> Ranges | None:
    """Return the list behind three words; None unless every row is one that the dynamic linker would have written."""
    words = memory.try_read(address, _WORDS.size)
    if words is None or address % 8 or address % PAGE_BYTES > PAGE_BYTES - _WORDS.size:
        return None
    array, count, end = _WORDS.unpack(words)
    raw = memory.try_read(array, count * _ROW.size) if 0 < count <= _ROWS_MAX else None
    if raw is None:
        return None
    rows = tuple(Row(*row) for row in _ROW.iter_unpack(raw))
    ordered = all(row.start < row.end for row in rows) and all(a.end <= b.start for a, b in itertools.pairwise(rows))
    if not ordered or rows[-1].end != end:
        return None
    if not any(row.start <= reader.address < row.end for row in rows):
        return None
    return Ranges(address, words, rows, reader) if all(_is_sound(memory, row) for row in rows) else None


def _is_sound(memory: ProcessMemory, row: Row) -> bool:
    """Tell whether a row names its image's frame table, or that of a shadow."""
    if frame_table(memory, row.start) == row.table:
        return True
    inside = row.start <= row.table < row.end
    return inside and memory.try_read(row.table, 4) == _TABLE_HEAD and row.link_map != 0


def make_known(transaction: Transaction) -> None:
    """Add the shadows of an update to the list, where it needs that and they are not in it.

    Raises:
        Refusal: the list is not what it was when the update was planned.
        NotNowError: there was no moment in which no thread read the list.
    """
    frames = [f for record in transaction.records if (f := record.frames) is not None and f.ranges_bytes]
    if not frames:
        return
    memory = transaction.memory
    images = process_images(memory.pid, memory, disk=False).images
    found = find_ranges(link_map(images, memory), images, memory)
    if isinstance(found, str):
        raise Refusal(_no_way(found))
    missing = [f for f in frames if not any((r.start, r.end, r.table) == (f.start, f.end, f.table) for r in found.rows)]
    if not missing:
        return
    array, content = _longer(found, missing)
    memory.write_checked(array, content)
    last = _ROW.unpack_from(content, len(content) - _ROW.size)
    words = _WORDS.pack(array, len(content) // _ROW.size, last[1])
    transaction.replace_words(Forbidden([found.reader]), found.address, found.words, words)


def _longer(ranges: Ranges, missing: Sequence[FramesRecord]) -> tuple[int, bytes]:
    """Return the list with new rows, and the load address of the room in a shadow where it is to stand.

    A row names a link map that is never freed: that of the dynamic linker, whose list this is.
    """
    owner = next(row.link_map for row in ranges.rows if row.start <= ranges.reader.address < row.end)
    added = [Row(f.start, f.end, owner, f.table) for f in missing]
    rows = sorted([*ranges.rows, *added], key=lambda row: row.start)
    content = b"".join(_ROW.pack(r.start, r.end, r.link_map, r.table) for r in rows)
    in_use = _WORDS.unpack(ranges.words)[0]
    room = next((f.ranges for f in missing if f.ranges != in_use and f.ranges_bytes >= len(content)), None)
    if room is None or any(a.end > b.start for a, b in itertools.pairwise(rows)):
        raise Refusal(_no_way("its list of images is not what it was before"))
    return room, content
