"""Debugging entries to types.

Every compilation unit is walked once: the types it defines, wherever they stand (also inside of functions and classes),
its variables that have an address, and where its code is. Equal definitions of many units become one. What
units share through a supplementary file or a partial unit (dwz) is read when a unit imports it or refers to it.
"""

from __future__ import annotations

from typing import Final

from hotmend.debug.names import UNNAMED, TypeNames
from hotmend.debug.tags import Attribute, Language, Tag
from hotmend.linux.libdw import COMPILE_UNIT, PARTIAL_UNIT, SKELETON_UNIT, TYPE_UNIT, DebugData, Entry
from hotmend.model.errors import InputError
from hotmend.model.types import Enumeration, Function, Member, Record, Types, Variable

ENTRIES_MAX: Final = 60_000_000
DEPTH_MAX: Final = 300
VALUES_MAX: Final = 4_000_000
"""Members and enumerators of all distinct types together."""

_RECORDS: Final[dict[int, str]] = {Tag.STRUCTURE: "struct", Tag.CLASS: "struct", Tag.UNION: "union"}
_INSIDE: Final[frozenset[int]] = frozenset({Tag.SUBPROGRAM, Tag.LEXICAL_BLOCK, Tag.NAMESPACE, Tag.MODULE})
_TYPED: Final[frozenset[int]] = frozenset(
    {*_RECORDS, Tag.ENUMERATION, Tag.TYPEDEF, Tag.BASE, Tag.POINTER, Tag.FORMAL_PARAMETER}
)
_SCOPES: Final[frozenset[int]] = frozenset({Tag.SUBPROGRAM, Tag.NAMESPACE, Tag.MODULE})


def read_types(data: DebugData, source: str = "", build_id: str = "") -> Types:
    """Return all types and variables that the debug information describes.

    Raises:
        InputError: it is damaged, over a limit, or only a skeleton whose rest is in other files (split DWARF).
    """
    reader = _Reader()
    for kind, root in data.units():
        reader.unit(kind, root)
    reader.rest()
    return Types(
        source=source,
        build_id=build_id,
        units=reader.units,
        covered=_joined(reader.ranges),
        records=tuple(sorted(reader.records, key=lambda r: (r.kind, r.name, r.file, r.size))),
        enumerations=tuple(sorted(reader.enumerations, key=lambda e: (e.name, e.file, e.enumerators))),
        variables=tuple(sorted(reader.variables, key=lambda v: (v.name, v.file, v.address, v.type))),
        functions=tuple(sorted(reader.functions, key=lambda f: (f.name, f.type))),
    )


