"""Remedies as data: exact commands, risk, what restart they need, how it is verified."""

from __future__ import annotations

import tomllib
from typing import Final, Literal

import msgspec

from hotmend.model.errors import InputError

REMEDIES_BYTES_MAX: Final = 1 << 20


class Remedy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One remedy.

    Attributes:
        id, title: for programs, for people.
        commands: to type, in order; empty where it is done by hand.
        risk: what can go wrong.
        restart: what must be restarted for it.
        verify: how to know that it worked.
    """

    id: str
    title: str
    risk: str
    restart: Literal["none", "service", "reboot"]
    verify: str
    commands: tuple[str, ...] = ()


class _Remedies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    remedy: tuple[Remedy, ...]


def remedies_parse(text: str, source: str = "remedies") -> dict[str, Remedy]:
    """Return the remedies that a TOML text holds, by id.

    Raises:
        InputError: too large, not TOML, or not this form.
    """
    if len(text) > REMEDIES_BYTES_MAX:
        raise InputError("{source}: larger than {limit} bytes", source=source, limit=REMEDIES_BYTES_MAX)
    try:
        found = msgspec.convert(tomllib.loads(text), _Remedies).remedy
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError("{source}: {why}", source=source, why=str(error)) from error
    return {remedy.id: remedy for remedy in found}
