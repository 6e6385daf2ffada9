"""Read an ELF image for comparison. The only user of the ELF library.

Headers, dynamic strings and symbol versions come from pyelftools; the big tables (symbols, relocations) are
read as arrays, because a library such as libcrypto has tens of thousands of them. Every size that the file
states is checked against the file before it is believed.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.dynamic import DynamicSection, DynamicTag
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import (
    GNUVerDefSection,
    GNUVerNeedSection,
    GNUVerSymSection,
    Version,
    VersionAuxiliary,
)
from elftools.elf.sections import NoteSection

from hotmend.image.frames import read_frames
from hotmend.image.image import (
    IMAGE_BYTES_MAX,
    STT_FUNC,
    STT_OBJECT,
    Frame,
    Image,
    LoadSegment,
    Relocations,
    Section,
    Symbol,
)
from hotmend.model.addresses import BuildId, Extent, FileOffset, LinkAddress, page_ceil, page_floor
from hotmend.model.errors import InputError

_Item = TypeVar("_Item")

_RELA = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
_SYM = np.dtype([("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"), ("value", "<u8"), ("size", "<u8")])
_PF_X, _PF_W = 1, 2
_SHF_ALLOC = 2
_DF_TEXTREL = 4
_SECTIONS_MAX = 4096
_SHF_EXECINSTR = 4
_SHF_TLS = 0x400
_FILE_BYTES_MAX = 1 << 30
_TAGS_MAX = 4096
_VERSIONS_MAX = 65536
_NAME_BYTES_MAX = 1 << 16
_NAMES_BYTES_MAX = 1 << 28
"""Of all symbols together: many may share the text of one."""
_ADDRESS_MAX = (1 << 63) - 1
_DAMAGED = (
    ELFError,
    ConstructError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    UnicodeError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    EOFError,
)
"""The library reports hostile headers in all these ways; to the caller they are one thing."""


def read_image(source: Path | str | bytes, name: str = "") -> Image:
    """Read the ELF image in a file or in memory.

    Args:
        source: a path, or the bytes of the file.
        name: what to call it; the base name of the path when empty.

    Raises:
        InputError: the file cannot be read, is not ELF, not x86-64, truncated, contradicts itself, has no
            build-id, no section headers or no frame information.
    """
    if isinstance(source, bytes):
        data = source
    else:
        path = Path(source)
        name = name or path.name
        try:
            if path.stat().st_size > _FILE_BYTES_MAX:
                raise InputError(f"{path}: larger than {_FILE_BYTES_MAX} bytes")
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
    if data[:4] != b"\x7fELF":
        raise InputError(f"{name}: not an ELF file", "give an executable or a shared library, or a .deb")
    try:
        return _read(data, name)
    except (AttributeError, AssertionError, MemoryError, EOFError) as error:
        raise InputError(f"{name}: damaged ELF file ({type(error).__name__})") from error
    except _DAMAGED as error:
        raise InputError(f"{name}: damaged ELF file ({error})") from error


def read_static_symbols(path: Path) -> tuple[Symbol, ...]:
    """Return the functions and objects that the symbol table of a debug file names.

    Raises:
        InputError: the file cannot be read or is damaged.
    """
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise InputError(f"{path}: larger than {_FILE_BYTES_MAX} bytes")
        data = path.read_bytes()
        table = _symbol_table(data, _sections(ELFFile(io.BytesIO(data)), data, path.name), ".symtab", ".strtab", {}, [])
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except _DAMAGED as error:
        raise InputError(f"{path}: damaged ELF file ({type(error).__name__})") from error
    return tuple(s for s in table if s.name and s.defined and s.kind in (STT_FUNC, STT_OBJECT))


def _read(data: bytes, name: str) -> Image:
    elf = ELFFile(io.BytesIO(data))
    _check_header(elf, name)
    segments = _segments(elf, data, name)
    sections = _sections(elf, data, name)
    extent, memory = _flatten(data, segments, name)
    _check_places(segments, sections, extent, name)
    table, symbols = _symbols(elf, data, sections)
    tls = next((s for s in elf.iter_segments() if s["p_type"] == "PT_TLS"), None)
    relro = next((s for s in elf.iter_segments() if s["p_type"] == "PT_GNU_RELRO"), None)
    hdr = next((s for s in sections if s.name == ".eh_frame_hdr"), None)
    if hdr is None:
        raise InputError(
            f"{name}: no frame information (.eh_frame_hdr)", "the functions of such an image cannot be told apart"
        )
    relocations = _relocations(data, sections, table, extent)
    frames = read_frames(memory, extent.start, hdr.address, hdr.size)
    _check_frames(frames, segments, name)
    return Image(
        name=name,
        build_id=_build_id(elf, name),
        fixed=elf["e_type"] == "ET_EXEC",
        entry=LinkAddress(elf["e_entry"]),
        extent=extent,
        memory=memory,
        segments=segments,
        sections=sections,
        relro=Extent(LinkAddress(relro["p_vaddr"]), relro["p_memsz"]) if relro else Extent(LinkAddress(0), 0),
        tls=(tls["p_vaddr"], tls["p_filesz"], tls["p_memsz"], tls["p_align"]) if tls else (0, 0, 0, 0),
        soname=_dynamic(elf, "DT_SONAME"),
        needed=tuple(_dynamic_all(elf, "DT_NEEDED")),
        symbols=symbols,
        relocations=relocations,
        frames=frames,
        file_bytes=len(data),
        text_relocations=_has_text_relocations(elf, relocations, segments),
        stack_executable=any(s["p_type"] == "PT_GNU_STACK" and s["p_flags"] & _PF_X for s in elf.iter_segments()),
        called_first=_dynamic_address(elf, "DT_INIT"),
        called_last=_dynamic_address(elf, "DT_FINI"),
    )


def _has_text_relocations(elf: ELFFile, relocations: Relocations, segments: tuple[LoadSegment, ...]) -> bool:
    """Return whether the dynamic linker writes into code, or says that it may."""
    section = elf.get_section_by_name(".dynamic")
    if isinstance(section, DynamicSection):
        for tag in itertools.islice(section.iter_tags(), _TAGS_MAX):
            flags = tag.entry.d_val if tag.entry.d_tag == "DT_FLAGS" else 0
            if tag.entry.d_tag == "DT_TEXTREL" or flags & _DF_TEXTREL:
                return True
    places = np.concatenate((relocations.address, relocations.relr))
    code = [s.extent for s in segments if s.executable and not s.writable]
    return any(bool(np.any((places >= e.start) & (places < e.end))) for e in code)


def _check_header(elf: ELFFile, name: str) -> None:
    if elf.elfclass != 64 or not elf.little_endian or elf["e_machine"] != "EM_X86_64":
        raise InputError(f"{name}: not x86-64 but {elf['e_machine']}, {elf.elfclass} bits", "only x86-64 is supported")
    if elf["e_type"] not in ("ET_EXEC", "ET_DYN"):
        raise InputError(f"{name}: neither an executable nor a shared library ({elf['e_type']})")
    if not 0 < elf["e_shnum"] <= _SECTIONS_MAX:
        raise InputError(
            f"{name}: {elf['e_shnum']} section headers", "images without section headers are not supported"
        )


def _segments(elf: ELFFile, data: bytes, name: str) -> tuple[LoadSegment, ...]:
    result = []
    for header in elf.iter_segments():
        if header["p_type"] != "PT_LOAD":
            continue
        if header["p_offset"] + header["p_filesz"] > len(data) or header["p_filesz"] > header["p_memsz"]:
            raise InputError(f"{name}: truncated: a segment ends at {header['p_offset'] + header['p_filesz']:#x}")
        flags = header["p_flags"]
        result.append(
            LoadSegment(
                Extent(LinkAddress(header["p_vaddr"]), header["p_memsz"]),
                header["p_filesz"],
                FileOffset(header["p_offset"]),
                executable=bool(flags & _PF_X),
                writable=bool(flags & _PF_W),
            )
        )
    if not result:
        raise InputError(f"{name}: nothing to load")
    if any(a.extent.end > b.extent.start for a, b in itertools.pairwise(result)):
        raise InputError(f"{name}: segments overlap or are out of order")
    return tuple(result)


def _sections(elf: ELFFile, data: bytes, name: str) -> tuple[Section, ...]:
    result = []
    for section in elf.iter_sections():
        size, offset, kind = section["sh_size"], section["sh_offset"], section["sh_type"]
        if kind not in ("SHT_NOBITS", "SHT_NULL") and offset + size > len(data):
            raise InputError(f"{name}: truncated: section {section.name} ends at {offset + size:#x}")
        result.append(
            Section(
                section.name,
                LinkAddress(section["sh_addr"]),
                size,
                FileOffset(offset),
                section["sh_flags"],
                str(kind),
                section["sh_entsize"],
            )
        )
    return tuple(result)


def _flatten(data: bytes, segments: tuple[LoadSegment, ...], name: str) -> tuple[Extent, bytes]:
    low = page_floor(min(s.extent.start for s in segments))
    high = page_ceil(max(s.extent.end for s in segments))
    if high - low > IMAGE_BYTES_MAX:
        raise InputError(f"{name}: spans {high - low} bytes, more than {IMAGE_BYTES_MAX}")
    memory = bytearray(high - low)
    for s in segments:
        at = s.extent.start - low
        memory[at : at + s.file_size] = data[s.offset : s.offset + s.file_size]
    return Extent(LinkAddress(low), high - low), bytes(memory)


def _check_places(segments: tuple[LoadSegment, ...], sections: tuple[Section, ...], extent: Extent, name: str) -> None:
    """Refuse sections that do not lie in memory one behind the other, and code that is not in the file."""
    end = int(extent.start)
    for s in sorted((s for s in sections if s.flags & _SHF_ALLOC and s.size), key=lambda s: s.address):
        if s.flags & _SHF_TLS and s.kind == "SHT_NOBITS":
            continue
        if s.address < end or s.address + s.size > extent.end:
            raise InputError(f"{name}: section {s.name} overlaps another or lies outside of the segments")
        end = s.address + s.size
        if s.flags & _SHF_EXECINSTR and not _is_code(segments, s.address, s.size):
            raise InputError(f"{name}: section {s.name} has code outside of an executable segment")


def _is_code(segments: tuple[LoadSegment, ...], start: int, size: int) -> bool:
    """Return whether a range lies in the file's part of one executable segment."""
    return any(
        s.executable and s.extent.start <= start and start + size <= s.extent.start + s.file_size for s in segments
    )


