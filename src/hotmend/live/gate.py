"""The header of a shadow: what lets anyone read, finish or undo an update from the process's memory alone.

Layout, at the start of a page of its own (a mapping of its own in the process):

    0   magic, 8 bytes
    8   size of the record in bytes, u32; format version, u32
    16  SHA-256 of the record, 32 bytes
    64  gate byte: 0 old code, 1 new code (only the first shadow of an update has one that counts)
    65  placed byte: 1 once the shadow is filled and checked
    67  staged byte: 1 once entries of its image were about to be written for the first time, 2 once it was seen that
        the image was unmapped since: nothing leads here any more
    128 the record (`HeaderRecord`, MessagePack)

The magic is written last. Gate and placed byte stand outside the checksum. The record names every entry with old
bytes, stub and new address, so any subset of the entry writes can be completed or taken back.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from hotmend.linux.memory import ProcessMemory, Readable
from hotmend.linux.procfs import Mapping
from hotmend.model.addresses import JUMP_BYTES, PAGE_BYTES, page_ceil
from hotmend.model.errors import InputError
from hotmend.model.hotpatch import Hotpatch, Mark

MAGIC = b"hotmend\x01"
FORMAT_VERSION = 1
GATE_OFFSET, PLACED_OFFSET, RECORD_OFFSET = 64, 65, 128
STAGED_OFFSET, STAGED, LOST = 67, 1, 2
RECORD_BYTES_MAX = 64 << 20
_HEAD = struct.Struct("<8sII32s")
_ID, _BUILD_ID = re.compile("[0-9a-f]{16}"), re.compile("[0-9a-f]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_ADDRESS_MAX, _REACH = 1 << 63, 1 << 31


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """One redirected entry; load addresses.

    Attributes:
        name: of the function.
        address: of the entry in the old image.
        old_bytes: its first bytes before (5 bytes): those of the old build, or the jump of the hotpatch that this one
            takes over from.
        stub: the stub in use, and its size in bytes.
        new: the new function.
        original, original_size: where a stub, this one or that of an earlier hotpatch, has the old function's displaced
            instructions and goes on in it; 0 where that is not known.
        original_bytes: the entry's bytes in the old build, where `old_bytes` are an earlier hotpatch's jump.
        restores: it leads to the old function: an earlier hotpatch redirects it, this one does not.
    """

    name: str
    address: int
    old_bytes: bytes
    stub: int
    stub_size: int
    new: int
    original: int = 0
    original_size: int = 0
    original_bytes: bytes = b""
    restores: bool = False

    @property
    def build_bytes(self) -> bytes:
        """The entry's first bytes as the old build has them."""
        return self.original_bytes or self.old_bytes

    @property
    def jump_to_stub(self) -> bytes:
        """The bytes that stage the entry."""
        return jump(self.address, self.stub)

    @property
    def jump_to_new(self) -> bytes:
        """The bytes that settle the entry."""
        return jump(self.address, self.new)


@dataclass(frozen=True, slots=True)
class FunctionRecord:
    """A range of code by name; load address and size in bytes."""

    name: str
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class VariableRecord:
    """A variable that a hotpatch added, and where it lives: in its own shadow, or in that of an earlier one.

    Attributes:
        name, sha256, marks: as in the hotpatch; the marks' offsets count from `address`.
        address, size: load address and bytes of what is there.
    """

    name: str
    address: int
    size: int
    sha256: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class PortRecord:
    """A jump that stands for an added function: in its own shadow, or in that of an earlier hotpatch.

    Attributes:
        name, marks: as in the hotpatch.
        address, function: load addresses of the jump and of the new function it is for.
    """

    name: str
    address: int
    function: int
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class RegionRecord:
    """A run of pages of the shadow with one permission (`r-x`, `r--`, `rw-`); load addresses, half open."""

    start: int
    end: int
    permissions: str


@dataclass(frozen=True, slots=True)
class FramesRecord:
    """Where the frame descriptions of a shadow are, and what the process's unwinder is told of it; load addresses.

    Attributes:
        start, end: of the new code.
        table: the shadow's sorted table of frame descriptions.
        needed: exceptions may have to pass the new code.
        ranges: room for a list of all images, this shadow among them, in the dynamic linker's own form.
        ranges_bytes: its size; 0 where the process's unwinder cannot be told.
        words: the three words of the dynamic linker that say which list is read; 0 where it cannot be told.
    """

    start: int
    end: int
    table: int
    needed: bool
    ranges: int
    ranges_bytes: int
    words: int = 0


