"""The layout of a hotpatch file: names, numbers and limits that writer and reader share.

A hotpatch file is an ELF file (ET_DYN, EM_X86_64) without a dynamic section:

* one PT_LOAD and one section per `Segment`, at the new build's own link addresses (a segment whose memory is
  longer than its content has a second, SHT_NOBITS section for the rest);
* one SHT_RELA section for each section that has relocations, as `ld --emit-relocs` writes them: `sh_info` names
  the section, `r_offset` is a link address;
* `.symtab`: `new_image` (absolute 0), a FUNC symbol for each new function, stub and port, then the undefined
  symbols `old_image`, `hotmend_gate` and one `name@VERSION` for each import;
* one note, owner `hotmend`: JSON with everything that ELF has no place for (`Note`).

A relocation against the old image is one against `old_image` with the addend `address + A`; against the shadow
itself, `new_image` with `address + A`. The note has A, so that both parts come back exactly.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from hotmend.model.addresses import BuildId, Extent
from hotmend.model.hotpatch import (
    AddedVariable,
    Lazy,
    NewFunction,
    Port,
    Redirection,
    RelocationKind,
    ReplacedFunction,
    Statistics,
    UnwindTable,
)
from hotmend.model.verdict import Reason, Verdict

FORMAT_VERSION: Final = 1

FILE_BYTES_MAX: Final = 256 << 20
"""Longest hotpatch file that is written or read."""
SEGMENTS_MAX: Final = 20_000
"""Most segments; up to three sections each stay below ELF's 0xff00 without extended numbering."""
RELOCATIONS_MAX: Final = 4_000_000
FUNCTIONS_MAX: Final = 500_000
MARKS_MAX: Final = 100_000
"""Most marks of one added variable."""
REASONS_MAX: Final = 10_000
CVES_MAX: Final = 10_000
NAME_BYTES_MAX: Final = 65_536
"""Longest symbol or file name; mangled C++ names reach a few ten thousand bytes."""
SENTENCE_BYTES_MAX: Final = 65_536
ENTRY_BYTES_MAX: Final = 64
"""Longest run of displaced instructions: five bytes need at most four and the rest of a fifteen-byte one."""
BUILD_ID_BYTES_MAX: Final = 64
ADDRESS_MAX: Final = 1 << 47
"""User addresses of x86-64 with four-level page tables end here."""
SPAN_BYTES_MAX: Final = 1 << 31
"""A shadow must fit into the reach of its own rip-relative references."""
COUNT_MAX: Final = 1 << 62
"""Largest count or magnitude of an addend."""

PERMISSION_FLAGS: Final = {"r-x": 5, "r--": 4, "rw-": 6}
"""Segment permissions -> p_flags (PF_X 1, PF_W 2, PF_R 4)."""

EHDR: Final = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR: Final = struct.Struct("<IIQQQQQQ")
SHDR: Final = struct.Struct("<IIQQQQIIQQ")
SYM: Final = struct.Struct("<IBBHQQ")
RELA: Final = struct.Struct("<QQq")
NOTE_HEAD: Final = struct.Struct("<III")

IDENT: Final = b"\x7fELF\x02\x01\x01" + bytes(9)
ET_DYN: Final = 3
EM_X86_64: Final = 62
PT_LOAD: Final = 1
PT_NOTE: Final = 4
SHT_PROGBITS: Final = 1
SHT_SYMTAB: Final = 2
SHT_STRTAB: Final = 3
SHT_RELA: Final = 4
SHT_NOTE: Final = 7
SHT_NOBITS: Final = 8
SHF_WRITE: Final = 1
SHF_ALLOC: Final = 2
SHF_EXECINSTR: Final = 4
SHF_INFO_LINK: Final = 0x40
SHN_UNDEF: Final = 0
SHN_ABS: Final = 0xFFF1
STB_LOCAL: Final = 0
STB_GLOBAL: Final = 1
STB_WEAK: Final = 2
STT_NOTYPE: Final = 0
STT_FUNC: Final = 2
STT_SECTION: Final = 3

NOTE_SECTION: Final = ".note.hotmend"
NOTE_OWNER: Final = b"hotmend\0"
NOTE_TYPE: Final = 0x484D
"""The letters HM; small numbers mean something to readelf, whoever owns the note."""
NOTE_ALIGN_BYTES: Final = 4

NEW_IMAGE: Final = "new_image"
OLD_IMAGE: Final = "old_image"
GATE: Final = "hotmend_gate"
NEW_IMAGE_INDEX: Final = 1
"""Symbol number of `new_image`; `old_image` and the gate are the first two global symbols."""

RELOCATION_TYPES: Final = {
    RelocationKind.ABS64: 1,
    RelocationKind.PC32: 2,
    RelocationKind.ABS32: 10,
    RelocationKind.ABS32S: 11,
}
"""Kind -> number in the psABI."""
RELOCATION_KINDS: Final = {number: kind for kind, number in RELOCATION_TYPES.items()}
RELOCATION_BYTES: Final = {
    RelocationKind.ABS64: 8,
    RelocationKind.PC32: 4,
    RelocationKind.ABS32: 4,
    RelocationKind.ABS32S: 4,
}


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the note's JSON holds.

    Attributes:
        format: `FORMAT_VERSION`.
        evidence: the distinct evidence names.
        relocation_evidence, relocation_votes, relocation_addends: parallel to the relocations in the order of
            their addresses: index into `evidence`, votes, and A.
    The other fields are those of `model.hotpatch.Hotpatch`.
    """

    format: int
    name: str
    path: str
    package: str
    versions: tuple[str, str]
    old_build_id: BuildId
    new_build_id: BuildId
    verdict: Verdict
    cves: tuple[str, ...]
    reasons: tuple[Reason, ...]
    update_bytes: int
    old_extent: Extent
    new_extent: Extent
    statistics: Statistics
    functions: tuple[NewFunction, ...]
    replaced: tuple[ReplacedFunction, ...]
    redirections: tuple[Redirection, ...]
    evidence: tuple[str, ...]
    relocation_evidence: tuple[int, ...]
    relocation_votes: tuple[int, ...]
    relocation_addends: tuple[int, ...]
    unwinding: UnwindTable | None = None
    variables: tuple[AddedVariable, ...] | None = None
    ports: tuple[Port, ...] = ()
    compared: tuple[str, ...] = ()
    lazy: Lazy | None = None
