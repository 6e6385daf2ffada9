"""Calls of exported functions, as a person writes them in TOML, checked before anything is run.

    [[call]]
    function = "lzma_crc32"
    arguments = [{ text = "hotmend" }, { u64 = 7 }, { u32 = 0 }]
    returns = "u32"

`[[before]]` tables are calls that are made before the hotpatch is applied: what they return, new code has to live with.
docs/commands.md describes all of it. `linux/foreign.py` makes the calls.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotmend.linux.foreign import NUMBER_TYPES
from hotmend.model.errors import InputError

CALLS_MAX, BUFFER_BYTES_MAX, FILE_BYTES_MAX = 10_000, 64 << 20, 4 << 20
RETURNS = NUMBER_TYPES | {"void", "pointer", "text", "bytes"}


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls as `linux.foreign` takes them: those before the change, and those whose results are compared."""

    before: tuple[dict[str, Any], ...]
    calls: tuple[dict[str, Any], ...]


def read_calls(path: Path, inputs: Mapping[str, Path]) -> Calls:
    """Return the calls in the file at `path`.

    Args:
        path: TOML.
        inputs: files that arguments may be filled from, by name.

    Raises:
        InputError: it is not TOML, or a call is not complete.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise InputError(f"{path}: larger than {FILE_BYTES_MAX} bytes")
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    lists = [document.get(name, []) for name in ("before", "call")]
    if set(document) - {"before", "call"} or not all(isinstance(calls, list) for calls in lists) or not lists[1]:
        raise InputError(f"{path}: it holds no [[call]] tables, or something else", "see hotmend verify in the docs")
    if sum(map(len, lists)) > CALLS_MAX:
        raise InputError(f"{path}: more than {CALLS_MAX} calls")
    known: set[str] = set()
    before, calls = [_check_all(path, calls, known, inputs) for calls in lists]
    return Calls(before, calls)


def _check_all(path: Path, calls: list[Any], known: set[str], inputs: Mapping[str, Path]) -> tuple[dict[str, Any], ...]:
    """Return calls in the form that is sent; `known` are the names of pointers returned so far."""
    result = []
    for number, call in enumerate(calls, 1):
        try:
            checked = _check(call, known, inputs, number)
        except (InputError, TypeError, ValueError, OSError, AttributeError) as error:
            raise InputError(f"{path}: call {number}: {error}") from error
        if checked["returns"] == "pointer":
            known.add(checked["name"])
        result.append(checked)
    return tuple(result)


def _check(call: Any, known: set[str], inputs: Mapping[str, Path], number: int) -> dict[str, Any]:
    """Return one call in the form that is sent."""
    unknown = set(call) - {"function", "arguments", "returns", "name", "size"}
    if unknown:
        raise InputError(f"unknown field {', '.join(sorted(unknown))}")
    function, returns = call.get("function"), call.get("returns", "void")
    if not isinstance(function, str) or not function:
        raise InputError("`function` is missing")
    if returns not in RETURNS:
        raise InputError(f"`returns` is one of {', '.join(sorted(RETURNS))}")
    size = call.get("size", 0)
    if (returns == "bytes") != (0 < size <= BUFFER_BYTES_MAX):
        raise InputError('`size` goes with returns = "bytes", and is its number of bytes')
    arguments = call.get("arguments", [])
    if not isinstance(arguments, list):
        raise InputError("`arguments` is a list of tables with one type and its value each")
    return {
        "name": str(call.get("name", f"{number} {function}")),
        "function": function,
        "returns": returns,
        "size": size,
        "arguments": [_argument(argument, known, inputs) for argument in arguments],
    }


def _argument(argument: Any, known: set[str], inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Return one argument in the form that is sent: texts and files become bytes in hexadecimal."""
    if not isinstance(argument, dict) or len(argument) != 1:
        raise InputError(f"an argument is a table with one type and its value, not {argument!r}")
    ((kind, value),) = argument.items()
    match kind:
        case "text":
            return {"hex": (value.encode() + b"\0").hex()}
        case "hex":
            return {"hex": bytes.fromhex(value).hex()}
        case "file":
            if value not in inputs:
                raise InputError(f"{value} is not the name of an --input file")
            return {"hex": inputs[value].read_bytes().hex()}
        case "out" if isinstance(value, int) and 0 < value <= BUFFER_BYTES_MAX:
            return {"out": value}
        case "null":
            return {"null": True}
        case "result" if value in known:
            return {"result": value}
        case "pointer_to" if isinstance(value, dict) and len(value) == 1 and set(value) <= NUMBER_TYPES:
            return {"pointer_to": value}
        case _ if kind in NUMBER_TYPES and isinstance(value, (int, float)) and not isinstance(value, bool):
            return {kind: value}
    raise InputError(f"an argument cannot be {kind} = {value!r}")
