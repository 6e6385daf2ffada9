"""The canonical text and the qualified name of every type.

Two texts are equal exactly when values of the two types look the same in memory, as far as the text goes: a
structure is named here and described once, by itself.
"""

from __future__ import annotations

from typing import Final

from hotmend.debug.tags import Attribute, Encoding, Language, Tag
from hotmend.linux.libdw import Entry
from hotmend.model.errors import InputError
from hotmend.model.types import Member

UNNAMED: Final = "(unnamed)"
TEXT_CHARACTERS_MAX: Final = 20_000
_DEPTH_MAX: Final = 60
_NAMED: Final[dict[int, str]] = {
    Tag.STRUCTURE: "struct",
    Tag.CLASS: "struct",
    Tag.UNION: "union",
    Tag.ENUMERATION: "enum",
}
_THROUGH: Final[frozenset[int]] = frozenset(
    {Tag.CONST, Tag.VOLATILE, Tag.RESTRICT, Tag.ATOMIC, Tag.PACKED, Tag.SHARED, Tag.IMMUTABLE, Tag.TYPEDEF}
)
"""What does not change how a value looks."""
_ADDRESSES: Final[dict[int, str]] = {
    Tag.POINTER: "{} *",
    Tag.REFERENCE: "{} &",
    Tag.RVALUE_REFERENCE: "{} &&",
    Tag.POINTER_TO_MEMBER: "{} ::*",
}
_SCOPES: Final[frozenset[int]] = frozenset(
    {Tag.NAMESPACE, Tag.MODULE, Tag.SUBPROGRAM, Tag.STRUCTURE, Tag.CLASS, Tag.UNION}
)
_FLAT: Final[frozenset[int]] = frozenset(
    {Language.C89, Language.C, Language.C99, Language.C11, Language.C17, Language.ASSEMBLER}
)
_NUMBERS: Final[dict[int, str]] = {
    Encoding.BOOLEAN: "bool",
    Encoding.FLOAT: "float",
    Encoding.COMPLEX_FLOAT: "complex",
    Encoding.IMAGINARY_FLOAT: "imaginary",
    Encoding.DECIMAL_FLOAT: "decimal",
}


