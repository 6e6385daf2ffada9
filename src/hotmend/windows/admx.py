"""Policy definition files (ADMX): which value a policy sets. Pure: bytes in, values out.

Source: Microsoft's 'Group Policy ADMX Syntax Reference Guide': `policy` has `key`, `valueName` and `enabledValue`.
"""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree

from hotmend.model.errors import InputError
from hotmend.windows.registry import Value
from hotmend.windows.remedies import Write

ADMX_BYTES_MAX: Final = 8 << 20
_NUMBER_MAX: Final = 0xFFFF_FFFF


def enabled_writes(data: bytes, source: str = "policy definition") -> tuple[Write, ...]:
    """Return, for each machine policy of the file that sets one value when enabled, that value.

    Raises:
        InputError: too large, not such a file, or with a document type declaration (entities could grow without end).
    """
    if len(data) > ADMX_BYTES_MAX or b"<!DOCTYPE" in data.replace(b"\0", b"").upper():
        raise InputError("{source}: too large, or with a document type declaration", source=source)
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - without declarations there are no entities to expand
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError("{source}: {why}", source=source, why=str(error)) from error
    return tuple(_write(policy, source) for policy in root.iterfind(".//{*}policies/{*}policy") if _sets_one(policy))


def _sets_one(policy: ElementTree.Element) -> bool:
    return policy.get("class") in {"Machine", "Both"} and bool(policy.get("key")) and bool(policy.get("valueName"))


def _write(policy: ElementTree.Element, source: str) -> Write:
    enabled = policy.find("{*}enabledValue")
    value = Value.dword(1)
    if enabled is not None:
        decimal, text = enabled.find("{*}decimal"), enabled.find("{*}string")
        number = decimal.get("value", "") if decimal is not None else ""
        if re.fullmatch(r"[0-9]{1,10}", number) and int(number) <= _NUMBER_MAX:
            value = Value.dword(int(number))
        elif text is not None and text.text:
            value = Value.text(text.text)
        else:
            raise InputError(
                "{source}: policy {name}: what Enabled sets is not understood", source=source, name=policy.get("name")
            )
    return Write(f"HKLM\\{policy.attrib['key']}", policy.attrib["valueName"], value)
