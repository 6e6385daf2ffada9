"""Function extents from `.eh_frame_hdr` and the heads of the frame descriptions.

They are present even in stripped builds, since exceptions and backtraces need them (LSB Core, section 10.6).
Only the heads are read: a general parser of call frame information costs ten times the decoding of the code.
"""

from __future__ import annotations

import struct

import numpy as np

from hotmend.image.image import Frame
from hotmend.model.addresses import Extent, LinkAddress
from hotmend.model.errors import InputError

_PCREL_SDATA4 = 0x1B
_DATAREL_SDATA4 = 0x3B
_FRAMES_MAX = 4_000_000


def read_frames(memory: bytes, base: int, address: int, size: int) -> tuple[Frame, ...]:
    """Return one frame for each frame description, sorted by start, without overlaps.

    Args:
        memory: the image, flat.
        base: link address of `memory[0]`.
        address: link address of `.eh_frame_hdr`.
        size: its size in bytes.

    Raises:
        InputError: an encoding nobody uses, or a table that leaves the image.
    """
    at = address - base
    if at < 0 or size < 12 or at + size > len(memory):
        raise InputError("frame header lies outside of the image")
    version, _, count_encoding, table_encoding = memory[at : at + 4]
    if version != 1 or count_encoding != 3 or table_encoding != _DATAREL_SDATA4:
        raise InputError(f"frame header in an unknown encoding ({count_encoding:#x}, {table_encoding:#x})")
    (count,) = struct.unpack_from("<I", memory, at + 8)
    if count > _FRAMES_MAX or 12 + count * 8 > size:
        raise InputError(f"frame header lists {count} entries in {size} bytes")
    rows = np.frombuffer(memory, "<i4", count * 2, at + 12).reshape(-1, 2).astype(np.int64) + address
    cies: dict[int, bool] = {}
    result: list[Frame] = []
    for start, description in rows.tolist():
        frame = _frame(memory, base, start, description, cies)
        if frame.extent.size and (not result or result[-1].extent.end <= start):
            result.append(frame)
    return tuple(result)


def _frame(memory: bytes, base: int, start: int, description: int, cies: dict[int, bool]) -> Frame:
    at = description - base
    if not 0 <= at <= len(memory) - 24:
        raise InputError(f"frame description at {description:#x} lies outside of the image")
    length, cie_distance, _, extent = struct.unpack_from("<IIiI", memory, at)
    if length == 0xFFFFFFFF or at + 4 + length > len(memory):
        raise InputError(f"frame description at {description:#x} is too long")
    cie = at + 4 - cie_distance
    if cie not in cies:
        cies[cie] = _has_lsda(memory, cie)
    lsda = False
    if cies[cie]:
        (augmentation_bytes,) = struct.unpack_from("<B", memory, at + 16)
        lsda = augmentation_bytes >= 4 and memory[at + 17 : at + 21] != b"\0\0\0\0"
    if start < base or start - base + extent > len(memory):
        raise InputError(f"frame description at {description:#x} covers code outside of the image")
    return Frame(Extent(LinkAddress(start), extent), LinkAddress(description), lsda)


def _has_lsda(memory: bytes, at: int) -> bool:
    """Return whether descriptions of the CIE at `at` carry a language specific area; check its encoding."""
    if not 0 <= at <= len(memory) - 16:
        raise InputError("common frame information lies outside of the image")
    end = memory.find(b"\0", at + 9, at + 32)
    augmentation = memory[at + 9 : end]
    if end < 0 or augmentation[:1] != b"z":
        raise InputError(f"frame information with augmentation {augmentation!r}")
    position = end + 1
    for _ in range(3):  # code alignment, data alignment, return register: LEB128 each
        while memory[position] & 0x80:
            position += 1
        position += 1
    position += 1  # length of the augmentation data: below 128
    for letter in augmentation[1:].decode("ascii", "replace"):
        if letter == "R":
            if memory[position] != _PCREL_SDATA4:
                raise InputError(f"frame addresses in an unknown encoding ({memory[position]:#x})")
            position += 1
        elif letter == "P":
            position += 1 + (8 if memory[position] & 15 in (0, 4, 12) else 4)
        elif letter == "L":
            position += 1
        elif letter not in "SB":
            raise InputError(f"frame information with augmentation {augmentation!r}")
    return b"L" in augmentation