class _Reader:
    """What has been found so far."""

    def __init__(self) -> None:
        self.names = TypeNames()
        self.records: set[Record] = set()
        self.enumerations: set[Enumeration] = set()
        self.variables: set[Variable] = set()
        self.functions: set[Function] = set()
        self.ranges: list[tuple[int, int]] = []
        self.units = 0
        self._files: dict[int, str] = {}
        self._seen: set[int] = set()
        """Types and shared units that have been read."""
        self._typed = False
        """Whether the unit says anything of types: with `-g1` it knows lines and functions alone."""
        self._entries = 0
        self._values = 0

    def unit(self, kind: int, root: Entry) -> None:
        """Read one unit of the file; a partial unit is left to those that import it."""
        if kind == SKELETON_UNIT or root.has(Attribute.DWO_NAME) or root.has(Attribute.GNU_DWO_NAME):
            raise InputError("the debug information is split: its types are in other files (.dwo)")
        if kind == PARTIAL_UNIT:
            return
        if kind == COMPILE_UNIT:
            self.units += 1
        elif kind != TYPE_UNIT:
            raise InputError(f"a unit of the unknown kind {kind}")
        self._typed = False
        self._walk(root, "", 0)
        if kind == COMPILE_UNIT and self._typed and root.language() not in (Language.ASSEMBLER, Language.NONE):
            self.ranges += root.ranges()

    def rest(self) -> None:
        """Read the types that others refer to and no walk has met."""
        while self.names.wanted:
            entry = self.names.wanted.pop()
            if entry.key not in self._seen:
                self._type(entry, entry.tag, 0)

    def _walk(self, parent: Entry, scope: str, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise InputError(f"debugging entries are nested more than {DEPTH_MAX} deep")
        for entry in parent.children():
            self._entries += 1
            tag = entry.tag
            if tag in _TYPED:
                self._typed = True
            if tag in _RECORDS or tag in (Tag.ENUMERATION, Tag.TYPEDEF):
                self._type(entry, tag, depth)
            elif tag in _INSIDE:
                if tag == Tag.SUBPROGRAM:
                    self._function(entry)
                inner = _join(scope, entry.name or UNNAMED) if tag in _SCOPES else scope
                self._walk(entry, inner, depth + 1)
            elif tag == Tag.VARIABLE:
                self._variable(entry, scope)
            elif tag == Tag.IMPORTED_UNIT:
                self._import(entry, depth)
        if self._entries > ENTRIES_MAX:
            raise InputError(f"more than {ENTRIES_MAX} debugging entries")

    def _import(self, entry: Entry, depth: int) -> None:
        unit = entry.reference(Attribute.IMPORT)
        if unit is None or unit.tag != Tag.PARTIAL_UNIT:
            return  # another compilation unit (LTO) is met by itself
        self._typed = True
        if unit.key not in self._seen:
            self._seen.add(unit.key)
            self._walk(unit, "", depth + 1)

    def _type(self, entry: Entry, tag: int, depth: int) -> None:
        """Read a type that has a definition here."""
        self._seen.add(entry.key)
        if tag in _RECORDS:
            self._record(entry, tag, depth)
        elif tag == Tag.ENUMERATION:
            self._enumeration(entry)
        elif tag == Tag.TYPEDEF:
            self._alias(entry, depth)

    def _alias(self, entry: Entry, depth: int) -> None:
        """An unnamed record goes by the name of its alias; it is met by itself, and named so, here."""
        target = entry.reference(Attribute.TYPE)
        if target is not None and target.tag in _RECORDS and not target.name:
            self.names.name_unnamed(target, self.names.qualified(entry))
            self._record(target, target.tag, depth)

    def _record(self, entry: Entry, tag: int, depth: int) -> None:
        if entry.has(Attribute.DECLARATION):
            return
        name = self.names.qualified(entry)
        members: list[Member] = []
        slots: list[tuple[int, str]] = []
        self._parts(entry, name, members, slots, depth)
        if not name:
            return
        record = Record(
            kind=_RECORDS[tag],
            name=name,
            file=entry.declared_in(self._files),
            size=entry.number(Attribute.BYTE_SIZE) or 0,
            alignment=entry.number(Attribute.ALIGNMENT) or 0,
            members=tuple(members),
            slots=tuple(sorted(slots)),
        )
        self._count(record not in self.records, len(members) + len(slots) + 1)
        self.records.add(record)

    def _parts(self, entry: Entry, name: str, members: list[Member], slots: list[tuple[int, str]], depth: int) -> None:
        """Collect the members of a record and read the types inside of it."""
        if depth > DEPTH_MAX:
            raise InputError(f"types are nested more than {DEPTH_MAX} deep")
        for part in entry.children():
            self._entries += 1
            tag = part.tag
            if tag in (Tag.MEMBER, Tag.INHERITANCE):
                member = self.names.member(part, tag)
                if member.bit_offset or not (part.has(Attribute.EXTERNAL) or part.has(Attribute.DECLARATION)):
                    members.append(member)  # static members have no place
            elif tag == Tag.SUBPROGRAM:
                place = part.constant(Attribute.VTABLE_ELEM_LOCATION)
                if place is not None:
                    slots.append((place, part.text(Attribute.LINKAGE_NAME) or part.name))
                self._walk(part, _join(name, part.name), depth + 1)
            elif tag in _RECORDS or tag in (Tag.ENUMERATION, Tag.TYPEDEF):
                self._type(part, tag, depth + 1)
            elif tag == Tag.VARIANT_PART:
                members += self.names.variants(part)

    def _enumeration(self, entry: Entry) -> None:
        if entry.has(Attribute.DECLARATION):
            return
        values = []
        for part in entry.children():
            self._entries += 1
            if part.tag == Tag.ENUMERATOR:
                values.append((part.name, _signed(part.number(Attribute.CONST_VALUE) or 0)))
        enumeration = Enumeration(
            self.names.qualified(entry),
            entry.declared_in(self._files),
            entry.number(Attribute.BYTE_SIZE) or 0,
            tuple(values),
        )
        self._count(enumeration not in self.enumerations, len(values) + 1)
        self.enumerations.add(enumeration)

    def _variable(self, entry: Entry, scope: str) -> None:
        place = entry.place(Attribute.LOCATION)
        if place is None:
            return
        name = self.names.variable(entry, scope)
        if not name:
            return
        target = entry.reference(Attribute.TYPE, integrate=True)
        variable = Variable(name, entry.declared_in(self._files), self.names.text(target), *place)
        self._count(variable not in self.variables, 1)
        self.variables.add(variable)

    def _function(self, entry: Entry) -> None:
        """Note the signature of a function that has code here and a symbol that others can use."""
        if not entry.has(Attribute.EXTERNAL) or entry.has(Attribute.DECLARATION):
            return
        name = entry.text(Attribute.LINKAGE_NAME) or entry.name
        if name:
            function = Function(name, self.names.text(entry))
            self._count(function not in self.functions, 1)
            self.functions.add(function)

    def _count(self, fresh: bool, values: int) -> None:
        self._values += values if fresh else 0
        if self._values > VALUES_MAX:
            raise InputError(f"more than {VALUES_MAX} members, enumerators and variables")


def _join(scope: str, name: str) -> str:
    return f"{scope}::{name}" if scope else name


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _joined(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the ranges sorted, touching ones as one. Discarded code stands at address 0 or near it."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return tuple(result)