def _check_frames(frames: tuple[Frame, ...], segments: tuple[LoadSegment, ...], name: str) -> None:
    for frame in frames:
        if not _is_code(segments, frame.extent.start, frame.extent.size):
            raise InputError(f"{name}: frame description at {frame.description:#x} covers what is not code")


def _build_id(elf: ELFFile, name: str) -> BuildId:
    for section in elf.iter_sections():
        if isinstance(section, NoteSection):
            for entry in section.iter_notes():
                if entry["n_type"] == "NT_GNU_BUILD_ID":
                    return BuildId(str(entry["n_desc"]))
    raise InputError(f"{name}: no build-id", "hotmend identifies builds by their build-id alone")


def _tags(elf: ELFFile, tag: str) -> list[DynamicTag]:
    section = elf.get_section_by_name(".dynamic")
    if not isinstance(section, DynamicSection):
        return []
    return [t for t in itertools.islice(section.iter_tags(), _TAGS_MAX) if t.entry.d_tag == tag]


def _dynamic_all(elf: ELFFile, tag: str) -> list[str]:
    names = {"DT_NEEDED": "needed", "DT_SONAME": "soname"}
    return [str(getattr(t, names[tag])) for t in _tags(elf, tag)]


def _dynamic(elf: ELFFile, tag: str) -> str:
    return next(iter(_dynamic_all(elf, tag)), "")