@dataclass(frozen=True, slots=True)
class HeaderRecord:
    """Everything about one image's hotpatch in one process.

    Attributes:
        hotpatch_id: `hotpatch_id` of the hotpatch.
        update: hotpatch ids of all images that share the gate, the first one's shadow has it.
        name, path, old_build_id, new_build_id, versions, cves, package: as in the hotpatch.
        old_bias, shadow_bias: load address minus link address of the old image and of the shadow.
        header, gate: load addresses of this header and of the gate byte of the update.
        start, end: the whole mapping, guards included.
        regions: permissions to set inside; everything else of the mapping is never reached.
        entries: what is redirected.
        replaced: old functions, none of which may be active at the switch.
        functions: new functions, none of which may be active when it is taken back.
        applied_at: seconds since 1970 (UTC) at which the shadow was placed.
        frames: where its frame descriptions are; None where it has none.
        over: gate of the hotpatch of this image that it takes over from; 0: it takes over from the old code.
        before: what else may not be active at the switch: code of the hotpatch it takes over from.
        after: what else may not be active when it is taken back: old functions that the other one replaces.
        variables: that it added; None where that is not known.
        ports: jumps that stand for added functions whose addresses it hands out.
        compared: names of its constant objects whose addresses are compared.
        part: it leaves functions that changed for the baseline.
    """

    hotpatch_id: str
    update: tuple[str, ...]
    name: str
    path: str
    old_build_id: str
    new_build_id: str
    versions: tuple[str, str]
    cves: tuple[str, ...]
    package: str
    old_bias: int
    shadow_bias: int
    header: int
    gate: int
    start: int
    end: int
    regions: tuple[RegionRecord, ...]
    entries: tuple[EntryRecord, ...]
    replaced: tuple[FunctionRecord, ...]
    functions: tuple[FunctionRecord, ...]
    applied_at: float
    frames: FramesRecord | None = None
    over: int = 0
    before: tuple[FunctionRecord, ...] = ()
    after: tuple[FunctionRecord, ...] = ()
    variables: tuple[VariableRecord, ...] | None = None
    ports: tuple[PortRecord, ...] = ()
    compared: tuple[str, ...] = ()
    part: bool = False


@dataclass(frozen=True, slots=True)
class Shadow:
    """A header as found in a process.

    Attributes:
        record: the checked record.
        placed: whether the shadow is complete.
        staged: whether entries were ever written for it.
        lost: whether its image is known to have been unmapped since.
    """

    record: HeaderRecord
    placed: bool
    staged: bool = False
    lost: bool = False


def jump(source: int, target: int) -> bytes:
    """Return `jmp rel32` from load address `source` to `target`; `OverflowError` if out of reach."""
    distance = target - (source + JUMP_BYTES)
    return b"\xe9" + distance.to_bytes(4, "little", signed=True)


def hotpatch_id(hotpatch: Hotpatch) -> str:
    """Return the identity of a hotpatch: 16 hexadecimal digits of a SHA-256 over what it does.

    Covered are build-ids, segments, relocations, replaced functions and redirections; statistics, evidence and
    notes are not, so that rebuilding with other words gives the same hotpatch.
    """
    digest = hashlib.sha256()
    for part in (hotpatch.old_build_id, hotpatch.new_build_id):
        digest.update(part.encode() + b"\0")
    for segment in hotpatch.segments:
        digest.update(f"S{segment.extent}{segment.permissions}{segment.section}{len(segment.content)};".encode())
        digest.update(segment.content)
    for r in hotpatch.relocations:
        digest.update(f"R{r.address}{r.kind.value}{r.target}{r.addend};".encode())
    for replaced in hotpatch.replaced:
        digest.update(f"F{replaced.old}{replaced.sha256};".encode())
    for e in hotpatch.redirections:
        digest.update(f"E{e.old}:{e.new}:{e.entry.hex()}:{e.near_stub}:{e.far_stub};".encode())
    return digest.hexdigest()[:16]


