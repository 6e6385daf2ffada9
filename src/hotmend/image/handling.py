"""What the unwinder reads about one function: its frame description, and its language specific data area (LSDA).

The layouts are those of the Linux Standard Base (`.eh_frame`) and of the Itanium C++ ABI's exception tables. Only the
pointer encodings that compilers for x86-64 use are read; any other is an error, and the function is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hotmend.image.image import Frame, Image
from hotmend.model.addresses import Extent, LinkAddress
from hotmend.model.errors import InputError

_PC_RELATIVE, _INDIRECT_PC_RELATIVE = 0x1B, 0x9B
_ABSOLUTE, _ABSOLUTE_SIGNED = 0x03, 0x0B
_OMITTED, _ULEB = 0xFF, 0x01
_ENCODINGS = (_PC_RELATIVE, _INDIRECT_PC_RELATIVE, _ABSOLUTE, _ABSOLUTE_SIGNED)
_POINTER_BYTES = 4
_RECORDS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Pointer:
    """A pointer of four bytes in unwinding data.

    Attributes:
        address: link address of the field.
        target: link address it names: of a slot that holds the address meant, where `indirect`.
        indirect: whether `target` is such a slot.
        relative: counted from the field itself; else an absolute address.
        signed: an absolute address that is sign-extended.
        is_type: names a type that a handler catches.
    """

    address: LinkAddress
    target: LinkAddress
    indirect: bool
    relative: bool
    signed: bool
    is_type: bool


Site = tuple[int, int, int, tuple[int, ...]]
"""A call site: start and bytes, counted from the function's start; landing pad, 0 without; filters in their order."""


@dataclass(frozen=True, slots=True)
class Handling:
    """The unwinding data of one function.

    Attributes:
        common, description, lsda: link addresses of its parts; `lsda` is None without.
        pointers: those that leave them.
        sites: the calls that are guarded or may be passed.
        types: by positive filter, the types that handlers catch; None catches all.
        lists: by negative filter, the numbers of the types that an exception specification allows.
    """

    common: Extent
    description: Extent
    lsda: Extent | None
    pointers: tuple[Pointer, ...]
    sites: tuple[Site, ...] = ()
    types: Mapping[int, Pointer | None] = field(default_factory=dict)
    lists: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Area:
    """What a language specific data area says."""

    extent: Extent
    sites: tuple[Site, ...]
    types: Mapping[int, Pointer | None]
    lists: Mapping[int, tuple[int, ...]]


