"""Registration files (`.reg`, 'Windows Registry Editor Version 5.00') to values and back.

Written as UTF-16-LE with a byte order mark and CR LF, as Windows itself exports. Read from that or from UTF-8.
A file that removes keys is refused: nothing here removes a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from hotmend.model.errors import InputError
from hotmend.windows.registry import Kind, Value, check_key

HEADER: Final = "Windows Registry Editor Version 5.00"
FILE_BYTES_MAX: Final = 16 << 20
_LINE_LETTERS: Final = 76
_NAMED = re.compile(r'(?:@|"((?:[^"\\]|\\.)*)")=(.*)', re.DOTALL)
_HEX = re.compile(r"hex(?:\(([0-9a-f]{1,8})\))?:((?:[0-9a-f]{2}(?:,[0-9a-f]{2})*,?)?)", re.IGNORECASE)

Keys = Mapping[str, Mapping[str, Value | None]]
"""Key to its values by name; None is a value that is removed."""


def encode_reg(keys: Keys) -> bytes:
    """Return the registration file that sets and removes these values."""
    lines = [HEADER, ""]
    for key, values in keys.items():
        lines.append(f"[HKEY_LOCAL_MACHINE\\{check_key(key).partition(chr(92))[2]}]")
        lines += [f"{_name(name)}={_data(name, value)}" for name, value in values.items()]
        lines.append("")
    return b"\xff\xfe" + "".join(f"{line}\r\n" for line in lines).encode("utf-16-le", "surrogatepass")


def decode_reg(data: bytes, source: str = "file") -> dict[str, dict[str, Value | None]]:
    """Return what a registration file says, keys with `HKLM` in front.

    Raises:
        InputError: too large, not such a file, a key that is not of the local machine, or one that is to be removed.
    """
    if len(data) > FILE_BYTES_MAX:
        raise InputError("{source}: larger than {limit} bytes", source=source, limit=FILE_BYTES_MAX)
    try:
        text = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig", "surrogatepass")
    except UnicodeDecodeError as error:
        raise InputError("{source}: neither UTF-16 nor UTF-8", source=source) from error
    lines = _logical_lines(text)
    if next(lines, "") != HEADER:
        raise InputError("{source}: does not begin with '{header}'", source=source, header=HEADER)
    keys: dict[str, dict[str, Value | None]] = {}
    current: dict[str, Value | None] | None = None
    for line in lines:
        if line.startswith("["):
            current = keys.setdefault(_key(line, source), {})
        elif current is None:
            raise InputError("{source}: a value before any key: {line}", source=source, line=line[:60])
        else:
            name, value = _value(line, source)
            current[name] = value
    return keys


def _logical_lines(text: str) -> Iterator[str]:
    """Yield the lines that count, continued ones joined."""
    joined = ""
    for raw in text.replace("\r\n", "\n").split("\n"):
        line = raw.strip(" \t") if joined or not raw.startswith('"') else raw.rstrip(" \t")
        if line.endswith(",\\"):
            joined += line[:-1]
            continue
        line, joined = joined + line, ""
        if line and not line.startswith(";"):
            yield line


def _key(line: str, source: str) -> str:
    if not line.endswith("]"):
        raise InputError("{source}: {line}: the key is cut off", source=source, line=line[:60])
    name = line[1:-1]
    if name.startswith("-"):
        raise InputError(
            "{source}: {line}: would remove a key", 'remove values one by one: "NAME"=-', source=source, line=line
        )
    return check_key(name)


def _value(line: str, source: str) -> tuple[str, Value | None]:
    match = _NAMED.fullmatch(line)
    if match is None:
        raise InputError("{source}: {line}: not a value", source=source, line=line[:60])
    name = re.sub(r"\\(.)", r"\1", match[1] or "", flags=re.DOTALL)
    data = match[2].strip()
    if data == "-":
        return name, None
    if number := re.fullmatch(r"dword:([0-9a-f]{1,8})", data, re.IGNORECASE):
        return name, Value.dword(int(number[1], 16))
    if text := re.fullmatch(r'"((?:[^"\\]|\\.)*)"', data, re.DOTALL):
        return name, Value.text(re.sub(r"\\(.)", r"\1", text[1], flags=re.DOTALL))
    if pairs := _HEX.fullmatch(data):
        return name, Value(int(pairs[1] or "3", 16), bytes.fromhex(pairs[2].replace(",", "")))
    raise InputError("{source}: {line}: not a value of a known form", source=source, line=line[:60])


def _name(name: str) -> str:
    return f'"{_escaped(name)}"' if name else "@"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _data(name: str, value: Value | None) -> str:
    if value is None:
        return "-"
    if value.kind == Kind.DWORD and value.number is not None:
        return f"dword:{value.number:08x}"
    text = value.string if value.kind == Kind.SZ else None
    if text is not None and Value.text(text) == value and not any(letter < " " for letter in text):
        return f'"{_escaped(text)}"'
    kind = "" if value.kind == Kind.BINARY else f"({value.kind:x})"
    return _wrapped(f"hex{kind}:", [f"{byte:02x}" for byte in value.data], len(_name(name)) + 1)


def _wrapped(prefix: str, pairs: list[str], used: int) -> str:
    """Return bytes on lines as long as those of Windows; a line that goes on ends in a backslash."""
    text, column = prefix, used + len(prefix)
    for number, pair in enumerate(pairs):
        item = pair if number == len(pairs) - 1 else f"{pair},"
        if column + len(item) > _LINE_LETTERS and number:
            text, column = f"{text}\\\r\n  ", 2
        text, column = text + item, column + len(item)
    return text
