"""Hotpatch -> the bytes of an ELF file. The layout is described in `package.format`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from hotmend.model.addresses import JUMP_BYTES, Extent
from hotmend.model.errors import InputError
from hotmend.model.hotpatch import (
    GateTarget,
    Hotpatch,
    ImportTarget,
    OldTarget,
    Relocation,
    Segment,
    ShadowTarget,
)
from hotmend.package import format as fmt
from hotmend.package.check import check_hotpatch

_CONTENT_ALIGN_BYTES = 16


@dataclass(frozen=True, slots=True)
class _Section:
    """A section header with the bytes it names."""

    name: str
    type: int
    flags: int
    address: int
    content: bytes
    size: int
    link: int = 0
    info: int = 0
    align: int = 1
    entry_bytes: int = 0


class _Strings:
    """A string table that stores each string once."""

    def __init__(self) -> None:
        self._offsets: dict[str, int] = {"": 0}
        self._blob = bytearray(1)

    def add(self, text: str) -> int:
        """Return the offset of `text`."""
        offset = self._offsets.get(text)
        if offset is None:
            offset = self._offsets[text] = len(self._blob)
            self._blob += text.encode() + b"\0"
        return offset

    def content(self) -> bytes:
        return bytes(self._blob)


def encode(hotpatch: Hotpatch) -> bytes:
    """Return the file that `decode` reads back to the same value. The same value gives the same bytes.

    Raises:
        InputError: the hotpatch breaks a rule of `package.check` or is too large.
    """
    check_hotpatch(hotpatch)
    loaded, first_section = _loaded_sections(hotpatch.segments)
    symbols = _Symbols(hotpatch, first_section)
    symtab_index = 1 + len(loaded)
    sections = loaded
    sections.append(
        _Section(
            ".symtab",
            fmt.SHT_SYMTAB,
            0,
            0,
            content := symbols.content(),
            len(content),
            link=symtab_index + 1,
            info=symbols.first_global,
            align=8,
            entry_bytes=fmt.SYM.size,
        )
    )
    sections.append(_plain(".strtab", fmt.SHT_STRTAB, symbols.strings.content()))
    sections += _relocation_sections(hotpatch, first_section, symtab_index, symbols)
    sections.append(_plain(fmt.NOTE_SECTION, fmt.SHT_NOTE, _note(hotpatch), align=fmt.NOTE_ALIGN_BYTES))
    data = _lay_out(hotpatch.segments, first_section, sections)
    if len(data) > fmt.FILE_BYTES_MAX:
        raise InputError(f"hotpatch: file of {len(data)} bytes is longer than {fmt.FILE_BYTES_MAX}")
    return data


def _plain(name: str, type_: int, content: bytes, align: int = 1) -> _Section:
    return _Section(name, type_, 0, 0, content, len(content), align=align)


def _loaded_sections(segments: tuple[Segment, ...]) -> tuple[list[_Section], list[int]]:
    """Return the sections of the segments, and for each segment the number of its first section."""
    sections: list[_Section] = []
    first: list[int] = []
    for segment in segments:
        flags = fmt.SHF_ALLOC
        flags |= fmt.SHF_EXECINSTR if segment.permissions == "r-x" else 0
        flags |= fmt.SHF_WRITE if segment.permissions == "rw-" else 0
        start, content = segment.extent.start, segment.content
        first.append(1 + len(sections))
        if content:
            sections.append(_Section(segment.section, fmt.SHT_PROGBITS, flags, start, content, len(content)))
        if rest := segment.extent.size - len(content):
            sections.append(_Section(segment.section, fmt.SHT_NOBITS, flags, start + len(content), b"", rest))
    return sections, first


class _Symbols:
    """The symbol table: local symbols first, as ELF wants it, then the undefined ones."""

    def __init__(self, hotpatch: Hotpatch, first_section: list[int]) -> None:
        self.strings = _Strings()
        self._entries = [bytes(fmt.SYM.size)]
        self._add(fmt.NEW_IMAGE, fmt.STB_LOCAL, fmt.STT_NOTYPE, fmt.SHN_ABS, 0, 0)
        for segment, section in zip(hotpatch.segments, first_section, strict=True):
            self._add("", fmt.STB_LOCAL, fmt.STT_SECTION, section, segment.extent.start, 0)
        self._add_functions(hotpatch, first_section)
        self.first_global = len(self._entries)
        self.old_image = self._add(fmt.OLD_IMAGE, fmt.STB_GLOBAL, fmt.STT_NOTYPE, fmt.SHN_UNDEF, 0, 0)
        self.gate = self._add(fmt.GATE, fmt.STB_GLOBAL, fmt.STT_NOTYPE, fmt.SHN_UNDEF, 0, 0)
        targets = {r.target for r in hotpatch.relocations if isinstance(r.target, ImportTarget)}
        self.imports = {target: self._add_import(target) for target in sorted(targets)}

    def _add(self, name: str, binding: int, type_: int, section: int, value: int, size: int) -> int:
        entry = fmt.SYM.pack(self.strings.add(name), binding << 4 | type_, 0, section, value, size)
        self._entries.append(entry)
        return len(self._entries) - 1

    def _add_functions(self, hotpatch: Hotpatch, first_section: list[int]) -> None:
        named = [(f.new, f.name) for f in hotpatch.functions]
        for redirection in hotpatch.redirections:
            named.append((redirection.near_stub, f"stub.{redirection.name}"))
            named.append((redirection.far_stub, f"stub.far.{redirection.name}"))
        named += [(Extent(port.address, JUMP_BYTES), f"port.{port.name}") for port in hotpatch.ports]
        named.sort(key=lambda pair: (pair[0].start, pair[0].size))
        number = 0
        for extent, name in named:
            while hotpatch.segments[number].extent.end <= extent.start:
                number += 1
            section = first_section[number]
            self._add(name, fmt.STB_LOCAL, fmt.STT_FUNC, section, extent.start, extent.size)

    def _add_import(self, target: ImportTarget) -> int:
        name = f"{target.name}@{target.version}" if target.version else target.name
        binding = fmt.STB_WEAK if target.weak else fmt.STB_GLOBAL
        return self._add(name, binding, fmt.STT_NOTYPE, fmt.SHN_UNDEF, 0, 0)

    def content(self) -> bytes:
        return b"".join(self._entries)

    def entry(self, relocation: Relocation) -> bytes:
        """Return the Elf64_Rela of `relocation`."""
        target, addend = relocation.target, relocation.addend
        match target:
            case OldTarget(address):
                symbol, addend = self.old_image, addend + address
            case ShadowTarget(address):
                symbol, addend = fmt.NEW_IMAGE_INDEX, addend + address
            case ImportTarget():
                symbol = self.imports[target]
            case GateTarget():
                symbol = self.gate
        info = symbol << 32 | fmt.RELOCATION_TYPES[relocation.kind]
        return fmt.RELA.pack(relocation.address, info, addend)


def _relocation_sections(
    hotpatch: Hotpatch, first_section: list[int], symtab: int, symbols: _Symbols
) -> Iterable[_Section]:
    relocations = iter(hotpatch.relocations)
    relocation = next(relocations, None)
    for segment, section in zip(hotpatch.segments, first_section, strict=True):
        entries = []
        while relocation is not None and relocation.address < segment.extent.end:
            entries.append(symbols.entry(relocation))
            relocation = next(relocations, None)
        if entries:
            content = b"".join(entries)
            yield _Section(
                ".rela" + segment.section,
                fmt.SHT_RELA,
                fmt.SHF_INFO_LINK,
                0,
                content,
                len(content),
                link=symtab,
                info=section,
                align=8,
                entry_bytes=fmt.RELA.size,
            )


def _note(hotpatch: Hotpatch) -> bytes:
    evidence = tuple(sorted({r.evidence for r in hotpatch.relocations}))
    number = {name: index for index, name in enumerate(evidence)}
    same = {name: getattr(hotpatch, name) for name in fmt.Note.__struct_fields__ if name in type(hotpatch).__slots__}
    note = fmt.Note(
        format=fmt.FORMAT_VERSION,
        evidence=evidence,
        relocation_evidence=tuple(number[r.evidence] for r in hotpatch.relocations),
        relocation_votes=tuple(r.votes for r in hotpatch.relocations),
        relocation_addends=tuple(r.addend for r in hotpatch.relocations),
        **same,
    )
    text = msgspec.json.encode(note)
    head = fmt.NOTE_HEAD.pack(len(fmt.NOTE_OWNER), len(text), fmt.NOTE_TYPE)
    return head + fmt.NOTE_OWNER + text + bytes(-len(text) % fmt.NOTE_ALIGN_BYTES)


def _lay_out(segments: tuple[Segment, ...], first_section: list[int], sections: list[_Section]) -> bytes:
    """Return the file: header, program headers, the sections' bytes, section headers."""
    names = _Strings()
    sections.append(_plain(".shstrtab", fmt.SHT_STRTAB, b""))
    name_offsets = [names.add(section.name) for section in sections]
    sections[-1] = _plain(".shstrtab", fmt.SHT_STRTAB, names.content())

    program_headers = 1 + len(segments)
    data = bytearray(fmt.EHDR.size + program_headers * fmt.PHDR.size)
    offsets = []
    for section in sections:
        wanted = section.address % _CONTENT_ALIGN_BYTES if section.address else 0
        data += bytes((wanted - len(data)) % _CONTENT_ALIGN_BYTES)
        offsets.append(len(data))
        data += section.content
    data += bytes(-len(data) % 8)
    section_table = len(data)
    data += bytes(fmt.SHDR.size)
    for section, name, offset in zip(sections, name_offsets, offsets, strict=True):
        data += fmt.SHDR.pack(
            name,
            section.type,
            section.flags,
            section.address,
            offset,
            section.size,
            section.link,
            section.info,
            section.align,
            section.entry_bytes,
        )
    _put_program_headers(data, segments, first_section, sections, offsets)
    # Nobody starts this file, but gdb warns about an entry point outside every section.
    entry = next((s.extent.start for s in segments if s.permissions == "r-x"), 0)
    header = (fmt.IDENT, fmt.ET_DYN, fmt.EM_X86_64, 1, entry, fmt.EHDR.size, section_table, 0)
    sizes = (fmt.EHDR.size, fmt.PHDR.size, program_headers, fmt.SHDR.size, 1 + len(sections), len(sections))
    fmt.EHDR.pack_into(data, 0, *header, *sizes)
    return bytes(data)


def _put_program_headers(
    data: bytearray,
    segments: tuple[Segment, ...],
    first_section: list[int],
    sections: list[_Section],
    offsets: list[int],
) -> None:
    position = fmt.EHDR.size
    for segment, section in zip(segments, first_section, strict=True):
        start = segment.extent.start
        flags = fmt.PERMISSION_FLAGS[segment.permissions]
        offset, align = offsets[section - 1], _CONTENT_ALIGN_BYTES
        sizes = (len(segment.content), segment.extent.size)
        fmt.PHDR.pack_into(data, position, fmt.PT_LOAD, flags, offset, start, start, *sizes, align)
        position += fmt.PHDR.size
    note = next(i for i, section in enumerate(sections) if section.type == fmt.SHT_NOTE)
    size = sections[note].size
    align = fmt.NOTE_ALIGN_BYTES
    fmt.PHDR.pack_into(data, position, fmt.PT_NOTE, 4, offsets[note], 0, 0, size, size, align)
