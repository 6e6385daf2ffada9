"""DWARF by libdw (elfutils): debugging entries, their attributes and the units they stand in.

A thin binding: what the entries mean is told in `debug.reader`. libdw decodes every version of DWARF, compressed
sections and supplementary files. It is C and reads what strangers wrote, so `debug.read` runs it in a child process.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final, Self

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


def _bind() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libdw.so.1")
    except OSError:
        return None
    pointer = ctypes.c_void_p
    for name, result, arguments in (
        ("dwarf_begin", pointer, [ctypes.c_int, ctypes.c_int]),
        ("dwarf_end", ctypes.c_int, [pointer]),
        ("dwarf_setalt", None, [pointer, pointer]),
        ("dwarf_errmsg", ctypes.c_char_p, [ctypes.c_int]),
        ("dwarf_get_units", ctypes.c_int, [pointer] * 7),
        ("dwarf_child", ctypes.c_int, [pointer, pointer]),
        ("dwarf_siblingof", ctypes.c_int, [pointer, pointer]),
        ("dwarf_diecu", pointer, [pointer] * 4),
        ("dwarf_tag", ctypes.c_int, [pointer]),
        ("dwarf_diename", ctypes.c_char_p, [pointer]),
        ("dwarf_attr", pointer, [pointer, ctypes.c_uint, pointer]),
        ("dwarf_attr_integrate", pointer, [pointer, ctypes.c_uint, pointer]),
        ("dwarf_formudata", ctypes.c_int, [pointer, pointer]),
        ("dwarf_formref_die", pointer, [pointer, pointer]),
        ("dwarf_formstring", ctypes.c_char_p, [pointer]),
        ("dwarf_formaddr", ctypes.c_int, [pointer, pointer]),
        ("dwarf_decl_file", pointer, [pointer]),
        ("dwarf_srclang", ctypes.c_int, [pointer]),
        ("dwarf_ranges", ctypes.c_ssize_t, [pointer, ctypes.c_ssize_t, pointer, pointer, pointer]),
        ("dwarf_getlocation", ctypes.c_int, [pointer, pointer, pointer]),
        ("dwarf_getlocation_attr", ctypes.c_int, [pointer, pointer, pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


_LIBDW: Final = _bind()
_ATTRIBUTE: Final = _Attribute()
_ATTRIBUTE_AT: Final = ctypes.addressof(_ATTRIBUTE)
_NUMBER: Final = ctypes.c_uint64()
_NUMBER_AT: Final = ctypes.addressof(_NUMBER)


def available() -> bool:
    """Return whether libdw is installed."""
    return _LIBDW is not None


def _library() -> ctypes.CDLL:
    if _LIBDW is None:
        raise InputError("libdw is not installed", "it reads debug information; it comes with elfutils (libdw1)")
    return _LIBDW


def _damaged() -> InputError:
    text = _library().dwarf_errmsg(-1) or b"unknown error"
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
        return int(_library().dwarf_tag(self.at))

    @property
    def name(self) -> str:
        """`DW_AT_name`, also that of the declaration it completes; empty without."""
        text = _library().dwarf_diename(self.at)
        return text.decode("utf-8", "replace") if text else ""

    def number(self, attribute: int) -> int | None:
        """Return the value of a constant attribute, unsigned; None where it is missing or no constant."""
        library = _library()
        if not library.dwarf_attr(self.at, attribute, _ATTRIBUTE_AT):
            return None
        return _NUMBER.value if library.dwarf_formudata(_ATTRIBUTE_AT, _NUMBER_AT) == 0 else None

    def has(self, attribute: int) -> bool:
        """Return whether the attribute is there, whatever its value."""
        return bool(_library().dwarf_attr(self.at, attribute, _ATTRIBUTE_AT))

    def text(self, attribute: int) -> str:
        """Return a text attribute, also that of the declaration; empty where it is missing."""
        library = _library()
        if not library.dwarf_attr_integrate(self.at, attribute, _ATTRIBUTE_AT):
            return ""
        text = library.dwarf_formstring(_ATTRIBUTE_AT)
        return text.decode("utf-8", "replace") if text else ""

    def reference(self, attribute: int, *, integrate: bool = False) -> Entry | None:
        """Return the entry that an attribute refers to; `integrate`: the declaration's attribute counts too.

        Raises:
            InputError: it refers to what does not exist.
        """
        library = _library()
        get = library.dwarf_attr_integrate if integrate else library.dwarf_attr
        if not get(self.at, attribute, _ATTRIBUTE_AT):
            return None
        target = Entry()
        if not library.dwarf_formref_die(_ATTRIBUTE_AT, target.at):
            raise _damaged()
        return target

    def children(self) -> Iterator[Entry]:
        """Iterate over the children. The same object is given again and again: it is good until the next step."""
        library = _library()
        entry = Entry()
        at, next_of = entry.at, library.dwarf_siblingof
        state = library.dwarf_child(self.at, at)
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
        if not _library().dwarf_diecu(self.at, root.at, None, None):
            raise _damaged()
        return root

    def declared_in(self, known: dict[int, str]) -> str:
        """Return the base name of the declaring source file; `known` remembers them. Empty where it is not said."""
        text = _library().dwarf_decl_file(self.at)
        if not text:
            return ""
        found = known.get(text)
        if found is None:
            path = ctypes.string_at(text).decode("utf-8", "replace")
            found = known[text] = PurePosixPath(path).name
        return found

    def language(self) -> int:
        """Return the `DW_LANG_*` of a unit's entry, 0 where it does not say."""
        return max(int(_library().dwarf_srclang(self.at)), 0)

    def ranges(self) -> list[tuple[int, int]]:
        """Return the addresses [start, end) of the code of a unit."""
        base, start, end = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_uint64()
        places = [ctypes.addressof(value) for value in (base, start, end)]
        result: list[tuple[int, int]] = []
        offset = 0
        while len(result) < _RANGES_MAX:
            offset = _library().dwarf_ranges(self.at, offset, *places)
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
        library = _library()
        own = _Attribute()
        if not library.dwarf_attr(self.at, attribute, ctypes.addressof(own)):
            return None
        first, count = ctypes.POINTER(_Operation)(), ctypes.c_size_t()
        if library.dwarf_getlocation(ctypes.addressof(own), ctypes.byref(first), ctypes.byref(count)) != 0:
            return None
        return [
            (first[i].atom, first[i].number, self._address(own, first[i])) for i in range(min(count.value, 4))
        ]

    def _address(self, attribute: _Attribute, operation: _Operation) -> int | None:
        if operation.atom == _DW_OP_ADDR:
            return int(operation.number)
        if operation.atom not in (_DW_OP_ADDRX, _DW_OP_GNU_ADDR_INDEX):
            return None
        library = _library()
        if library.dwarf_getlocation_attr(ctypes.addressof(attribute), ctypes.byref(operation), _ATTRIBUTE_AT) != 0:
            return None
        return _NUMBER.value if library.dwarf_formaddr(_ATTRIBUTE_AT, _NUMBER_AT) == 0 else None


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
            _library().dwarf_setalt(self._handle, self._supplement)

    @staticmethod
    def _begin(descriptor: int) -> int:
        handle = _library().dwarf_begin(descriptor, 0)
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
                _library().dwarf_end(handle)
        self._handle, self._supplement = 0, None

    def units(self) -> Iterator[tuple[int, Entry]]:
        """Iterate over the units of the file itself: (`DW_UT_*`, the unit's own entry)."""
        unit, following = ctypes.c_void_p(), ctypes.c_void_p()
        version, kind = ctypes.c_uint16(), ctypes.c_uint8()
        for _ in itertools.repeat(None, _ENTRIES_MAX):
            root, inner = Entry(), Entry()
            state = _library().dwarf_get_units(
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
