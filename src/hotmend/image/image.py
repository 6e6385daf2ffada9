"""What an ELF image is to the comparison: values only."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hotmend.model.addresses import BuildId, Extent, FileOffset, LinkAddress

IMAGE_BYTES_MAX = 1 << 29

R_64, R_COPY, R_GLOB_DAT, R_JUMP_SLOT, R_RELATIVE = 1, 5, 6, 7, 8
R_DTPMOD64, R_DTPOFF64, R_TPOFF64, R_TLSDESC, R_IRELATIVE = 16, 17, 18, 36, 37
_DATA_KINDS = frozenset({"SHT_PROGBITS", "SHT_INIT_ARRAY", "SHT_FINI_ARRAY", "SHT_PREINIT_ARRAY"})
STT_OBJECT, STT_FUNC, STT_TLS, STT_IFUNC = 1, 2, 6, 10

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LoadSegment:
    """A PT_LOAD: `extent` in link addresses, of which `file_size` bytes come from `offset` of the file."""

    extent: Extent
    file_size: int
    offset: FileOffset
    executable: bool
    writable: bool


@dataclass(frozen=True, slots=True)
class Section:
    """A section header; `kind` is the name of its `sh_type`."""

    name: str
    address: LinkAddress
    size: int
    offset: FileOffset
    flags: int
    kind: str
    entry_size: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol; `kind` is its STT_ number, `version` empty where it has none."""

    name: str
    version: str
    value: LinkAddress
    size: int
    kind: int
    weak: bool
    local: bool
    defined: bool
    dynamic: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """What a frame description covers, where it stands, and whether it has a language specific area."""

    extent: Extent
    description: LinkAddress
    lsda: bool