def encode_header(record: HeaderRecord) -> tuple[bytes, bytes]:
    """Return the head (magic, sizes, checksum) and the record to write at `RECORD_OFFSET`."""
    body = msgspec.msgpack.encode(record)
    return _HEAD.pack(MAGIC, len(body), FORMAT_VERSION, hashlib.sha256(body).digest()), body


def header_bytes(record: HeaderRecord) -> int:
    """Return how much room the header takes: whole pages."""
    return page_ceil(RECORD_OFFSET + len(encode_header(record)[1]))


def write_header(memory: ProcessMemory, record: HeaderRecord) -> None:
    """Write record, then head; gate and placed byte stay 0. Everything is read back.

    Raises:
        InputError: nobody would read it; nothing was written.
    """
    if not _is_sound(record):
        raise InputError("hotpatch: its names, ids or addresses are not such as a header may hold")
    head, body = encode_header(record)
    memory.write_checked(record.header + RECORD_OFFSET, body)
    memory.write_checked(record.header, head)


def read_header(memory: Readable, address: int) -> Shadow | None:
    """Return the shadow whose header is at `address`; None if there is none or it is not complete and sound."""
    head = memory.try_read(address, RECORD_OFFSET)
    if head is None or not head.startswith(MAGIC):
        return None
    _, size, version, digest = _HEAD.unpack_from(head)
    if version != FORMAT_VERSION or size > RECORD_BYTES_MAX:
        return None
    body = memory.try_read(address + RECORD_OFFSET, size)
    if body is None or hashlib.sha256(body).digest() != digest:
        return None
    try:
        record = msgspec.msgpack.decode(body, type=HeaderRecord)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    if record.header != address or not _is_sound(record):
        return None
    return Shadow(record, head[PLACED_OFFSET] == 1, head[STAGED_OFFSET] == STAGED, head[STAGED_OFFSET] == LOST)


def _is_sound(record: HeaderRecord) -> bool:
    """Tell whether a record may be printed, put into scripts and names of files, and computed with.

    A process can write a header itself, whatever it likes in it, and somebody's debugger runs as root.
    """
    code: list[FunctionRecord | VariableRecord] = [*record.replaced, *record.functions, *record.before, *record.after]
    code += record.variables or ()
    named: list[EntryRecord | FunctionRecord | VariableRecord | PortRecord]
    named = [*record.entries, *code, *record.ports]
    texts = [record.name, record.path, record.package, *record.versions, *record.cves, *record.compared]
    places = [record.gate, record.start, record.end, *(x.address for x in named)]
    places += [place for r in record.regions for place in (r.start, r.end)]
    places += [x.size for x in code] + [e.stub_size for e in record.entries]
    jumps = (goal - e.address - JUMP_BYTES for e in record.entries for goal in (e.stub, e.new))
    return (
        all(_ID.fullmatch(text) for text in (record.hotpatch_id, *record.update))
        and all(_BUILD_ID.fullmatch(text) for text in (record.old_build_id, record.new_build_id))
        and not _CONTROL.search("".join(itertools.chain(texts, (x.name for x in named))))
        and all(0 <= place < _ADDRESS_MAX for place in places)
        and all(-_REACH <= distance < _REACH for distance in jumps)
    )


def find_shadows(memory: Readable, maps: Sequence[Mapping]) -> tuple[Shadow, ...]:
    """Find all shadows of a process: anonymous private mappings that begin with the magic.

    The second page is looked at too: there the header is when the patcher died before it set permissions.
    """
    hidden = (m for m in maps if m.anonymous and m.permissions[1:2] != "w" and m.readable)
    return find_shadows_at(memory, ((mapping.start, mapping.end) for mapping in hidden))


def find_shadows_at(memory: Readable, ranges: Iterable[tuple[int, int]]) -> tuple[Shadow, ...]:
    """Find the shadows in ranges of load addresses: mappings that are anonymous, readable and not writable."""
    shadows = []
    for start, end in ranges:
        for address in (start, start + PAGE_BYTES):
            if address < end and (found := read_header(memory, address)) is not None:
                shadows.append(found)
    return tuple(shadows)
