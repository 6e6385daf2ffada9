"""Calling functions of a shared library with typed arguments, in a process that was made for nothing else.

A call is a plain dict, checked by the caller (`trial/calls.py`), because it comes over a socket. Pointers that
arguments lead to are buffers of this process; what stands in them after the call is part of the result.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

_NUMBERS: Final[dict[str, Any]] = {
    "i8": ctypes.c_int8,
    "u8": ctypes.c_uint8,
    "i16": ctypes.c_int16,
    "u16": ctypes.c_uint16,
    "i32": ctypes.c_int32,
    "u32": ctypes.c_uint32,
    "i64": ctypes.c_int64,
    "u64": ctypes.c_uint64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}
NUMBER_TYPES: Final = frozenset(_NUMBERS)
TEXT_BYTES_MAX: Final = 1 << 20
_RTLD_DEEPBIND: Final = 8


@dataclass(slots=True)
class Library:
    """A loaded library with what its calls have to remember.

    Attributes:
        handle: from dlopen.
        before, calls: to make, in this order.
        results: descriptor that the results of `calls` are written to, one JSON object a line.
        kept: pointers that calls returned, by the name of the call.
    """

    handle: ctypes.CDLL
    before: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    results: int
    kept: dict[str, int] = field(default_factory=dict)


def prepare(request: dict[str, Any]) -> Library:
    """Load the library and find all functions; its own symbols come before those of the program it is loaded into.

    Raises:
        OSError, AttributeError: there is no such library, or function.
    """
    handle = ctypes.CDLL(request["library"], mode=os.RTLD_NOW | os.RTLD_LOCAL | _RTLD_DEEPBIND)
    for call in (*request["before"], *request["calls"]):
        getattr(handle, call["function"])
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return Library(handle, request["before"], request["calls"], os.open(request["results"], flags, 0o600))


def run(library: Library, between: Callable[[], object]) -> None:
    """Make the calls before, then `between`, then the calls whose results count."""
    for call in library.before:
        _call(library, call)
    between()
    for call in library.calls:
        os.write(library.results, json.dumps(_call(library, call)).encode() + b"\n")


def _call(library: Library, call: dict[str, Any]) -> dict[str, Any]:
    """Make one call; return its value and what its buffers hold, all as text."""
    function = getattr(library.handle, call["function"])
    returns = call["returns"]
    function.restype = _NUMBERS.get(returns, None if returns == "void" else ctypes.c_void_p)
    buffers: list[Any] = []
    arguments = [_argument(library, argument, buffers) for argument in call["arguments"]]
    value = function(*arguments)
    result: dict[str, Any] = {"buffers": [bytes(buffer).hex() for buffer in buffers if buffer is not None]}
    if returns == "pointer":
        library.kept[call["name"]] = value or 0
        result["value"] = "pointer" if value else "null"
    elif returns == "text":
        result["value"] = "null" if not value else repr(ctypes.string_at(value)[:TEXT_BYTES_MAX])
    elif returns == "bytes":
        result["value"] = ctypes.string_at(value, call["size"]).hex() if value else "null"
    else:
        result["value"] = "" if value is None else repr(value)
    return result


def _argument(library: Library, argument: dict[str, Any], buffers: list[Any]) -> Any:
    """Return the C value of one argument; buffers are kept, and those to be compared are listed."""
    ((kind, value),) = argument.items()
    if kind in _NUMBERS:
        return _NUMBERS[kind](value)
    if kind == "null":
        return ctypes.c_void_p(None)
    if kind == "result":
        return ctypes.c_void_p(library.kept[value])
    if kind == "out":
        buffer = ctypes.create_string_buffer(value)
    elif kind == "pointer_to":
        ((number, initial),) = value.items()
        buffer = _NUMBERS[number](initial)
    else:  # text, hex: the bytes in hexadecimal
        content = bytes.fromhex(value)
        buffer = ctypes.create_string_buffer(content, max(len(content), 1))
    buffers.append(buffer)
    return ctypes.byref(buffer)
