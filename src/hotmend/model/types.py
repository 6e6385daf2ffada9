"""The types of one build as its debug information describes them: values only.

Types are written in a canonical form in which two texts are equal exactly when the layouts are: type aliases are
followed, qualifiers are left out, integers are written by their size alone (`int32`; the same bits are the same
number to both builds), and structures by their name. Offsets and sizes are in bytes unless a name says bits.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """A member, base class or variant of a record.

    Attributes:
        name: empty for an anonymous structure or union, `base NAME` for a base class.
        bit_offset: from the start of the record, in bits; -1 where only the running program knows (virtual bases).
        bit_size: of a bit-field, in bits; 0 for other members.
        type: canonical text.
    """

    name: str
    bit_offset: int
    bit_size: int
    type: str


@dataclass(frozen=True, slots=True)
class Record:
    """A structure, class or union with its members.

    Attributes:
        kind: `struct` (classes too) or `union`.
        name: qualified by namespaces and classes; that of the type alias for an unnamed one.
        file: base name of the source file that declares it.
        size: in bytes.
        alignment: as asked for in the source, 0 where nothing is asked.
        members: in the order of the source.
        slots: virtual functions as (place in the table, name), sorted.
    """

    kind: str
    name: str
    file: str
    size: int
    alignment: int
    members: tuple[Member, ...]
    slots: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Enumeration:
    """An enumeration; `name` is empty for an unnamed one, whose enumerators are plain constants."""

    name: str
    file: str
    size: int
    enumerators: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A global or static variable; `address` is its link address, or the offset of a thread-local one."""

    name: str
    file: str
    type: str
    address: int
    thread_local: bool


@dataclass(frozen=True, slots=True)
class Function:
    """A function that other units can call: `name` is its symbol's, `type` its result and parameters."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Types:
    """All types and variables of one build.

    Attributes:
        source: where they were read from, for a reader.
        build_id: of the debug information.
        units: number of compilation units.
        covered: link addresses [start, end) of the code whose types are here, sorted; assembler has none.
    """

    source: str
    build_id: str
    units: int
    covered: tuple[tuple[int, int], ...]
    records: tuple[Record, ...]
    enumerations: tuple[Enumeration, ...]
    variables: tuple[Variable, ...]
    functions: tuple[Function, ...] = ()


@dataclass(frozen=True, slots=True)
class TypePair:
    """The types of both builds of an image."""

    old: Types
    new: Types
