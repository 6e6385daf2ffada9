"""The frame descriptions of a shadow as one `.eh_frame` section of its own, for unwinders that read files.

In the shadow the descriptions are islands at the new build's addresses, and only the sorted table leads to them. libdw
and gdb read a section from its beginning to its end. It is written anew: one CIE and one FDE for each function, with
the rules for registers as they are, without personality routines and exception tables, which only the process needs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Read = Callable[[int, int], bytes | None]
"""Read `(load address, bytes)`; None where they are not all there."""

_TABLE_HEAD = b"\x01\x1b\x03\x3b"
_PC_RELATIVE = 0x1B
_FUNCTIONS_MAX = 500_000
_DESCRIPTION_BYTES_MAX = 1 << 16
_POINTER_BYTES = {0x00: 8, 0x03: 4, 0x04: 8, 0x0B: 4, 0x0C: 8, 0x1B: 4, 0x9B: 4, 0x1C: 8, 0x9C: 8}

# What follows an instruction's first byte: b, h, w: 1, 2, 4 bytes; u: a LEB128 number; x: a length and so many bytes
_OPERANDS = {
    0x00: "", 0x02: "b", 0x03: "h", 0x04: "w", 0x05: "uu", 0x06: "u", 0x07: "u", 0x08: "u", 0x09: "uu", 0x0A: "",
    0x0B: "", 0x0C: "uu", 0x0D: "u", 0x0E: "u", 0x0F: "x", 0x10: "ux", 0x11: "uu", 0x12: "uu", 0x13: "u", 0x14: "uu",
    0x15: "uu", 0x16: "ux", 0x2D: "", 0x2E: "u", 0x2F: "uu",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FrameDescription:
    """How the frames of one function are left.

    Attributes:
        start, size: the code; load address and bytes.
        common: what the CIE says of alignments and the column of the return address, as its bytes.
        signal: whether a signal handler returns into it.
        initial: the instructions of the CIE.
        instructions: those of the FDE.
    """

    start: int
    size: int
    common: bytes
    signal: bool
    initial: bytes
    instructions: bytes


def read_descriptions(read: Read, table: int) -> Iterator[FrameDescription]:
    """Yield the descriptions that the sorted table at load address `table` leads to; unknown forms are left out."""
    head = read(table, 12)
    if head is None or head[:4] != _TABLE_HEAD:
        return
    count = int.from_bytes(head[8:], "little")
    rows = read(table + 12, 8 * count) if count <= _FUNCTIONS_MAX else None
    for start, description in struct.iter_unpack("<ii", rows or b""):
        try:
            found = _read_description(read, table + start, table + description)
        except (ValueError, IndexError):
            continue
        yield found


def _entry(read: Read, address: int) -> bytes:
    """Return what stands behind the length of an entry."""
    size = int.from_bytes(read(address, 4) or b"", "little")
    content = read(address + 4, size) if 12 <= size <= _DESCRIPTION_BYTES_MAX else None
    if content is None:
        raise ValueError("no entry")
    return content


def _read_description(read: Read, start: int, address: int) -> FrameDescription:
    entry = _entry(read, address)
    distance, begin, size = struct.unpack_from("<IiI", entry)
    if address + 8 + begin != start:
        raise ValueError("a description of another function")
    common, signal, initial = _read_common(_entry(read, address + 4 - distance))
    room, position = _uleb(entry, 12)
    instructions = entry[position + room :]
    _check(instructions)
    return FrameDescription(start, size, common, signal, initial, instructions)


def _read_common(entry: bytes) -> tuple[bytes, bool, bytes]:
    """Return alignments and return column, whether it is a signal's frame, and the instructions of a CIE."""
    end = entry.index(b"\0", 5)
    augmentation = entry[5:end].decode("ascii")
    if entry[:4] != bytes(4) or entry[4] not in (1, 3) or not augmentation.startswith("z"):
        raise ValueError("an unknown form")
    position = end + 1
    for _ in range(3):
        _, position = _uleb(entry, position)
    common = entry[end + 1 : position]
    room, position = _uleb(entry, position)
    _check_encoding(augmentation, entry[position : position + room])
    initial = entry[position + room :]
    _check(initial)
    return common, "S" in augmentation, initial


def _check_encoding(augmentation: str, data: bytes) -> None:
    """Raise `ValueError` unless addresses of code are counted from their field."""
    position = 0
    for letter in augmentation[1:]:
        if letter == "R":
            if data[position] != _PC_RELATIVE:
                raise ValueError("addresses in another encoding")
            return
        if letter == "P":
            position += 1 + _POINTER_BYTES[data[position]]
        elif letter == "L":
            position += 1
        elif letter not in "SB":
            break
    raise ValueError("no encoding of addresses")


def _uleb(content: bytes, position: int) -> tuple[int, int]:
    """Return a LEB128 number and where it ends."""
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position


def _check(instructions: bytes) -> None:
    """Raise `ValueError` for an instruction that names an address (`DW_CFA_set_loc`) or that nobody knows."""
    position = 0
    while position < len(instructions):
        byte = instructions[position]
        position += 1
        if byte & 0xC0:
            operands = "u" if byte & 0xC0 == 0x80 else ""
        elif byte in _OPERANDS:
            operands = _OPERANDS[byte]
        else:
            raise ValueError("an instruction that cannot be moved")
        for kind in operands:
            if kind in "bhw":
                position += {"b": 1, "h": 2, "w": 4}[kind]
                continue
            value, position = _uleb(instructions, position)
            position += value if kind == "x" else 0


def section_of(descriptions: Iterator[FrameDescription], address: int) -> bytes:
    """Return `.eh_frame` contents for load address `address`, with the zero word that ends it."""
    content = bytearray()
    commons: dict[tuple[bytes, bool, bytes], int] = {}
    for d in descriptions:
        key = d.common, d.signal, d.initial
        if key not in commons:
            augmentation = b"zRS\0" if d.signal else b"zR\0"
            body = bytes(4) + b"\x01" + augmentation + d.common + b"\x01" + bytes([_PC_RELATIVE]) + d.initial
            commons[key] = len(content)
            content += _padded(body)
        here = len(content)
        begin = d.start - (address + here + 8)
        body = struct.pack("<IiI", here + 4 - commons[key], begin, d.size) + b"\0" + d.instructions
        content += _padded(body)
    return bytes(content) + bytes(4)


def _padded(body: bytes) -> bytes:
    body += bytes(-(len(body) + 4) % 8)  # DW_CFA_nop
    return len(body).to_bytes(4, "little") + body
