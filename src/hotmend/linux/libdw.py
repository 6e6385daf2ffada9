"""DWARF by libdw (elfutils): debugging entries, their attributes and the units they stand in.

A thin binding: what the entries mean is told in `debug.reader`. libdw decodes every version of DWARF, compressed
sections and supplementary files. It is C and reads what strangers wrote, so `debug.read` runs it in a child process.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any, Final, Self, cast

from hotmend.model.errors import InputError

COMPILE_UNIT, TYPE_UNIT, PARTIAL_UNIT, SKELETON_UNIT = 1, 2, 3, 4
"""`DW_UT_*`; libdw gives them for units of older versions as well."""

_DW_OP_ADDR, _DW_OP_PLUS_UCONST, _DW_OP_CONSTU = 0x03, 0x23, 0x10
_DW_OP_CONST: Final = frozenset(range(0x08, 0x12))
"""`DW_OP_const1u` ... `DW_OP_consts`."""
_DW_OP_ADDRX, _DW_OP_GNU_ADDR_INDEX = 0xA1, 0xFB
_DW_OP_TLS: Final = frozenset({0x9B, 0xE0})
"""`DW_OP_form_tls_address`, `DW_OP_GNU_push_tls_address`."""
_ENTRIES_MAX = 60_000_000
_RANGES_MAX = 1 << 20


class _Die(ctypes.Structure):
    _fields_ = (
        ("addr", ctypes.c_void_p),
        ("cu", ctypes.c_void_p),
        ("abbrev", ctypes.c_void_p),
        ("padding", ctypes.c_long),
    )


class _Attribute(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint),
        ("form", ctypes.c_uint),
        ("valp", ctypes.c_void_p),
        ("cu", ctypes.c_void_p),
    )


class _Operation(ctypes.Structure):
    _fields_ = (
        ("atom", ctypes.c_uint8),
        ("number", ctypes.c_uint64),
        ("number2", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
    )


_Function = Callable[..., Any]


class _Libdw:
    """The functions of libdw that are used. They are looked up once: that would cost as much as a call."""

    def __init__(self) -> None:
        try:
            self._library: ctypes.CDLL | None = ctypes.CDLL("libdw.so.1")
        except OSError:
            self._library = None
        pointer, number = ctypes.c_void_p, ctypes.c_int
        self.begin = self._bind("dwarf_begin", pointer, number, number)
        self.end = self._bind("dwarf_end", number, pointer)
        self.setalt = self._bind("dwarf_setalt", None, pointer, pointer)
        self.errmsg = self._bind("dwarf_errmsg", ctypes.c_char_p, number)
        self.get_units = self._bind("dwarf_get_units", number, *[pointer] * 7)
        self.child = self._bind("dwarf_child", number, pointer, pointer)
        self.siblingof = self._bind("dwarf_siblingof", number, pointer, pointer)
        self.diecu = self._bind("dwarf_diecu", pointer, *[pointer] * 4)
        self.tag = self._bind("dwarf_tag", number, pointer)
        self.diename = self._bind("dwarf_diename", ctypes.c_char_p, pointer)
        self.attr = self._bind("dwarf_attr", pointer, pointer, ctypes.c_uint, pointer)
        self.attr_integrate = self._bind("dwarf_attr_integrate", pointer, pointer, ctypes.c_uint, pointer)
        self.formudata = self._bind("dwarf_formudata", number, pointer, pointer)
        self.formref_die = self._bind("dwarf_formref_die", pointer, pointer, pointer)
        self.formstring = self._bind("dwarf_formstring", ctypes.c_char_p, pointer)
        self.formaddr = self._bind("dwarf_formaddr", number, pointer, pointer)
        self.decl_file = self._bind("dwarf_decl_file", pointer, pointer)
        self.srclang = self._bind("dwarf_srclang", number, pointer)
        self.ranges = self._bind("dwarf_ranges", ctypes.c_ssize_t, pointer, ctypes.c_ssize_t, *[pointer] * 3)
        self.getlocation = self._bind("dwarf_getlocation", number, *[pointer] * 3)
        self.getlocation_attr = self._bind("dwarf_getlocation_attr", number, *[pointer] * 3)

    def _bind(self, name: str, result: Any, *arguments: Any) -> _Function:
        if self._library is None:
            return _missing
        function = getattr(self._library, name)
        function.restype, function.argtypes = result, arguments
        return cast("_Function", function)


def _missing(*_: object) -> None:
    raise InputError("libdw is not installed", "it reads debug information; it comes with elfutils (libdw1)")


_DW: Final = _Libdw()
_attr, _diename, _tag, _formudata = _DW.attr, _DW.diename, _DW.tag, _DW.formudata
_ATTRIBUTE: Final = _Attribute()
_ATTRIBUTE_AT: Final = ctypes.addressof(_ATTRIBUTE)
_NUMBER: Final = ctypes.c_uint64()
_NUMBER_AT: Final = ctypes.addressof(_NUMBER)


def _damaged() -> InputError:
    text = _DW.errmsg(-1) or b"unknown error"
    return InputError(f"damaged debug information ({text.decode('utf-8', 'replace')})")


class Entry:
    """A debugging information entry (DIE). Attributes are named by their `DW_AT_*` numbers."""

    __slots__ = ("_raw", "at")

    def __init__(self) -> None:
        self._raw = _Die()
        self.at = ctypes.addressof(self._raw)
        """Where the C structure stands; stable as long as the entry lives."""

    @property
    def key(self) -> int:
        """What identifies the entry among all entries that are open."""
        return self._raw.addr or 0

    @property
    def tag(self) -> int:
        """`DW_TAG_*`."""
        tag: int = _tag(self.at)
        return tag

    @property
    def name(self) -> str:
        """`DW_AT_name`, also that of the declaration it completes; empty without."""
        text = _diename(self.at)
        return text.decode("utf-8", "replace") if text else ""

    def number(self, attribute: int) -> int | None:
        """Return the value of a constant attribute, unsigned; None where it is missing or no constant."""
        if not _attr(self.at, attribute, _ATTRIBUTE_AT):
            return None
        return _NUMBER.value if _formudata(_ATTRIBUTE_AT, _NUMBER_AT) == 0 else None

    def has(self, attribute: int) -> bool:
        """Return whether the attribute is there, whatever its value."""
        return bool(_attr(self.at, attribute, _ATTRIBUTE_AT))

    def text(self, attribute: int) -> str:
        """Return a text attribute, also that of the declaration; empty where it is missing."""
        if not _DW.attr_integrate(self.at, attribute, _ATTRIBUTE_AT):
            return ""
        text = _DW.formstring(_ATTRIBUTE_AT)
        return text.decode("utf-8", "replace") if text else ""

    def reference(self, attribute: int, *, integrate: bool = False) -> Entry | None:
        """Return the entry that an attribute refers to; `integrate`: the declaration's attribute counts too.

        Raises:
            InputError: it refers to what does not exist.
        """
        get = _DW.attr_integrate if integrate else _DW.attr
        if not get(self.at, attribute, _ATTRIBUTE_AT):
            return None
        target = Entry()
        if not _DW.formref_die(_ATTRIBUTE_AT, target.at):
            raise _damaged()
        return target

    def children(self) -> Iterator[Entry]:
        """Iterate over the children. The same object is given again and again: it is good until the next step."""
        entry = Entry()
        at, next_of = entry.at, _DW.siblingof
        state = _DW.child(self.at, at)
        for _ in range(_ENTRIES_MAX):
            if state != 0:
                break
            yield entry
            state = next_of(at, at)
        if state != 1:
            raise _damaged()

    def copy(self) -> Entry:
        """Return an entry of its own for what a step of `children` gave."""
        other = Entry()
        ctypes.pointer(other._raw)[0] = self._raw
        return other

    def unit(self) -> Entry:
        """Return the entry of the unit that this one stands in."""
        root = Entry()
        if not _DW.diecu(self.at, root.at, None, None):
            raise _damaged()
        return root

    def declared_in(self, known: dict[int, str]) -> str:
        """Return the base name of the declaring source file; `known` remembers them. Empty where it is not said."""
        text = _DW.decl_file(self.at)
        if not text:
            return ""
        found = known.get(text)
        if found is None:
            path = ctypes.string_at(text).decode("utf-8", "replace")
            found = known[text] = PurePosixPath(path).name
        return found

    def language(self) -> int:
        """Return the `DW_LANG_*` of a unit's entry, 0 where it does not say."""
        return max(int(_DW.srclang(self.at)), 0)

    def ranges(self) -> list[tuple[int, int]]:
        """Return the addresses [start, end) of the code of a unit."""
        base, start, end = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
        places = [ctypes.addressof(value) for value in (base, start, end)]
        result: list[tuple[int, int]] = []
        offset = 0
        while len(result) < _RANGES_MAX:
            offset = _DW.ranges(self.at, offset, *places)
            if offset == 0:
                return result
            if offset < 0:
                raise _damaged()
            if start.value < end.value:
                result.append((start.value, end.value))
        raise InputError(f"a unit has more than {_RANGES_MAX} ranges of code")

    def place(self, attribute: int) -> tuple[int, bool] | None:
        """Return (link address, False) or (offset, True) for a thread-local, where a location is that simple."""
        operations = self._operations(attribute)
        if operations is None or not 1 <= len(operations) <= 2:
            return None
        atom, number, address = operations[0]
        if len(operations) == 1:
            return (address, False) if address is not None else None
        if operations[1][0] in _DW_OP_TLS and (atom in _DW_OP_CONST or address is not None):
            return (address if address is not None else number, True)
        return None

    def constant(self, attribute: int) -> int | None:
        """Return a constant that is written as a number or as a location expression of one step (DWARF 2 and 3)."""
        value = self.number(attribute)
        if value is not None:
            return value
        operations = self._operations(attribute)
        if operations is None or len(operations) != 1:
            return None
        atom, number, _ = operations[0]
        return number if atom == _DW_OP_PLUS_UCONST or atom in _DW_OP_CONST else None

    def _operations(self, attribute: int) -> list[tuple[int, int, int | None]] | None:
        """Return the operations of a location as (atom, first operand, address if it is one)."""
        own = _Attribute()
        if not _attr(self.at, attribute, ctypes.addressof(own)):
            return None
        first, count = ctypes.POINTER(_Operation)(), ctypes.c_size_t()
        if _DW.getlocation(ctypes.addressof(own), ctypes.byref(first), ctypes.byref(count)) != 0:
            return None
        return [(first[i].atom, first[i].number, self._address(own, first[i])) for i in range(min(count.value, 4))]

    def _address(self, attribute: _Attribute, operation: _Operation) -> int | None:
        if operation.atom == _DW_OP_ADDR:
            return int(operation.number)
        if operation.atom not in (_DW_OP_ADDRX, _DW_OP_GNU_ADDR_INDEX):
            return None
        if _DW.getlocation_attr(ctypes.addressof(attribute), ctypes.byref(operation), _ATTRIBUTE_AT) != 0:
            return None
        return _NUMBER.value if _DW.formaddr(_ATTRIBUTE_AT, _NUMBER_AT) == 0 else None


