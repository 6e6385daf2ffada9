"""When a machine was exposed to what: rules without I/O, over what its reports say one after another.

A report says of each vulnerability in each process where its fix is. What is old in one process is open; it ends with
the report in which no process has the old code any more, or that speaks of it no more. An update that waited goes on
while something that it fixes is old in a process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from hotmend.wire.report import Finding, Fixed

OLD = frozenset({Fixed.ON_DISK, Fixed.NOWHERE})


class End(StrEnum):
    """How an exposure ended."""

    IN_MEMORY = "in-memory"
    """All processes had the fixed code, and the disk was old."""
    EVERYWHERE = "everywhere"
    """All processes had the fixed code, and so had the disk."""
    GONE = "gone"
    """The machine spoke of it no more: what had the old code has ended, or was started anew."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a machine is exposed to: a vulnerability, or an update that names none; and the update that ends it."""

    name: str
    brings: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What a report changes.

    Attributes:
        opened: open from now on.
        closed: name of what ends now to how.
        came_closed: fixed when it was heard of first, and how: when it was open is not known.
    """

    opened: tuple[Subject, ...]
    closed: Mapping[str, End]
    came_closed: Mapping[Subject, End]


def subjects(findings: Iterable[Finding]) -> dict[Subject, End | None]:
    """Return what a report speaks of: how it ended, None for what is open. An update is known by its first name."""
    places: dict[str, set[Fixed]] = {}
    brings: dict[str, str] = {}
    for finding in findings:
        name = finding.cve or finding.brings
        if name:
            places.setdefault(name, set()).add(finding.fixed)
            brings.setdefault(name, finding.brings)
    return {Subject(name, brings[name]): _end(found) for name, found in places.items()}


def _end(found: set[Fixed]) -> End | None:
    if found & OLD:
        return None
    return End.IN_MEMORY if Fixed.IN_MEMORY in found else End.EVERYWHERE


def changes(before: Mapping[str, bool], findings: Iterable[Finding]) -> Changes:
    """Return what a report changes.

    Args:
        before: names that were heard of, and whether each is open.
        findings: of the report.
    """
    said = subjects(findings)
    known = {subject.name: end for subject, end in said.items()}
    left = {subject.brings for subject, end in said.items() if end is None}
    brought = {subject.brings: end for subject, end in said.items() if end is not None}
    closed = {
        name: known.get(name) or brought.get(name) or End.GONE
        for name, is_open in before.items()
        if is_open and name not in left and known.get(name, End.GONE) is not None
    }
    opened = [subject for subject, end in said.items() if end is None and not before.get(subject.name, False)]
    came = {subject: end for subject, end in said.items() if end is not None and subject.name not in before}
    return Changes(tuple(opened), closed, came)