def _dynamic_address(elf: ELFFile, tag: str) -> int:
    return next((t.entry.d_ptr for t in _tags(elf, tag)), 0)


def _versions(elf: ELFFile) -> tuple[dict[int, str], list[int]]:
    """Return version index -> name, and the version index of each dynamic symbol."""
    names: dict[int, str] = {}
    indices: list[int] = []
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            every = itertools.chain.from_iterable(auxiliaries for _, auxiliaries in _versions_of(section))
            for aux in _at_most(every):
                names[aux["vna_other"] & 0x7FFF] = aux.name
        elif isinstance(section, GNUVerDefSection):
            for definition, auxiliaries in _versions_of(section):
                first = next(auxiliaries, None)
                if first is not None:
                    names[definition["vd_ndx"] & 0x7FFF] = first.name
        elif isinstance(section, GNUVerSymSection):
            raw = section.data()
            indices = (np.frombuffer(raw[: len(raw) // 2 * 2], "<u2") & 0x7FFF).tolist()
    return names, indices


def _versions_of(section: GNUVerNeedSection | GNUVerDefSection) -> Iterator[tuple[Version, Iterator[VersionAuxiliary]]]:
    """Iterate over versions; the file states their number, and every step may lead to the same one again."""
    return _at_most(section.iter_versions())


def _at_most(items: Iterable[_Item]) -> Iterator[_Item]:
    for n, item in enumerate(items):
        if n >= _VERSIONS_MAX:
            raise InputError(f"more than {_VERSIONS_MAX} symbol versions")
        yield item


def _symbols(elf: ELFFile, data: bytes, sections: tuple[Section, ...]) -> tuple[list[Symbol], tuple[Symbol, ...]]:
    """Return the dynamic symbol table by index, and every named symbol of both tables."""
    versions, indices = _versions(elf)
    dynamic = _symbol_table(data, sections, ".dynsym", ".dynstr", versions, indices)
    static = _symbol_table(data, sections, ".symtab", ".strtab", {}, [])
    return dynamic, tuple(s for s in (*dynamic, *static) if s.name)


def _symbol_table(
    data: bytes, sections: tuple[Section, ...], table: str, strings: str, versions: dict[int, str], indices: list[int]
) -> list[Symbol]:
    section = next((s for s in sections if s.name == table and s.kind != "SHT_NOBITS"), None)
    names = next((s for s in sections if s.name == strings and s.kind != "SHT_NOBITS"), None)
    if section is None or names is None:
        return []
    blob = data[names.offset : names.offset + names.size]
    rows = np.frombuffer(data, _SYM, section.size // _SYM.itemsize, section.offset)
    result = []
    names_bytes = 0
    for i, (name, info, _, shndx, value, size) in enumerate(rows.tolist()):
        end = blob.find(b"\0", name, name + _NAME_BYTES_MAX)
        names_bytes += end - name
        if end < 0 or names_bytes > _NAMES_BYTES_MAX:
            raise InputError(f"the name of symbol {i} in {table} is too long or lies outside of {strings}")
        if value + size > _ADDRESS_MAX:
            raise InputError(f"symbol {i} in {table} lies outside of what can be addressed")
        version = versions.get(indices[i], "") if i < len(indices) and indices[i] > 1 else ""
        result.append(
            Symbol(
                blob[name:end].decode("utf-8", "replace"),
                version,
                LinkAddress(value),
                size,
                kind=info & 15,
                weak=info >> 4 == 2,
                local=info >> 4 == 0,
                defined=shndx != 0,
                dynamic=table == ".dynsym",
            )
        )
    return result


def _relocations(data: bytes, sections: tuple[Section, ...], symbols: list[Symbol], extent: Extent) -> Relocations:
    parts = [
        np.frombuffer(data, _RELA, s.size // _RELA.itemsize, s.offset)
        for s in sections
        if s.kind == "SHT_RELA" and s.flags & _SHF_ALLOC
    ]
    rows = np.concatenate(parts) if parts else np.zeros(0, _RELA)
    relr = [_expand_relr(data, s) for s in sections if s.kind in ("SHT_RELR", "19")]
    rows = rows[np.argsort(rows["offset"], kind="stable")]
    if len(rows) and int(rows["symbol"].max()) >= max(len(symbols), 1):
        raise InputError("a relocation names a symbol that does not exist")
    packed = np.concatenate(relr) if relr else np.zeros(0, np.int64)
    for places in (rows["offset"], packed):
        if len(places) and not extent.start <= int(places.min()) <= int(places.max()) <= extent.end - 8:
            raise InputError("a relocation lies outside of the image")
    return Relocations(
        address=rows["offset"].astype(np.int64),
        kind=rows["type"].astype(np.int32),
        symbol=rows["symbol"].astype(np.int32),
        addend=rows["addend"].astype(np.int64),
        relr=packed,
        symbols=tuple(symbols),
    )


def _expand_relr(data: bytes, section: Section) -> np.ndarray:
    """Expand a RELR table (generic ABI, SHT_RELR) to the addresses of its relative relocations."""
    result: list[int] = []
    base = 0
    for word in np.frombuffer(data, "<u8", section.size // 8, section.offset).tolist():
        if word & 1:
            result.extend(base + 8 * i for i in range(63) if word >> (i + 1) & 1)
            base += 63 * 8
        else:
            result.append(word)
            base = word + 8
    return np.array(result, np.int64)