class DebugData:
    """The debug information of an open file, with that of its supplementary file where there is one."""

    def __init__(self, descriptor: int, supplement: int | None = None) -> None:
        """Open them; the descriptors stay the caller's and have to stay open.

        Raises:
            InputError: libdw cannot read one of them.
        """
        self._handle = self._begin(descriptor)
        self._supplement = self._begin(supplement) if supplement is not None else None
        if self._supplement is not None:
            _DW.setalt(self._handle, self._supplement)

    @staticmethod
    def _begin(descriptor: int) -> int:
        handle = _DW.begin(descriptor, 0)
        if not handle:
            raise _damaged()
        return int(handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the memory back; no entry may be used any more."""
        for handle in (self._handle, self._supplement):
            if handle:
                _DW.end(handle)
        self._handle, self._supplement = 0, None

    def units(self) -> Iterator[tuple[int, Entry]]:
        """Iterate over the units of the file itself: (`DW_UT_*`, the unit's own entry)."""
        unit, following = ctypes.c_void_p(), ctypes.c_void_p()
        version, kind = ctypes.c_uint16(), ctypes.c_uint8()
        for _ in itertools.repeat(None, _ENTRIES_MAX):
            root, inner = Entry(), Entry()
            state = _DW.get_units(
                self._handle,
                unit,
                ctypes.byref(following),
                ctypes.byref(version),
                ctypes.byref(kind),
                root.at,
                inner.at,
            )
            if state < 0:
                raise _damaged()
            if state == 1:
                return
            yield kind.value, root
            unit = ctypes.c_void_p(following.value)
