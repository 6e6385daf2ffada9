"""What the one who builds a hotpatch may ask of the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hotmend.model.types import TypePair

ACCEPTABLE: Final = frozenset(
    {
        "allocation-size-changed",
        "contents-may-be-copied",
        "start-only-code",
        "function-split",
        "generator-changed",
        "registered-at-start",
        "state-encoding-changed",
        "table-handed-out",
    }
)
"""Reasons that depend on what the process does: an operator who knows may accept them, no other."""


@dataclass(frozen=True, slots=True)
class Options:
    """How two builds are compared.

    Attributes:
        accept: codes of refusals, out of `ACCEPTABLE`, that become notes.
        exact: take functions in that differ in nothing but source line numbers handed to error functions.
        partial: where something is refused, leave the functions that it rests on old and take in the rest.
        stays_old: names of functions of the update's other images that changed and yet stay old.
        types: of both builds, where debug information is at hand.
    """

    accept: frozenset[str] = frozenset()
    exact: bool = False
    partial: bool = False
    stays_old: frozenset[str] = frozenset()
    types: TypePair | None = None
