"""The reader of ELF files, on files written byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from hotmend.image import elf
from hotmend.image.elf import read_image
from hotmend.image.image import R_COPY, R_GLOB_DAT, R_JUMP_SLOT, R_RELATIVE, STT_FUNC, STT_OBJECT, Image
from hotmend.model.errors import InputError
from tests.unit.elf_maker import (
    ALLOC,
    BUILD_ID,
    DATA,
    EXEC,
    NOBITS,
    PROGBITS,
    RODATA,
    TEXT,
    WRITE,
    Library,
    Part,
    make_library,
)

_MADE = Library()


def _image(**changes: object) -> Image:
    return read_image(_MADE.but(**changes), "made.so")


def test_what_stands_in_the_file_comes_out() -> None:
    image = _image(bss=32)
    assert (image.name, image.build_id, image.fixed) == ("made.so", BUILD_ID.hex(), False)
    assert (image.extent.start, image.extent.size) == (0, 0x3000)
    assert [(s.extent.start, s.extent.size, s.file_size, s.executable, s.writable) for s in image.segments] == [
        (0, 0x1000, 0x1000, False, False),
        (TEXT, 32, 32, True, False),
        (DATA, 96, 64, False, True),
    ]
    assert image.read(TEXT, 6) == b"\xb8\x01\0\0\0\xc3"
    assert image.read(RODATA, 5) == b"text\0"
    assert image.read(DATA + 64, 32) == bytes(32)
    assert [(f.extent.start, f.extent.size, f.lsda) for f in image.frames] == [(TEXT, 6, False), (TEXT + 16, 6, False)]
    assert [(s.name, s.value, s.kind, s.defined, s.dynamic) for s in image.symbols] == [
        ("one", TEXT, STT_FUNC, True, True)
    ]
    assert image.names == {TEXT: "one"}
    assert image.file_bytes == len(_MADE.but(bss=32))


def test_addresses_have_the_permissions_of_their_segment() -> None:
    image = _image()
    assert [image.permissions_at(a) for a in (0, TEXT, DATA, 0x8000)] == ["r--", "r-x", "rw-", ""]


def test_addresses_have_the_section_that_holds_them() -> None:
    image = _image()
    found = [image.section_at(a) for a in (RODATA, RODATA + 9, RODATA + 10, DATA, 0x10)]
    assert [s.name if s else None for s in found] == [".rodata", ".rodata", None, ".data", None]


def test_a_file_on_disk_is_named_after_itself(tmp_path: Path) -> None:
    path = tmp_path / "libthing.so.1"
    path.write_bytes(make_library())
    assert read_image(path).name == "libthing.so.1"


def test_relocations_fill_slots_and_pointers() -> None:
    image = _image(
        imports=("puts", "environ"),
        relocations=(
            (DATA + 24, R_COPY, 3, 0),
            (DATA + 8, R_GLOB_DAT, 2, 0),
            (DATA, R_RELATIVE, 0, TEXT + 16),
            (DATA + 16, R_JUMP_SLOT, 2, 0),
            (DATA + 32, R_GLOB_DAT, 1, 0),
        ),
    )
    assert image.relocations.address.tolist() == [DATA, DATA + 8, DATA + 16, DATA + 24, DATA + 32]
    assert image.pointers == {DATA: TEXT + 16}
    slots = image.slots
    assert {a: (s.name, s.kind, s.symbol_defined) for a, s in slots.items()} == {
        DATA + 8: ("puts", R_GLOB_DAT, False),
        DATA + 16: ("puts", R_JUMP_SLOT, False),
        DATA + 24: ("environ", R_COPY, False),
        DATA + 32: ("one", R_GLOB_DAT, True),
    }
    assert slots[DATA + 8].identity == slots[DATA + 16].identity != slots[DATA + 24].identity


def test_packed_relocations_are_expanded() -> None:
    """Generic ABI: an even word is an address; bit i of an odd one is the word i - 1 places behind the last."""
    data = struct.pack("<4Q", TEXT, TEXT + 16, RODATA, 0) + struct.pack("<Q", RODATA + 5) + bytes(24)
    image = _image(data=data, relr=(DATA, 0b1011))
    assert image.relocations.relr.tolist() == [DATA, DATA + 8, DATA + 24]
    assert image.pointers == {DATA: TEXT, DATA + 8: TEXT + 16, DATA + 24: 0}


def test_a_second_bitmap_stands_63_words_further() -> None:
    data = bytes(64 * 8 + 16)
    image = _image(data=data, relr=(DATA, 1, 0b11))
    assert image.relocations.relr.tolist() == [DATA, DATA + 64 * 8]


def test_exported_data_has_its_kind() -> None:
    (symbol,) = _image(exports={"state": (DATA, 8, STT_OBJECT)}).symbols
    assert (symbol.kind, symbol.value, symbol.size) == (STT_OBJECT, DATA, 8)


def _hdr(content: bytes) -> dict[str, Part | None]:
    return {".eh_frame_hdr": Part(".eh_frame_hdr", PROGBITS, ALLOC, 0x800, content)}


def _with(part: Part) -> dict[str, Part | None]:
    return {part.name: part}


_PHDR = 64
_DAMAGE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "not an ELF file"),
    "a script": (lambda: b"#!/bin/sh\n", "not an ELF file"),
    "only the magic": (lambda: b"\x7fELF", "damaged"),
    "32 bit": (lambda: _MADE.but(header={4: b"\x01"}), "damaged|not x86-64"),
    "big endian": (lambda: _MADE.but(header={5: b"\x02"}), "damaged|not x86-64"),
    "aarch64": (lambda: _MADE.but(header={18: b"\xb7\0"}), "not x86-64 but EM_AARCH64"),
    "an object file": (lambda: _MADE.but(header={16: b"\x01\0"}), "ET_REL"),
    "a core": (lambda: _MADE.but(header={16: b"\x04\0"}), "ET_CORE"),
    "no section headers": (lambda: _MADE.but(header={40: bytes(8), 60: bytes(4)}), "section headers"),
    "too many section headers": (lambda: _MADE.but(header={60: b"\x01\x10"}), "4097 section headers"),
    "half of it": (lambda: make_library()[:0x1800], "."),
    "without its end": (lambda: make_library()[:-1], "damaged"),
    "a segment past the end": (
        lambda: _MADE.but(header={_PHDR + 32: struct.pack("<QQ", 1 << 20, 1 << 20)}),
        "a segment ends at 0x100000",
    ),
    "a segment larger in the file": (lambda: _MADE.but(header={_PHDR + 40: struct.pack("<Q", 0x800)}), "truncated"),
    "a huge segment": (
        lambda: _MADE.but(header={_PHDR + 56 * 2 + 40: struct.pack("<Q", 1 << 40)}), "more than 536870912",
    ),
    "overlapping segments": (lambda: _MADE.but(header={_PHDR + 40: struct.pack("<Q", 0x1001)}), "overlap"),
    "nothing to load": (
        lambda: _MADE.but(header={_PHDR + 56 * n: bytes(4) for n in range(3)}), "nothing to load",
    ),
    "a section past the end": (
        lambda: _MADE.but(parts=_with(Part(".more", PROGBITS, 0, 0x100, b"", size=1 << 20))),
        "section .more ends at 0x100100",
    ),
    "a section outside of memory": (
        lambda: _MADE.but(parts=_with(Part(".more", NOBITS, ALLOC | WRITE, 0x2100, b"", size=1 << 62))),
        "section .more .*outside of the segments",
    ),
    "overlapping sections": (
        lambda: _MADE.but(parts=_with(Part(".more", PROGBITS, ALLOC, RODATA + 1, b"xx"))), "overlaps another",
    ),
    "code in data": (
        lambda: _MADE.but(parts=_with(Part(".more", PROGBITS, ALLOC | EXEC, DATA + 0x100, b"\xc3"))),
        "code outside of an executable segment",
    ),
    "endless PLT in bss": (
        lambda: _MADE.but(bss=1 << 20, parts=_with(Part(".plt", NOBITS, ALLOC | EXEC, DATA + 64, b"", size=1 << 20)),),
        "overlaps|outside",
    ),
    "no build-id": (lambda: _MADE.but(build_id=None), "no build-id"),
    "a note whose name does not end": (
        lambda: _MADE.but(parts=_with(Part(".note.gnu.build-id", 7, ALLOC, 0x200, b"\4\0\0\0" + bytes(8) + b"GNUX"))),
        "damaged",
    ),
    "no frame information": (lambda: _MADE.but(parts={".eh_frame_hdr": None}), "no frame information"),
    "frames in another encoding": (lambda: _MADE.but(parts=_with(_hdr_part(b"\x01\x1b\x03\x1b"))), "unknown encoding"),
    "frames of another version": (lambda: _MADE.but(parts=_with(_hdr_part(b"\x02\x1b\x03\x3b"))), "unknown encoding"),
    "a frame header without room": (lambda: _MADE.but(parts=_hdr(b"\x01\x1b\x03\x3b")), "outside"),
    "more frames than fit": (lambda: _MADE.but(frames_stated=3), "lists 3 entries in 28 bytes"),
    "a frame outside of memory": (lambda: _MADE.but(functions=((0x9000, 6),)), "outside of the image"),
    "a frame that covers data": (lambda: _MADE.but(functions=((DATA, 6),)), "covers what is not code"),
    "a frame longer than its segment": (lambda: _MADE.but(functions=((TEXT, 64),)), "covers what is not code"),
    "a symbol index out of range": (
        lambda: _MADE.but(relocations=((DATA, R_GLOB_DAT, 2, 0),)), "names a symbol that does not exist",
    ),
    "a symbol index without symbols": (
        lambda: _MADE.but(relocations=((DATA, R_GLOB_DAT, 1, 0),), parts={".dynsym": None}),
        "names a symbol that does not exist",
    ),
    "a relocation outside of memory": (
        lambda: _MADE.but(relocations=((0x7000, R_RELATIVE, 0, 0),)), "relocation lies outside",
    ),
    "a relocation that wraps around": (
        lambda: _MADE.but(relocations=(((1 << 64) - 8, R_RELATIVE, 0, 0),)), "relocation lies outside",
    ),
    "a packed relocation outside of memory": (lambda: _MADE.but(relr=(0x7000,)), "relocation lies outside"),
    "a packed relocation that wraps around": (lambda: _MADE.but(relr=((1 << 64) - 8,)), "."),
    "a symbol beyond all addresses": (
        lambda: _MADE.but(exports={"far": ((1 << 64) - 8, 8, STT_OBJECT)}), "lies outside of what can be addressed",
    ),
    "a name outside of the strings": (
        lambda: _MADE.but(header={0x300 + 24: struct.pack("<I", 1 << 20)}), "symbol 1 in .dynsym",
    ),
}  # fmt: skip


def _hdr_part(head: bytes) -> Part:
    return Part(".eh_frame_hdr", PROGBITS, ALLOC, 0x800, head + bytes(24))


@pytest.mark.parametrize("what", list(_DAMAGE))
def test_damaged_files_are_refused_with_what_is_wrong(what: str) -> None:
    make, message = _DAMAGE[what]
    with pytest.raises(InputError, match=message):
        read_image(make(), "made.so")


def test_names_and_places_of_the_refusals_above_are_the_only_thing_wrong() -> None:
    """The same files without the damage are read, so that each refusal has the cause its test says."""
    assert _image(frames_stated=2).frames == _image().frames
    assert _image(relocations=((DATA, R_GLOB_DAT, 1, 0),)).slots[DATA].name == "one"
    assert _image(parts=_with(Part(".more", PROGBITS, ALLOC, RODATA + 10, b"xx"))).section_at(RODATA + 10) is not None
    assert _image(parts=_with(Part(".more", PROGBITS, ALLOC | EXEC, TEXT + 32, b""))).frames


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            read_image(path)


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate((1 << 30) + 1)
    with pytest.raises(InputError, match="larger than"):
        read_image(path)


def test_versions_that_lead_to_each_other_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """`.gnu.version_r` states how many there are; each may name itself as the next one."""
    monkeypatch.setattr(elf, "_VERSIONS_MAX", 50)
    version = struct.pack("<HHIII", 1, 1, 1, 16, 0) + struct.pack("<IHHII", 0, 0, 2, 1, 0)
    needed = Part(".gnu.version_r", 0x6FFFFFFE, ALLOC, 0xE00, version, link=2)
    blob = bytearray(_MADE.but(parts=_with(needed)))
    table = int.from_bytes(blob[40:48], "little")
    count = int.from_bytes(blob[60:62], "little")
    info = table + 64 * (count - 2) + 44
    blob[info : info + 4] = struct.pack("<I", 40)
    assert read_image(bytes(blob)).frames
    blob[info : info + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(InputError, match="more than 50 symbol versions"):
        read_image(bytes(blob))


@pytest.mark.parametrize("names", [1, 4])
def test_symbols_may_not_share_endless_names(names: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elf, "_NAMES_BYTES_MAX", 30)
    exports = {"n" * 9 + str(n): (TEXT, 6, 2) for n in range(names)}
    if names == 1:
        assert len(_image(exports=exports).symbols) == 1
    else:
        with pytest.raises(InputError, match="too long"):
            _image(exports=exports)