@dataclass(frozen=True, slots=True)
class Relocations:
    """The dynamic relocations, sorted by address; `relr` has the addresses of packed relative ones."""

    address: Integers
    kind: NDArray[np.int32]
    symbol: NDArray[np.int32]
    addend: Integers
    relr: Integers
    symbols: tuple[Symbol, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A word that the dynamic linker fills by symbol: an import, an interposable export or a TLS offset.

    Two slots mean the same when their `identity` is equal.
    """

    address: LinkAddress
    kind: int
    name: str
    version: str
    addend: int
    weak: bool
    symbol_defined: bool

    @property
    def identity(self) -> tuple[int, str, str, int]:
        """What the slot is filled with; GLOB_DAT, JUMP_SLOT and 64 fill it with the same thing."""
        kind = R_GLOB_DAT if self.kind in (R_64, R_JUMP_SLOT) else self.kind
        return (kind, self.name, self.version, self.addend)


@dataclass(frozen=True)
class Image:
    """One build of an executable or a shared library.

    Attributes:
        name: base name.
        build_id: identity.
        fixed: ET_EXEC, loaded at its link addresses.
        entry: program entry.
        extent: pages from the first to the last PT_LOAD.
        memory: what `extent` holds when freshly loaded, before relocation.
        relro: what becomes read-only after relocation.
        tls: (address, file size, memory size, alignment) of PT_TLS in bytes, zeros without.
        symbols: every named symbol.
        frames: function extents.
        text_relocations: the dynamic linker changes code when it loads the image.
        stack_executable: the program asks for a stack that code may run on.
        called_first: function that the dynamic linker calls when it has loaded the image (DT_INIT), 0 without.
        called_last: function that it calls at the end (DT_FINI), 0 without.
    """

    name: str
    build_id: BuildId
    fixed: bool
    entry: LinkAddress
    extent: Extent
    memory: bytes
    segments: tuple[LoadSegment, ...]
    sections: tuple[Section, ...]
    relro: Extent
    tls: tuple[int, int, int, int]
    soname: str
    needed: tuple[str, ...]
    symbols: tuple[Symbol, ...]
    relocations: Relocations
    frames: tuple[Frame, ...]
    file_bytes: int
    text_relocations: bool = False
    stack_executable: bool = False
    called_first: int = 0
    called_last: int = 0

    def read(self, address: int, size: int) -> bytes:
        """Return `size` bytes at a link address; fewer where the image ends."""
        at = address - self.extent.start
        return self.memory[at : at + size] if at >= 0 else b""

    @cached_property
    def bytes_array(self) -> NDArray[np.uint8]:
        """`memory` as an array."""
        return np.frombuffer(self.memory, np.uint8)

    @cached_property
    def allocated(self) -> tuple[Section, ...]:
        """Sections that occupy memory, sorted by address, TLS templates of bss kind left out."""
        return tuple(
            sorted(
                (
                    s
                    for s in self.sections
                    if s.flags & 2 and s.size and not (s.flags & 0x400 and s.kind == "SHT_NOBITS")
                ),
                key=lambda s: s.address,
            )
        )

    @cached_property
    def _starts(self) -> list[int]:
        return [s.address for s in self.allocated]

    def section_at(self, address: int) -> Section | None:
        """Return the section that holds a link address, or None."""
        i = bisect_right(self._starts, address) - 1
        if i < 0:
            return None
        section = self.allocated[i]
        return section if address < section.address + section.size else None

    def section_named(self, name: str) -> Section | None:
        """Return the allocated section of a name, or None."""
        return next((s for s in self.allocated if s.name == name), None)

    def permissions_at(self, address: int) -> str:
        """Return what the page at a link address may do once the program runs: `r-x`, `r--`, `rw-` or ``."""
        for s in self.segments:
            if address in s.extent:
                if s.executable:
                    return "r-x"
                return "rw-" if s.writable and address not in self.relro else "r--"
        return ""

    @cached_property
    def slots(self) -> dict[int, Slot]:
        """Words filled by symbol or with a TLS value, by link address."""
        r = self.relocations
        result: dict[int, Slot] = {}
        for address, kind, symbol, addend in zip(
            r.address.tolist(), r.kind.tolist(), r.symbol.tolist(), r.addend.tolist(), strict=True
        ):
            if kind in (R_RELATIVE, R_IRELATIVE):
                continue
            s = r.symbols[symbol] if symbol else None
            result[address] = Slot(
                LinkAddress(address),
                kind,
                s.name if s else "",
                s.version if s else "",
                addend,
                s.weak if s else False,
                s.defined if s else False,
            )
        return result

    @cached_property
    def pointers(self) -> dict[int, int]:
        """Words that hold an address of this image: link address of the word -> link address it points to.

        Relative relocations, and in a fixed image every aligned word of its data that lies in the image.
        """
        r = self.relocations
        relative = (r.kind == R_RELATIVE) | (r.kind == R_IRELATIVE)
        result = dict(zip(r.address[relative].tolist(), r.addend[relative].tolist(), strict=True))
        for address in r.relr.tolist():
            result[address] = int.from_bytes(self.read(address, 8), "little")
        if self.fixed:
            result.update(self._words_like_addresses())
        return result

    def _words_like_addresses(self) -> dict[int, int]:
        result: dict[int, int] = {}
        for s in self.allocated:
            if (
                s.flags & 4
                or s.kind not in _DATA_KINDS
                or s.name.startswith((".eh_frame", ".gcc_except", ".plt", ".got"))
            ):
                continue
            first = -(-s.address // 8) * 8
            count = (s.address + s.size - first) // 8
            if count <= 0:
                continue
            words = np.frombuffer(self.memory, "<i8", count, first - self.extent.start)
            hits = np.nonzero((words >= self.extent.start) & (words < self.extent.end))[0]
            for i in hits.tolist():
                if self.section_at(int(words[i])) is not None:
                    result[first + 8 * i] = int(words[i])
        return result

    @cached_property
    def exports(self) -> dict[tuple[str, str], Symbol]:
        """Symbols that other images can bind to, by name and version."""
        return {(s.name, s.version): s for s in self.symbols if s.dynamic and s.defined and not s.local}

    @cached_property
    def exported_addresses(self) -> frozenset[int]:
        """Link addresses that other images can bind to."""
        return frozenset(s.value for s in self.exports.values() if s.kind != STT_TLS)

    def own(self, slot: Slot) -> Symbol | None:
        """Return what a slot is bound to where that is this image's own export; None where it is another's."""
        return self.exports.get((slot.name, slot.version)) if slot.symbol_defined else None

    @cached_property
    def resolvers(self) -> frozenset[int]:
        """Link addresses of the functions that choose for an indirect one; the dynamic linker calls each once."""
        r = self.relocations
        named = (s.value for s in self.symbols if s.defined and s.kind == STT_IFUNC)
        return frozenset((*named, *r.addend[r.kind == R_IRELATIVE].tolist()))

    @cached_property
    def names(self) -> dict[int, str]:
        """One name for each address that has any, global names first."""
        result: dict[int, str] = {}
        for s in sorted(self.symbols, key=lambda s: (s.local, s.name.startswith("_"), len(s.name), s.name)):
            if s.defined and s.kind in (STT_OBJECT, STT_FUNC, STT_IFUNC):
                result.setdefault(s.value, s.name)
        return result
