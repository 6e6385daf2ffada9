"""What conditions of known issues can ask of a Linux machine, and how its answers are judged.

Nothing is run to find out: the machine's memory, its packages, its files and the times of its processes are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

Line = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z", max_length=400)]
"""Text without control characters: it is shown on terminals."""
_Place = Annotated[str, Meta(pattern=r"\A(/[^\x00-\x1f\x7f-\x9f]+)?\Z", max_length=400)]
"""An absolute path, or "" for none."""


_ELSEWHERE = ("/tmp/", "/var/tmp/", "/proc/", "/sys/", "/dev/")  # noqa: S108 - to refuse them


class OnLinux(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What must hold on a Linux machine. Of several questions all must.

    Attributes:
        hotpatched: a hotpatch of one of these releases is in the memory of a process.
        runs: a process has one of these programs or libraries mapped.
        package: it is installed; `at_least`: in this version or a later one.
        file: it is there; `line`: one of its lines is this, however much space is between the words.
        unit: it runs, and each of its processes has begun since the file `since` last changed. With `some`, one of them
            at least, which is how a service looks that was reloaded.
        booted_since: the last boot is later than this file's last change.
    """

    hotpatched: Annotated[tuple[Line, ...], Meta(max_length=50)] = ()
    runs: Annotated[tuple[_Place, ...], Meta(max_length=50)] = ()
    package: Line = ""
    at_least: Line = ""
    file: _Place = ""
    line: Line = ""
    unit: Line = ""
    since: _Place = ""
    some: bool = False
    booted_since: _Place = ""


class Seen(Protocol):
    """A Linux machine as it is asked. None: cannot be told."""

    def hotpatched(self, release: str) -> bool | None:
        """Whether a process has a hotpatch of the release in memory."""

    def runs(self, path: str) -> bool | None:
        """Whether a process has the file mapped."""

    def installed(self, package: str, at_least: str) -> bool | None:
        """Whether a package is installed in a version or a later one; "": in any."""

    def lines(self, path: str) -> tuple[str, ...] | None:
        """Return the lines of a file.

        Raises:
            FileNotFoundError: there is none.
        """

    def changed_at(self, path: str) -> datetime | None:
        """Return when a file last changed, UTC."""

    def began_at(self, unit: str) -> tuple[datetime, ...] | None:
        """Return when each process of a unit began, UTC."""

    def booted_at(self) -> datetime | None:
        """Return when the machine booted, UTC."""


def check(condition: OnLinux) -> None:
    """Raise ValueError for questions that say nothing, or half of something."""
    if condition == OnLinux():
        raise ValueError("a condition on Linux says nothing")
    for part, whole in (("at_least", "package"), ("line", "file"), ("unit", "since"), ("since", "unit")):
        if getattr(condition, part) and not getattr(condition, whole):
            raise ValueError(f"`{part}` needs `{whole}`")
    if condition.some and not condition.unit:
        raise ValueError("`some` needs `unit`")
    for place in filter(None, (condition.file, condition.since, condition.booted_since)):
        if place.startswith(_ELSEWHERE):
            raise ValueError(f"{place}: the agent sees another folder there than other services, or no file of a disk")
    if condition.line and not condition.line.strip():
        raise ValueError("`line` is empty")


def answers(condition: OnLinux, machine: Seen) -> Iterator[bool | None]:
    """Yield the answer of each question that is asked."""
    if condition.hotpatched:
        yield any_of([machine.hotpatched(release) for release in condition.hotpatched])
    if condition.runs:
        yield any_of([machine.runs(path) for path in condition.runs])
    if condition.package:
        yield machine.installed(condition.package, condition.at_least)
    if condition.file:
        yield _has(condition, machine)
    if condition.unit:
        yield _begun(condition, machine)
    if condition.booted_since:
        changed, booted = machine.changed_at(condition.booted_since), machine.booted_at()
        yield None if changed is None or booted is None else booted > changed


def any_of(given: list[bool | None]) -> bool | None:
    """Return whether one of several holds; None: cannot be told."""
    if True in given:
        return True
    return None if None in given else False


def _has(condition: OnLinux, machine: Seen) -> bool | None:
    try:
        lines = machine.lines(condition.file)
    except FileNotFoundError:
        return False
    if lines is None:
        return None
    wanted = condition.line.split()
    return not wanted or any(line.split() == wanted for line in lines)


def _begun(condition: OnLinux, machine: Seen) -> bool | None:
    changed, began = machine.changed_at(condition.since), machine.began_at(condition.unit)
    if changed is None or began is None:
        return None
    later = [moment > changed for moment in began]
    return bool(later) and (any(later) if condition.some else all(later))
