"""What the unwinder reads about one function: its frame description, and its language specific data area (LSDA).

The layouts are those of the Linux Standard Base (`.eh_frame`) and of the Itanium C++ ABI's exception tables. Only the
pointer encodings that compilers for x86-64 use are read; any other is an error, and the function is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Handling:
    """The unwinding data of one function: link addresses of its parts, and the pointers that leave them."""

    common: Extent
    description: Extent
    lsda: Extent | None
    pointers: tuple[Pointer, ...]


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
    lsda = None
    cursor.address = distance_at + 12
    if cursor.uleb() and common.lsda_encoding != _OMITTED:
        pointer = cursor.pointer(common.lsda_encoding)
        if pointer is not None:
            if pointer.indirect:
                raise InputError("an exception table behind a slot")
            lsda, types = _read_lsda(image, pointer.target)
            pointers += [pointer, *types]
    return Handling(common.extent, description, lsda, tuple(pointers))


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


def _read_lsda(image: Image, address: int) -> tuple[Extent, list[Pointer]]:
    """Return the extent of an exception table and the types it names."""
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
    first = _read_call_sites(cursor, actions)
    filters, end = _follow_actions(image, actions, first)
    wanted = {f for f in filters if f > 0}
    for listed in (f for f in filters if f < 0):
        more, list_end = _read_list(image, type_base - listed - 1)
        wanted |= more
        end = max(end, list_end)
    if wanted and not type_base:
        raise InputError("an exception table without types")
    types = []
    for number in sorted(wanted):
        pointer = _Cursor(image, type_base - number * _POINTER_BYTES).pointer(type_encoding, is_type=True)
        if pointer is not None:
            types.append(pointer)
    return Extent(LinkAddress(address), max(end, type_base) - address), types


def _read_call_sites(cursor: _Cursor, end: int) -> set[int]:
    """Return the actions (offset + 1) that call sites begin with."""
    found = set()
    while cursor.address < end:
        for _ in range(3):
            cursor.uleb()
        if action := cursor.uleb():
            found.add(action)
    return found


def _follow_actions(image: Image, table: int, first: set[int]) -> tuple[set[int], int]:
    """Return all filters of the chains that begin at `first`, and where the last action ends."""
    filters: set[int] = set()
    end = table
    pending, seen = [table + action - 1 for action in first], set()
    while pending:
        at = pending.pop()
        if at in seen:
            continue
        seen.add(at)
        if len(seen) > _RECORDS_MAX:
            raise InputError("an exception table without end")
        cursor = _Cursor(image, at)
        filters.add(cursor.sleb())
        link = cursor.address
        distance = cursor.sleb()
        end = max(end, cursor.address)
        if distance:
            pending.append(link + distance)
    return filters, end


def _read_list(image: Image, address: int) -> tuple[set[int], int]:
    """Return the types of an exception specification, and where its list ends."""
    cursor = _Cursor(image, address)
    found: set[int] = set()
    while (number := cursor.uleb()) and len(found) < _RECORDS_MAX:
        found.add(number)
    return found, cursor.address
