"""The bytes of a hotpatch file -> Hotpatch. Safe on hostile input.

Each offset, size and count is compared with the file's length before it is used, and what is read in total is
bounded too, so that overlapping headers cannot make a small file into a large value. What comes out has passed
`package.check`; everything else is an InputError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from hotmend.model.addresses import Extent, LinkAddress
from hotmend.model.errors import InputError
from hotmend.model.hotpatch import (
    GateTarget,
    Hotpatch,
    ImportTarget,
    OldTarget,
    Relocation,
    Segment,
    ShadowTarget,
    Target,
)
from hotmend.package import format as fmt
from hotmend.package.check import check_hotpatch

_READ_FACTOR_MAX = 4
"""How many times its own length a file may be read in total; an honest one stays below two."""


class _File:
    """Bounded access to the bytes of the file."""

    def __init__(self, data: bytes) -> None:
        if len(data) > fmt.FILE_BYTES_MAX:
            raise InputError(f"hotpatch: file of {len(data)} bytes is longer than {fmt.FILE_BYTES_MAX}")
        self._data = data
        self._budget = len(data) * _READ_FACTOR_MAX

    def take(self, offset: int, size: int, what: str) -> bytes:
        """Return `size` bytes at file offset `offset`."""
        if offset < 0 or size < 0 or size > len(self._data) or offset > len(self._data) - size:
            raise InputError(f"hotpatch: {what} lies outside the file; the file is truncated or damaged")
        self._budget -= size
        if self._budget < 0:
            raise InputError(f"hotpatch: {what} repeats parts of the file")
        return self._data[offset : offset + size]

    def table(self, layout: struct.Struct, offset: int, size: int, what: str) -> Iterator[tuple[int, ...]]:
        """Return the entries of a table of `size` bytes."""
        if size % layout.size:
            raise InputError(f"hotpatch: {what} has a size of {size} bytes")
        return layout.iter_unpack(self.take(offset, size, what))

    def text(self, table: Extent, offset: int, what: str) -> str:
        """Return the NUL-terminated string at `offset` of the string table at file offsets `table`."""
        start = table.start + offset
        end = self._data.find(b"\0", start, min(table.end, start + fmt.NAME_BYTES_MAX + 256))
        if offset < 0 or end < 0:
            raise InputError(f"hotpatch: {what} is not in the string table")
        return _text(self.take(start, end - start, what), what)


@dataclass(frozen=True, slots=True)
class _Section:
    """A section header; the name is the text, the other fields are as in the file."""

    name: str
    type: int
    address: int
    offset: int
    size: int
    link: int
    info: int


@dataclass(frozen=True, slots=True)
class _Headers:
    """All headers. Program headers are (type, flags, offset, vaddr, paddr, filesz, memsz, align), by `PHDR`."""

    programs: tuple[tuple[int, ...], ...]
    sections: tuple[_Section, ...]


def decode(data: bytes) -> Hotpatch:
    """Return the hotpatch that `data`, the whole file, holds.

    Raises:
        InputError: `data` is not a hotpatch file, or is truncated, damaged or hostile.
    """
    file = _File(data)
    headers = _read_headers(file)
    note = _read_note(file, headers)
    segments = _read_segments(file, headers)
    hotpatch = _assemble(note, segments, _read_relocations(file, headers, note))
    check_hotpatch(hotpatch)
    return hotpatch


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InputError(f"hotpatch: {what} is not UTF-8") from None


def _read_headers(file: _File) -> _Headers:
    ident, type_, machine, version, *rest = fmt.EHDR.unpack(file.take(0, fmt.EHDR.size, "ELF header"))
    if ident[:4] != fmt.IDENT[:4]:
        raise InputError("not a hotpatch file: it is no ELF file")
    if ident != fmt.IDENT or type_ != fmt.ET_DYN or machine != fmt.EM_X86_64 or version != 1:
        raise InputError("not a hotpatch file: it is no little-endian x86-64 ELF file of type DYN")
    _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = rest
    if phentsize != fmt.PHDR.size or shentsize != fmt.SHDR.size:
        raise InputError("hotpatch: header tables have entries of unknown size")
    programs = tuple(file.table(fmt.PHDR, phoff, phnum * phentsize, "program headers"))
    raw = tuple(file.table(fmt.SHDR, shoff, shnum * shentsize, "section headers"))
    if not 0 < shstrndx < len(raw):
        raise InputError("hotpatch: there are no section names")
    names = Extent(LinkAddress(raw[shstrndx][4]), raw[shstrndx][5])
    sections = tuple(
        _Section(file.text(names, name, "section name") if type_ else "", type_, address, offset, size, link, info)
        for name, type_, _, address, offset, size, link, info, _, _ in raw
    )
    return _Headers(programs, sections)


def _read_note(file: _File, headers: _Headers) -> fmt.Note:
    notes = [section for section in headers.sections if section.type == fmt.SHT_NOTE]
    if len(notes) != 1 or notes[0].name != fmt.NOTE_SECTION:
        raise InputError(f"not a hotpatch file: it has no {fmt.NOTE_SECTION}")
    offset, size = notes[0].offset, notes[0].size
    head = file.take(offset, fmt.NOTE_HEAD.size + len(fmt.NOTE_OWNER), "note")
    owner_size, text_size, type_ = fmt.NOTE_HEAD.unpack_from(head)
    if (owner_size, type_, head[fmt.NOTE_HEAD.size :]) != (len(fmt.NOTE_OWNER), fmt.NOTE_TYPE, fmt.NOTE_OWNER):
        raise InputError(f"not a hotpatch file: the note is not {fmt.NOTE_OWNER[:-1].decode()}'s")
    if text_size > size - len(head):
        raise InputError("hotpatch: the note is longer than its section")
    text = file.take(offset + len(head), text_size, "note")
    try:
        version = msgspec.json.decode(text, type=_FormatOnly).format
        if version != fmt.FORMAT_VERSION:
            message = f"hotpatch: file format {version}; this hotmend reads {fmt.FORMAT_VERSION}"
            raise InputError(message, "use the hotmend that built it, or build it again")
        return msgspec.json.decode(text, type=fmt.Note)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"hotpatch: the note is damaged: {error}") from None


class _FormatOnly(msgspec.Struct, frozen=True):
    format: int


def _read_segments(file: _File, headers: _Headers) -> tuple[Segment, ...]:
    """Return a segment for each PT_LOAD; its name is that of the section at the same address."""
    loaded = (fmt.SHT_PROGBITS, fmt.SHT_NOBITS)
    names: dict[int, str] = {}
    for section in headers.sections:
        if section.type in loaded:
            names.setdefault(section.address, section.name)
    permissions = {flags: text for text, flags in fmt.PERMISSION_FLAGS.items()}
    segments = []
    for type_, flags, offset, address, _, file_size, memory_size, _ in headers.programs:
        if type_ != fmt.PT_LOAD:
            continue
        if flags not in permissions or address not in names:
            raise InputError(f"hotpatch: the segment at {address:#x} has no section or unknown permissions")
        content = file.take(offset, file_size, f"segment at {address:#x}")
        extent = Extent(LinkAddress(address), memory_size)
        segments.append(Segment(extent, permissions[flags], content, names[address]))
    return tuple(segments)


def _read_relocations(file: _File, headers: _Headers, note: fmt.Note) -> tuple[Relocation, ...]:
    tables = [section for section in headers.sections if section.type == fmt.SHT_RELA]
    count = sum(table.size for table in tables) // fmt.RELA.size
    columns = (note.relocation_evidence, note.relocation_votes, note.relocation_addends)
    if count > fmt.RELOCATIONS_MAX or any(len(column) != count for column in columns):
        raise InputError(f"hotpatch: {count} relocations do not go with the note")
    targets = _Targets(file, headers) if tables else None
    relocations = []
    entries = (e for t in tables for e in file.table(fmt.RELA, t.offset, t.size, t.name))
    for (address, info, stored), evidence, votes, addend in zip(entries, *columns, strict=True):
        kind = fmt.RELOCATION_KINDS.get(info & 0xFFFFFFFF)
        if kind is None or not 0 <= evidence < len(note.evidence) or targets is None:
            raise InputError(f"hotpatch: the relocation at {address:#x} is of an unknown type")
        target = targets.target(info >> 32, stored, addend)
        where = LinkAddress(address)
        relocations.append(Relocation(where, kind, target, addend, note.evidence[evidence], votes))
    return tuple(relocations)


class _Targets:
    """Symbol numbers of relocations -> what they stand for."""

    def __init__(self, file: _File, headers: _Headers) -> None:
        tables = [section for section in headers.sections if section.type == fmt.SHT_SYMTAB]
        if len(tables) != 1 or not 0 < tables[0].link < len(headers.sections):
            raise InputError("hotpatch: there is no symbol table")
        strings = headers.sections[tables[0].link]
        self._file = file
        self._strings = Extent(LinkAddress(strings.offset), strings.size)
        self._symbols = tuple(file.table(fmt.SYM, tables[0].offset, tables[0].size, "symbol table"))
        self._imports: dict[int, ImportTarget] = {}
        self._old_image = tables[0].info
        self._gate = self._old_image + 1
        for number, name in (
            (fmt.NEW_IMAGE_INDEX, fmt.NEW_IMAGE),
            (self._old_image, fmt.OLD_IMAGE),
            (self._gate, fmt.GATE),
        ):
            if self._name(number) != name:
                raise InputError(f"hotpatch: the symbol {name} is missing")

    def _name(self, number: int) -> str:
        if not 0 < number < len(self._symbols):
            raise InputError(f"hotpatch: there is no symbol {number}")
        return self._file.text(self._strings, self._symbols[number][0], "symbol name")

    def target(self, symbol: int, stored: int, addend: int) -> Target:
        """Return the target of a relocation whose file addend is `stored` and whose A is `addend`."""
        if symbol == fmt.NEW_IMAGE_INDEX:
            return ShadowTarget(LinkAddress(stored - addend))
        if symbol == self._old_image:
            return OldTarget(LinkAddress(stored - addend))
        if stored != addend:
            raise InputError("hotpatch: addends differ between the relocations and the note")
        if symbol == self._gate:
            return GateTarget()
        found = self._imports.get(symbol)
        if found is None:
            found = self._imports[symbol] = self._import(symbol)
        return found

    def _import(self, symbol: int) -> ImportTarget:
        name, _, version = self._name(symbol).partition("@")
        _, info, _, section, _, _ = self._symbols[symbol]
        if section != fmt.SHN_UNDEF:
            raise InputError(f"hotpatch: the import {name} is a definition")
        return ImportTarget(name, version, info >> 4 == fmt.STB_WEAK)


def _assemble(note: fmt.Note, segments: Iterable[Segment], relocations: Iterable[Relocation]) -> Hotpatch:
    return Hotpatch(
        name=note.name,
        path=note.path,
        old_build_id=note.old_build_id,
        new_build_id=note.new_build_id,
        old_extent=note.old_extent,
        new_extent=note.new_extent,
        segments=tuple(segments),
        relocations=tuple(relocations),
        functions=note.functions,
        replaced=note.replaced,
        redirections=note.redirections,
        statistics=note.statistics,
        verdict=note.verdict,
        reasons=note.reasons,
        cves=note.cves,
        versions=note.versions,
        package=note.package,
        update_bytes=note.update_bytes,
        unwinding=note.unwinding,
        variables=note.variables,
        ports=note.ports,
        compared=note.compared,
        lazy=note.lazy,
    )
