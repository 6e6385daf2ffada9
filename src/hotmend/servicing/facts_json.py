"""Machine facts as JSON: the one place where they are read and written. Limits first, then form, then meaning."""

from __future__ import annotations

import inspect
import zoneinfo
from typing import Any, Final

import msgspec

from hotmend.model.errors import InputError
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.message import N_

FACTS_BYTES_MAX: Final = 8 << 20
FORM_HINT: Final = N_("docs/facts.md describes the form; a field that is not known is left out")

_decoder = msgspec.json.Decoder(MachineFacts)
_encoder = msgspec.json.Encoder()


def facts_decode(data: bytes, source: str = "facts") -> MachineFacts:
    """Return the facts that JSON holds.

    Args:
        data: UTF-8 JSON of at most `FACTS_BYTES_MAX` bytes.
        source: what to call it in errors.

    Raises:
        InputError: too large, not JSON, not this form (the message names the field), or of no one platform.
    """
    if len(data) > FACTS_BYTES_MAX:
        raise InputError("{source}: larger than {limit} bytes", FORM_HINT, source=source, limit=FACTS_BYTES_MAX)
    try:
        facts = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InputError("{source}: not facts of a machine: {why}", FORM_HINT, source=source, why=str(error)) from error
    if (facts.windows is None) == (facts.linux is None):
        raise InputError("{source}: needs `windows` or `linux`, and not both", FORM_HINT, source=source)
    if facts.time_zone is not None and facts.time_zone not in _zones():
        raise InputError(
            "{source}: no time zone is called '{name}' - at `$.time_zone`",
            FORM_HINT,
            source=source,
            name=facts.time_zone,
        )
    return facts


def facts_encode(facts: MachineFacts) -> bytes:
    """Return facts as indented JSON; unknown fields are left out."""
    return msgspec.json.format(_encoder.encode(facts), indent=2) + b"\n"


def facts_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of the form."""
    return {name: _plain(part) for name, part in msgspec.json.schema(MachineFacts).items()}


def _plain(part: Any) -> Any:
    """Return a part of a schema without what differs between versions of msgspec: indents, and names of keys."""
    if isinstance(part, dict):
        kept = {name: _plain(value) for name, value in part.items() if name != "propertyNames"}
        if isinstance(text := kept.get("description"), str):
            kept["description"] = inspect.cleandoc(text)
        return kept
    return [_plain(each) for each in part] if isinstance(part, list) else part


_names: frozenset[str] = frozenset()


def _zones() -> frozenset[str]:
    """Return the names of all time zones; looked up once, it reads a directory."""
    global _names  # noqa: PLW0603
    _names = _names or frozenset(zoneinfo.available_timezones())
    return _names