class _Cursor:
    """Reads forward through the image."""

    def __init__(self, image: Image, address: int) -> None:
        self._image, self.address = image, address

    def byte(self) -> int:
        data = self._image.read(self.address, 1)
        if not data:
            raise InputError("unwinding data leaves the image")
        self.address += 1
        return data[0]

    def word(self, *, signed: bool = False) -> int:
        data = self._image.read(self.address, 4)
        if len(data) < _POINTER_BYTES:
            raise InputError("unwinding data leaves the image")
        self.address += 4
        return int.from_bytes(data, "little", signed=signed)

    def uleb(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value
            if shift > 63:
                raise InputError("a number in unwinding data is too long")

    def sleb(self) -> int:
        start = self.address
        value = self.uleb()
        bits = 7 * (self.address - start)
        return value - (1 << bits) if value >> (bits - 1) & 1 else value

    def pointer(self, encoding: int, *, is_type: bool = False) -> Pointer | None:
        """Read a pointer; None where it is null."""
        if encoding not in _ENCODINGS:
            raise InputError(f"a pointer in unwinding data in the encoding {encoding:#x}")
        at, relative = self.address, encoding in (_PC_RELATIVE, _INDIRECT_PC_RELATIVE)
        value = self.word(signed=encoding != _ABSOLUTE)
        if value == 0:
            return None
        return Pointer(
            LinkAddress(at),
            LinkAddress(value + at if relative else value),
            encoding == _INDIRECT_PC_RELATIVE,
            relative,
            encoding == _ABSOLUTE_SIGNED,
            is_type,
        )


@dataclass(frozen=True, slots=True)
class _Common:
    """What a CIE says: its extent, the encoding of the LSDA pointers of its descriptions, the personality routine."""

    extent: Extent
    lsda_encoding: int
    personality: Pointer | None


def read_handling(image: Image, frame: Frame) -> Handling:
    """Return the unwinding data of the function that `frame` describes.

    Raises:
        InputError: it leaves the image or is encoded in a way that no compiler for x86-64 uses.
    """
    cursor = _Cursor(image, frame.description)
    size = cursor.word()
    distance_at = cursor.address
    common = _read_common(image, distance_at - cursor.word())
    description = Extent(frame.description, 4 + size)
    pointers = [common.personality] if common.personality else []
    cursor.address = distance_at + 12
    if not cursor.uleb() or common.lsda_encoding == _OMITTED:
        return Handling(common.extent, description, None, tuple(pointers))
    pointer = cursor.pointer(common.lsda_encoding)
    if pointer is None:
        return Handling(common.extent, description, None, tuple(pointers))
    if pointer.indirect:
        raise InputError("an exception table behind a slot")
    area = _read_lsda(image, pointer.target)
    pointers += [pointer, *(type_ for type_ in area.types.values() if type_ is not None)]
    return Handling(common.extent, description, area.extent, tuple(pointers), area.sites, area.types, area.lists)


def read_personality(image: Image, common: int) -> Pointer | None:
    """Return the pointer to the routine that reads exception tables, of the CIE at `common`; None where it has none.

    Raises:
        InputError: as `read_handling`.
    """
    return _read_common(image, common).personality


def _read_common(image: Image, address: int) -> _Common:
    cursor = _Cursor(image, address)
    size = cursor.word()
    cursor.address += 5  # the null that makes it a CIE, and the version
    letters = ""
    while (byte := cursor.byte()) and len(letters) < 8:
        letters += chr(byte)
    cursor.uleb()
    cursor.sleb()
    cursor.uleb()
    cursor.uleb()
    encoding, personality = _OMITTED, None
    for letter in letters[1:]:
        if letter == "P":
            personality = cursor.pointer(cursor.byte())
        elif letter == "L":
            encoding = cursor.byte()
        elif letter == "R":
            cursor.byte()
    return _Common(Extent(LinkAddress(address), 4 + size), encoding, personality)


def _read_lsda(image: Image, address: int) -> _Area:
    """Read an exception table."""
    cursor = _Cursor(image, address)
    if cursor.byte() != _OMITTED:
        raise InputError("an exception table with landing pads in another place")
    type_encoding = cursor.byte()
    type_base = 0
    if type_encoding != _OMITTED:
        distance = cursor.uleb()
        type_base = cursor.address + distance
    if cursor.byte() != _ULEB:
        raise InputError("an exception table whose call sites are not in ULEB128")
    size = cursor.uleb()
    actions = cursor.address + size
    rows = _read_call_sites(cursor, actions)
    chains, end = _follow_actions(image, actions, {row[3] for row in rows if row[3]})
    filters = {number for chain in chains.values() for number in chain}
    wanted = {f for f in filters if f > 0}
    lists: dict[int, tuple[int, ...]] = {}
    for listed in (f for f in filters if f < 0):
        lists[listed], list_end = _read_list(image, type_base - listed - 1)
        wanted.update(lists[listed])
        end = max(end, list_end)
    if wanted and not type_base:
        raise InputError("an exception table without types")
    types = {
        number: _Cursor(image, type_base - number * _POINTER_BYTES).pointer(type_encoding, is_type=True)
        for number in sorted(wanted)
    }
    sites = tuple((start, length, pad, chains[action] if action else ()) for start, length, pad, action in rows)
    return _Area(Extent(LinkAddress(address), max(end, type_base) - address), sites, types, lists)


def _read_call_sites(cursor: _Cursor, end: int) -> list[tuple[int, int, int, int]]:
    """Return start, length, landing pad and action (offset + 1, or 0) of each call site."""
    found = []
    while cursor.address < end:
        found.append((cursor.uleb(), cursor.uleb(), cursor.uleb(), cursor.uleb()))
    return found


def _follow_actions(image: Image, table: int, first: set[int]) -> tuple[dict[int, tuple[int, ...]], int]:
    """Return the filters of the chains that begin at `first`, by their beginnings, and where the last action ends."""
    records: dict[int, tuple[int, int]] = {}
    end = table
    chains: dict[int, tuple[int, ...]] = {}
    for action in first:
        chain: list[int] = []
        at = table + action - 1
        while at:
            if at not in records:
                cursor = _Cursor(image, at)
                number = cursor.sleb()
                link = cursor.address
                distance = cursor.sleb()
                end = max(end, cursor.address)
                records[at] = number, link + distance if distance else 0
            number, at = records[at]
            chain.append(number)
            if len(chain) > _RECORDS_MAX:
                raise InputError("an exception table without end")
        chains[action] = tuple(chain)
    return chains, end


def _read_list(image: Image, address: int) -> tuple[tuple[int, ...], int]:
    """Return the types of an exception specification, and where its list ends."""
    cursor = _Cursor(image, address)
    found: list[int] = []
    while (number := cursor.uleb()) and len(found) < _RECORDS_MAX:
        found.append(number)
    return tuple(found), cursor.address