class TypeNames:
    """Texts and names by entry, each made once."""

    def __init__(self) -> None:
        self.wanted: list[Entry] = []
        """Records and enumerations that a text names; they have to be read even if no walk meets them."""
        self._texts: dict[int, str] = {}
        self._names: dict[int, str] = {}
        """Qualified names of types in units whose language has scopes, and of unnamed ones with an alias."""
        self._units: set[int] = set()
        self._open: set[int] = set()

    def qualified(self, entry: Entry) -> str:
        """Return a type's name with its namespaces and classes; empty for an unnamed one without an alias."""
        known = self._names.get(entry.key)
        if known is not None:
            return known
        self._learn(entry)
        return self._names.get(entry.key, entry.name)

    def name_unnamed(self, entry: Entry, name: str) -> None:
        """Give an unnamed record the name of its alias; the first one counts."""
        self._names.setdefault(entry.key, name)

    def variable(self, entry: Entry, scope: str) -> str:
        """Return the name of a variable in a function or namespace; a class's own by its declaration."""
        name = entry.name
        if not name:
            origin = entry.reference(Attribute.SPECIFICATION)
            name = origin.name if origin is not None else ""
        return f"{scope}::{name}" if scope and name else name

    def _learn(self, entry: Entry) -> None:
        """Name the types of the unit that an entry stands in, where its language has scopes."""
        root = entry.unit()
        if root.key in self._units:
            return
        self._units.add(root.key)
        if root.language() not in _FLAT:
            self._scope(root, "", 0)

    def _scope(self, parent: Entry, scope: str, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise InputError("namespaces and classes are nested too deep")
        for entry in parent.children():
            tag = entry.tag
            if tag in _NAMED or tag in _SCOPES or tag == Tag.TYPEDEF:
                name = self._scoped(entry, scope)
                if tag not in (Tag.NAMESPACE, Tag.MODULE, Tag.SUBPROGRAM):
                    self._names.setdefault(entry.key, name if entry.name else "")
                if tag in _SCOPES:
                    self._scope(entry, name, depth + 1)
            elif tag == Tag.LEXICAL_BLOCK:
                self._scope(entry, scope, depth + 1)

    def _scoped(self, entry: Entry, scope: str) -> str:
        """Return the name that a scope gives an entry; a definition outside of its class has the declaration's."""
        declaration = entry.reference(Attribute.SPECIFICATION)
        if declaration is not None and declaration.key in self._names:
            return self._names[declaration.key]
        name = entry.name or UNNAMED
        return f"{scope}::{name}" if scope else name

    def text(self, entry: Entry | None, depth: int = 0) -> str:
        """Return the canonical text of a type; None is void."""
        if entry is None:
            return "void"
        key = entry.key
        known = self._texts.get(key)
        if known is not None:
            return known
        if depth > _DEPTH_MAX:
            raise InputError(f"a type is nested more than {_DEPTH_MAX} deep")
        if key in self._open:
            return "..."
        self._open.add(key)
        try:
            text = self._make(entry, depth + 1)
        finally:
            self._open.discard(key)
        if len(text) > TEXT_CHARACTERS_MAX:
            raise InputError(f"a type of more than {TEXT_CHARACTERS_MAX} characters")
        self._texts[key] = text
        return text

    def _make(self, entry: Entry, depth: int) -> str:
        tag = entry.tag
        if tag in _NAMED:
            return self._named(entry, tag, depth)
        if tag == Tag.BASE:
            return _base(entry)
        if tag in _THROUGH:
            return self._through(entry, tag, depth)
        if tag in _ADDRESSES:
            return _ADDRESSES[tag].format(self.text(entry.reference(Attribute.TYPE), depth))
        if tag == Tag.ARRAY:
            return self._array(entry, depth)
        if tag in (Tag.SUBROUTINE, Tag.SUBPROGRAM):
            return self._function(entry, depth)
        if tag == Tag.SUBRANGE:
            return self.text(entry.reference(Attribute.TYPE), depth)
        return f"{entry.name or UNNAMED} of {entry.number(Attribute.BYTE_SIZE) or 0} bytes"

    def _named(self, entry: Entry, tag: int, depth: int) -> str:
        elsewhere = entry.reference(Attribute.SIGNATURE)
        if elsewhere is not None:
            return self.text(elsewhere, depth)  # a type unit has the definition
        name = self.qualified(entry)
        if name:
            self.wanted.append(entry)
            return f"{_NAMED[tag]} {name}"
        size = entry.number(Attribute.BYTE_SIZE) or 0
        if tag == Tag.ENUMERATION:
            return f"int{8 * size}"
        parts = []
        for part in entry.children():
            tag_of_part = part.tag
            if tag_of_part in (Tag.MEMBER, Tag.INHERITANCE):
                parts.append(_member_text(self.member(part, tag_of_part, depth)))
            elif tag_of_part == Tag.VARIANT_PART:
                parts += [_member_text(member) for member in self.variants(part)]
        return f"{_NAMED[tag]} of {size} bytes {{{'; '.join(parts)}}}"

    def _through(self, entry: Entry, tag: int, depth: int) -> str:
        target = entry.reference(Attribute.TYPE)
        if tag == Tag.TYPEDEF and target is not None:
            tag_of_target = target.tag
            if tag_of_target in _NAMED and tag_of_target != Tag.ENUMERATION and not target.name:
                self.name_unnamed(target, self.qualified(entry))
        return self.text(target, depth)

    def _array(self, entry: Entry, depth: int) -> str:
        text = self.text(entry.reference(Attribute.TYPE), depth)
        bounds = []
        for part in entry.children():
            if part.tag in (Tag.SUBRANGE, Tag.ENUMERATION):
                count, last = part.number(Attribute.COUNT), part.number(Attribute.UPPER_BOUND)
                if count is None and last is not None:
                    count = (last + 1) % (1 << 64)
                bounds.append(f"[{count if count is not None else ''}]")
        vector = " vector" if entry.has(Attribute.GNU_VECTOR) else ""
        return f"{text}{vector} {''.join(bounds)}"

    def _function(self, entry: Entry, depth: int) -> str:
        result = self.text(entry.reference(Attribute.TYPE), depth)
        parameters = []
        for part in entry.children():
            tag = part.tag
            if tag == Tag.FORMAL_PARAMETER:
                parameters.append(self.text(part.reference(Attribute.TYPE), depth))
            elif tag == Tag.UNSPECIFIED_PARAMETERS:
                parameters.append("...")
        return f"{result} ({', '.join(parameters)})"

    def member(self, part: Entry, tag: int, depth: int = 0) -> Member:
        """Return a member or base class."""
        target = part.reference(Attribute.TYPE)
        text = self.text(target, depth)
        bits = part.number(Attribute.BIT_SIZE) or 0
        name = f"base {text}" if tag == Tag.INHERITANCE else part.name
        return Member(name, _bit_offset(part, target, bits), bits, text)

    def variants(self, part: Entry) -> list[Member]:
        """Return the members of a Rust enumeration: which value of the tag means which members."""
        result = []
        discriminant = part.reference(Attribute.DISCRIMINANT)
        if discriminant is not None:
            found = self.member(discriminant, Tag.MEMBER)
            result.append(Member("discriminant", found.bit_offset, 0, found.type))
        for variant in part.children():
            if variant.tag == Tag.VARIANT:
                value = variant.number(Attribute.DISCRIMINANT_VALUE)
                label = f"variant {value if value is not None else 'otherwise'}"
                for inner in variant.children():
                    if inner.tag == Tag.MEMBER:
                        found = self.member(inner, Tag.MEMBER)
                        result.append(Member(f"{label} {found.name}", found.bit_offset, found.bit_size, found.type))
        return result


def _bit_offset(part: Entry, target: Entry | None, bits: int) -> int:
    """Return where a member begins, in bits; -1 where that is no constant."""
    direct = part.number(Attribute.DATA_BIT_OFFSET)
    if direct is not None:
        return direct
    start = part.constant(Attribute.DATA_MEMBER_LOCATION)
    if start is None:
        return -1 if part.has(Attribute.DATA_MEMBER_LOCATION) else 0
    from_top = part.number(Attribute.BIT_OFFSET)
    if from_top is None:
        return 8 * start
    # Up to DWARF 3 a bit-field counts from the most significant bit of its storage unit.
    storage = part.number(Attribute.BYTE_SIZE) or _size_through(target)
    return 8 * start + 8 * storage - from_top - bits


def _size_through(target: Entry | None) -> int:
    for _ in range(_DEPTH_MAX):
        if target is None:
            return 0
        size = target.number(Attribute.BYTE_SIZE)
        if size is not None:
            return size
        target = target.reference(Attribute.TYPE)
    return 0


def _base(entry: Entry) -> str:
    """Integers of one size are one type: the sign says how code treats the value, not how it looks."""
    size = 8 * (entry.number(Attribute.BYTE_SIZE) or 0)
    encoding = entry.number(Attribute.ENCODING) or 0
    return f"{_NUMBERS.get(encoding, 'int')}{size}"


def _member_text(member: Member) -> str:
    bits = f":{member.bit_size}" if member.bit_size else ""
    return f"{member.name}{bits} @{member.bit_offset / 8:g} {member.type}"
