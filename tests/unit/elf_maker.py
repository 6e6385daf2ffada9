"""ELF libraries for tests, byte by byte: what stands at which address is what the test says.

File offsets equal link addresses. One page each: headers and tables (r--), code (r-x), data (rw-); the section
headers follow behind.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

TEXT, DATA, RODATA = 0x1000, 0x2000, 0xC00
_DYNSYM, _DYNSTR, _RELA, _HDR, _FRAMES = 0x300, 0x500, 0x600, 0x800, 0x900
_HEADERS = 0x3000
BUILD_ID = bytes(range(20))
PROGBITS, NOTE, NOBITS, STRTAB, RELA, DYNSYM, RELR = 1, 7, 8, 3, 4, 11, 19
ALLOC, WRITE, EXEC = 2, 1, 4


@dataclass(frozen=True)
class Part:
    """A section; `size` is what its header states, the content's own size when None."""

    name: str
    kind: int
    flags: int
    address: int
    content: bytes
    entry_size: int = 0
    size: int | None = None
    link: int = 0


@dataclass(frozen=True)
class Library:
    """What `make_library` writes; the defaults are a library that the reader accepts.

    Attributes:
        text: bytes of the code page.
        functions: (address, size) of each frame description.
        exports: name -> (address, size, STT_ number).
        imports: names, behind the exports in the symbol table.
        relocations: (address, type, symbol, addend) as in the file.
        relr: words of the packed table.
        parts: replaced (by name) or added sections; a value of None removes one.
        header: offset -> bytes written over the finished file.
    """

    text: bytes = b"\xb8\x01\0\0\0\xc3" + b"\xcc" * 10 + b"\xb8\x02\0\0\0\xc3" + b"\xcc" * 10
    functions: Sequence[tuple[int, int]] = ((TEXT, 6), (TEXT + 16, 6))
    exports: Mapping[str, tuple[int, int, int]] = field(default_factory=lambda: {"one": (TEXT, 6, 2)})
    imports: Sequence[str] = ()
    relocations: Sequence[tuple[int, int, int, int]] = ()
    relr: Sequence[int] = ()
    rodata: bytes = b"text\0more\0"
    data: bytes = bytes(64)
    bss: int = 0
    build_id: bytes | None = BUILD_ID
    frames_stated: int | None = None
    parts: Mapping[str, Part | None] = field(default_factory=dict)
    header: Mapping[int, bytes] = field(default_factory=dict)

    def but(self, **changes: object) -> bytes:
        """Return the file with some attributes changed."""
        return make_library(replace(self, **changes))  # type: ignore[arg-type]


def make_library(library: Library | None = None) -> bytes:
    """Return the bytes of a shared library."""
    spec = library or Library()
    parts = {p.name: p for p in _parts(spec)}
    for name, part in spec.parts.items():
        if part is None:
            parts.pop(name)
        else:
            parts[name] = part
    blob = bytearray(_HEADERS)
    for p in parts.values():
        if p.kind != NOBITS:
            blob[p.address : p.address + len(p.content)] = p.content
    assert len(blob) == _HEADERS, "a section leaves its page"
    names, headers = b"\0", struct.pack("<IIQQQQIIQQ", *[0] * 10)
    strings = b"\0" + b"".join(name.encode() + b"\0" for name in (*parts, ".shstrtab"))
    blob += strings
    for p in (*parts.values(), Part(".shstrtab", STRTAB, 0, _HEADERS, strings)):
        address = p.address if p.flags & ALLOC else 0
        size = len(p.content) if p.size is None else p.size
        headers += struct.pack(
            "<IIQQQQIIQQ", len(names), p.kind, p.flags, address, p.address, size, p.link, 0, 1, p.entry_size
        )
        names += p.name.encode() + b"\0"
    segments = ((4, 0, 0x1000, 0x1000), (5, TEXT, len(spec.text), len(spec.text)))
    data = (6, DATA, len(spec.data), len(spec.data) + spec.bss)
    program = b"".join(
        struct.pack("<IIQQQQQQ", 1, flags, start, start, start, in_file, size, 0x1000)
        for flags, start, in_file, size in (*segments, data)
    )
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = len(parts) + 2
    blob[:64] = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, len(blob), 0, 64, 56, 3, 64, count, count - 1)
    blob[64 : 64 + len(program)] = program
    blob += headers
    for at, content in spec.header.items():
        blob[at : at + len(content)] = content
    return bytes(blob)


def _parts(spec: Library) -> list[Part]:
    strings, symbols = b"\0", bytes(24)
    for name, (value, size, kind) in spec.exports.items():
        symbols += struct.pack("<IBBHQQ", len(strings), 1 << 4 | kind, 0, 5, value, size)
        strings += name.encode() + b"\0"
    for name in spec.imports:
        symbols += struct.pack("<IBBHQQ", len(strings), 1 << 4, 0, 0, 0, 0)
        strings += name.encode() + b"\0"
    rela = b"".join(struct.pack("<QIIq", at, kind, symbol, addend) for at, kind, symbol, addend in spec.relocations)
    hdr, frames = _frame_tables(spec)
    parts = [
        Part(".dynsym", DYNSYM, ALLOC, _DYNSYM, symbols, 24, link=2),
        Part(".dynstr", STRTAB, ALLOC, _DYNSTR, strings),
        Part(".eh_frame_hdr", PROGBITS, ALLOC, _HDR, hdr),
        Part(".eh_frame", PROGBITS, ALLOC, _FRAMES, frames),
        Part(".text", PROGBITS, ALLOC | EXEC, TEXT, spec.text),
        Part(".rodata", PROGBITS, ALLOC, RODATA, spec.rodata),
        Part(".data", PROGBITS, ALLOC | WRITE, DATA, spec.data),
    ]
    if spec.build_id is not None:
        note = struct.pack("<III", 4, len(spec.build_id), 3) + b"GNU\0" + spec.build_id
        parts.append(Part(".note.gnu.build-id", NOTE, ALLOC, 0x200, note))
    if rela:
        parts.append(Part(".rela.dyn", RELA, ALLOC, _RELA, rela, 24, link=1))
    if spec.relr:
        parts.append(Part(".relr.dyn", RELR, ALLOC, 0x700, struct.pack(f"<{len(spec.relr)}Q", *spec.relr), 8))
    if spec.bss:
        parts.append(Part(".bss", NOBITS, ALLOC | WRITE, DATA + len(spec.data), b"", size=spec.bss))
    return parts


def _frame_tables(spec: Library) -> tuple[bytes, bytes]:
    """Return `.eh_frame_hdr` and `.eh_frame` with one CIE (`zR`, pc-relative) and one description per function."""
    cie = struct.pack("<IIB", 20, 0, 1) + b"zR\0\x01\x78\x10\x01\x1b" + bytes(7)
    frames, rows = cie, []
    for start, size in spec.functions:
        at = _FRAMES + len(frames)
        rows.append((start - _HDR, at - _HDR))
        frames += struct.pack("<IIiI", 20, len(frames) + 4, start - at - 8, size) + bytes(8)
    count = len(rows) if spec.frames_stated is None else spec.frames_stated
    hdr = b"\x01\x1b\x03\x3b" + struct.pack("<iI", _FRAMES - _HDR - 4, count)
    return hdr + b"".join(struct.pack("<ii", *row) for row in rows), frames + bytes(4)
