"""Frame descriptions of every form that compilers write, byte by byte, and of forms that nobody writes."""

from __future__ import annotations

import struct

import pytest

from hotmend.image.frames import read_frames
from hotmend.image.image import Frame
from hotmend.model.errors import InputError

_BASE, _HDR, _TABLE = 0x400000, 0x100, 0x200
_CODE = _BASE + 0x1000

# augmentation -> its data: where a personality (P), a language area (L) and an address (R) are encoded
_PLAIN = (b"zR", b"\x1b")
_HANDLERS = (b"zPLR", b"\x9b" + bytes(4) + b"\x1b\x1b")
_WIDE_PERSONALITY = (b"zPLR", b"\x00" + bytes(8) + b"\x1b\x1b")
_SIGNAL = (b"zRS", b"\x1b")


def _memory(
    augmentation: tuple[bytes, bytes],
    areas: list[bytes],
    *,
    size: int = 16,
    rows: list[tuple[int, int]] | None = None,
    leb: bytes = b"\x01\x78\x10",
    program: bytes = b"",
) -> bytes:
    """Return an image with one description of `size` bytes of code for each of `areas`, its augmentation data."""
    text, data = augmentation
    cie = struct.pack("<IB", 0, 1) + text + b"\0" + leb + bytes([len(data)]) + data
    cie += bytes(-len(cie) % 8 + 4)
    table = struct.pack("<I", len(cie)) + cie
    found = []
    for n, area in enumerate(areas):
        at, start = _TABLE + len(table), 0x1000 + 32 * n
        found.append((start - _HDR, at - _HDR))
        body = struct.pack("<IiI", len(table) + 4, start - at - 8, size) + bytes([len(area)]) + area + program
        body += bytes(-len(body) % 8 + 4)
        table += struct.pack("<I", len(body)) + body
    header = b"\x01\x1b\x03\x3b" + struct.pack("<iI", _TABLE - _HDR - 4, len(rows or found))
    header += b"".join(struct.pack("<ii", *row) for row in (rows or found))
    memory = bytearray(0x2000)
    memory[_HDR : _HDR + len(header)] = header
    memory[_TABLE : _TABLE + len(table)] = table
    return bytes(memory)


def _frames(memory: bytes) -> tuple[Frame, ...]:
    return read_frames(memory, _BASE, _BASE + _HDR, 0x80)


@pytest.mark.parametrize("augmentation", [_PLAIN, _SIGNAL, _HANDLERS, _WIDE_PERSONALITY, (b"zRB", b"\x1b")])
@pytest.mark.parametrize("leb", [b"\x01\x78\x10", b"\x81\x00\x78\x90\x00"])
def test_extents_come_from_the_descriptions(augmentation: tuple[bytes, bytes], leb: bytes) -> None:
    found = _frames(_memory(augmentation, [b"", b""], leb=leb))
    assert [(f.extent.start, f.extent.size, f.lsda) for f in found] == [(_CODE, 16, False), (_CODE + 32, 16, False)]


@pytest.mark.parametrize("augmentation", [_HANDLERS, _WIDE_PERSONALITY])
def test_a_language_area_is_a_pointer_that_is_not_zero(augmentation: tuple[bytes, bytes]) -> None:
    memory = _memory(augmentation, [b"\x10\x20\0\0", bytes(4), b"", b"\0\0\0\x01"])
    assert [f.lsda for f in _frames(memory)] == [True, False, False, True]


def test_call_frame_instructions_are_not_taken_for_a_language_area() -> None:
    """Without augmentation data the instructions follow at once: advance, define, advance, define."""
    memory = _memory(_HANDLERS, [b"", b"\x10\x20\0\0"], program=b"\x41\x0e\x10\x42\x0e\x18")
    assert [f.lsda for f in _frames(memory)] == [False, True]


def test_augmentation_data_of_other_kinds_is_no_language_area() -> None:
    assert [f.lsda for f in _frames(_memory(_PLAIN, [b"\x10\x20\0\0"]))] == [False]


def test_empty_and_overlapping_descriptions_are_left_out() -> None:
    assert _frames(_memory(_PLAIN, [b"", b""], size=0)) == ()
    assert [f.extent.start for f in _frames(_memory(_PLAIN, [b"", b"", b""], size=33))] == [_CODE, _CODE + 64]


def test_rows_out_of_order_cannot_make_functions_overlap() -> None:
    memory = _memory(_PLAIN, [b"", b""])
    count, rows = 2, memory[_HDR + 12 : _HDR + 28]
    swapped = bytearray(memory)
    swapped[_HDR + 12 : _HDR + 28] = rows[8:] + rows[:8]
    found = _frames(bytes(swapped))
    assert [f.extent.start for f in found] == [_CODE + 32]
    assert len(_frames(memory)) == count


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (_memory((b"zR", b"\x03"), [b""]), "unknown encoding"),
        (_memory((b"zPLR", b"\x9b" + bytes(4) + b"\x1b\x00"), [b""]), "unknown encoding"),
        (_memory((b"", b""), [b""]), "augmentation"),
        (_memory((b"eh", b""), [b""]), "augmentation"),
        (_memory((b"zRX", b"\x1b"), [b""]), "augmentation"),
        (_memory(_PLAIN, [b""], rows=[(0x100, 0x100000)]), "lies outside"),
        (_memory(_PLAIN, [b""], rows=[(0x100, -0x101)]), "lies outside"),
        (_memory(_PLAIN, [b""], rows=[(0xEFF, 0x1E00)]), "common frame information|augmentation|outside"),
        (_memory(_PLAIN, [b""], rows=[(-0x1000, 0x118)]), "outside of the image"),
        (_memory(_PLAIN, [b""], size=1 << 20), "covers code outside"),
    ],
)
def test_what_nobody_writes_is_refused(memory: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _frames(memory)


@pytest.mark.parametrize(("address", "size"), [(0, 0x80), (_BASE - 4, 0x80), (_BASE + 0x1FFC, 12), (_BASE + _HDR, 8)])
def test_a_header_outside_of_the_image_is_refused(address: int, size: int) -> None:
    with pytest.raises(InputError, match="frame header lies outside"):
        read_frames(_memory(_PLAIN, [b""]), _BASE, address, size)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x7FFFFFFF, 0x2000])
def test_a_description_longer_than_the_image_is_refused(length: int) -> None:
    memory = bytearray(_memory(_PLAIN, [b""]))
    (row,) = struct.unpack_from("<i", memory, _HDR + 16)
    struct.pack_into("<I", memory, _HDR + row, length)
    with pytest.raises(InputError, match="too long"):
        _frames(bytes(memory))
