"""How the known issues of a channel's releases concern this machine: by its memory, packages, files and processes."""

from __future__ import annotations

import functools
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from hotmend.agent.apt.installed import dpkg_query
from hotmend.agent.census.assessment import Assessment
from hotmend.agent.census.owners import OwnerKind
from hotmend.image.deb import version_order
from hotmend.model.errors import InputError
from hotmend.repository.releases import AnyRelease, HotpatchRelease
from hotmend.repository.releases import KnownIssue as Published
from hotmend.servicing.known_issues import Concern, Condition, KnownIssue, LinuxSubject, concerns
from hotmend.servicing.on_linux import OnLinux
from hotmend.wire.report import RELEASE_LETTERS_MAX, Issue, IssueOption, IssueStep

ISSUES_MAX: Final = 100
ISSUES_BYTES_MAX: Final = 128 << 10
"""Of all of them: a report has more to say, and is refused as a whole where it is too long."""
_FILE_BYTES_MAX: Final = 1 << 20
_NO_DISK: Final = ("/proc/", "/sys/", "/dev/")
_MERGED: Final = ("/bin/", "/lib/", "/lib64/", "/sbin/")
_UNITS: Final = (".service", ".scope", ".slice", ".socket", ".mount", ".swap", ".timer", ".path", ".target")
_INSTALLED, _ABSENT = "installed", ("not-installed", "config-files")
"""States of dpkg's; in all others it is neither."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Here:
    """This machine, as conditions ask it.

    Args:
        found: its processes.
        releases: of the channel.
    """

    def __init__(self, found: Assessment, releases: Iterable[AnyRelease]) -> None:
        self._found = found
        self._pairs: Mapping[str, frozenset[tuple[str, str]]] = {
            release.id: frozenset((i.old_build_id, i.new_build_id) for file in release.files for i in file.images)
            for release in releases
            if isinstance(release, HotpatchRelease)
        }
        self._lines: dict[str, tuple[str, ...] | None] = {}
        self._booted = datetime.now(UTC) - timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))

    def hotpatched(self, release: str) -> bool | None:
        """Return whether code of a release is in memory; its hotpatches may have come by another release as well."""
        pairs = self._pairs.get(release)
        return None if pairs is None else self._if_seen(not pairs.isdisjoint(self._in_memory))

    def runs(self, path: str) -> bool | None:
        """Return whether a process of this machine, and not of a container, has the program or library mapped."""
        return self._if_seen(_merged(path) in self._mapped)

    def installed(self, package: str, at_least: str) -> bool | None:
        """Return whether it is installed, as dpkg says; of one that is half installed nobody can tell."""
        if self._packages is None:
            return None
        status, version = self._packages.get(package, (_ABSENT[0], ""))
        if status != _INSTALLED:
            return False if status in _ABSENT else None
        if not at_least:
            return True
        try:
            return version_order(version, at_least) >= 0
        except InputError:
            return None

    def lines(self, path: str) -> tuple[str, ...] | None:
        """Return the lines of a regular file of at most a MiB.

        Raises:
            FileNotFoundError: there is none.
        """
        if path not in self._lines:
            self._lines[path] = _read_lines(path)
        return self._lines[path]

    def changed_at(self, path: str) -> datetime | None:
        """Return when it was last written or put there; its own time of modification may be an older file's.

        Of a link, when the link or its target was, whichever is later.
        """
        try:
            place = Path(path)
            return datetime.fromtimestamp(max(place.lstat().st_ctime, place.stat().st_ctime), UTC)
        except OSError:
            return None

    def began_at(self, unit: str) -> tuple[datetime, ...] | None:
        """Return when each process of a unit began; None where none is found, as by another name of it."""
        name = unit if unit.endswith(_UNITS) else f"{unit}.service"
        began = tuple(
            self._booted + timedelta(seconds=process.start_time_ticks / _TICKS)
            for process in self._found.processes
            if process.owner.unit == name
        )
        return None if self._found.unseen or not began else began

    def booted_at(self) -> datetime | None:
        """Return when the machine booted."""
        return self._booted

    def _if_seen(self, answer: bool) -> bool | None:
        """Return an answer; a no is none while there are processes that nobody looked into."""
        return answer or (None if self._found.unseen else False)

    @functools.cached_property
    def _in_memory(self) -> frozenset[tuple[str, str]]:
        return frozenset(
            (image.build_id, image.patch.new_build_id)
            for process in self._found.processes
            for image in process.images
            if image.patch is not None
        )

    @functools.cached_property
    def _mapped(self) -> frozenset[str]:
        return frozenset(
            _merged(image.path)
            for process in self._found.processes
            if process.owner.kind is not OwnerKind.CONTAINER
            for image in process.images
        )

    @functools.cached_property
    def _packages(self) -> dict[str, tuple[str, str]] | None:
        """Return state and version of each package that dpkg knows."""
        try:
            listed = dpkg_query("--show", "--showformat=${Package} ${db:Status-Status} ${Version}\\n")
        except InputError:
            return None
        rows = (line.split(" ") for line in listed.splitlines())
        return {row[0]: (row[1], row[2]) for row in rows if len(row) == len(("name", "state", "version"))}


def _read_lines(path: str) -> tuple[str, ...] | None:
    """Return the lines of a file of a disk. Nothing else is opened: to open a device or to read a log has effects."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    try:
        here = f"/proc/self/fd/{place}"
        if not stat.S_ISREG(os.fstat(place).st_mode) or str(Path(here).readlink()).startswith(_NO_DISK):
            return None
        with Path(here).open("rb") as file:
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError:
        return None
    finally:
        os.close(place)
    return None if len(content) > _FILE_BYTES_MAX else tuple(content.decode(errors="replace").splitlines())


def _merged(path: str) -> str:
    """Return a path as it is where /bin, /lib and /sbin are links into /usr."""
    return f"/usr{path}" if path.startswith(_MERGED) else path


def issues_here(releases: Iterable[AnyRelease], found: Assessment, today: date) -> tuple[Issue, ...]:
    """Return the known issues that concern this machine, or that may, those of the newest release first.

    A release that holds an earlier one's hotpatches has its issues as well: each is told once.

    Args:
        releases: that stand, oldest first.
        found: what runs.
        today: for deadlines.
    """
    newest = tuple(reversed(tuple(releases)))
    subject = LinuxSubject(Here(found, newest))
    told: dict[tuple[str, datetime], Issue] = {}
    for release in newest:
        for number, issue in enumerate(release.known_issues):
            for concern in concerns(_as_rule(release, number, issue), subject, today):
                told.setdefault((issue.title, issue.since), _told(concern))
    return tuple(told.values())


def fitting(issues: Iterable[Issue]) -> tuple[tuple[Issue, ...], int]:
    """Return the issues that a report has room for, those first that are late or certain, and how many are left out."""
    ordered = sorted(issues, key=lambda issue: (not issue.overdue, not issue.affected, issue.done))
    kept: list[Issue] = []
    left, size = 0, 0
    for issue in ordered:
        length = len(msgspec.json.encode(issue))
        if len(kept) < ISSUES_MAX and size + length <= ISSUES_BYTES_MAX:
            kept.append(issue)
            size += length
        else:
            left += 1
    return tuple(kept), left


def _as_rule(release: AnyRelease, number: int, issue: Published) -> Iterator[KnownIssue]:
    """Yield the issue as the rules judge it: of a hotpatch, for those that have it; else for those that it names.

    Who has the release that resolved it is not concerned any more. A report has no room for the id of a longer name.
    """
    conditions = [issue.affected] if issue.affected is not None else []
    if len(release.id) > RELEASE_LETTERS_MAX:
        return
    if isinstance(release, HotpatchRelease):
        conditions.append(Condition(linux=OnLinux(hotpatched=(release.id,))))
    if issue.resolved_by:
        conditions.append(Condition(not_=Condition(linux=OnLinux(hotpatched=(issue.resolved_by,)))))
    if isinstance(release, HotpatchRelease) or issue.affected is not None:
        yield KnownIssue(
            id=f"{release.id}/{number}",
            title=issue.title,
            affected=Condition(all_of=tuple(conditions)),
            since=date.min,
            until=date.max,
            cost=issue.cost,
            source="",
            options=issue.options,
            deadline=issue.deadline,
        )


def _told(concern: Concern) -> Issue:
    issue = concern.issue
    options = tuple(
        IssueOption(
            each.option.title,
            tuple(
                IssueStep(step.title, proven, step.commands, step.reboot)
                for step, proven in zip(each.option.steps, each.proven, strict=True)
            ),
        )
        for each in concern.options
    )
    return Issue(
        issue.id, issue.title[:500], concern.affected, issue.cost[:500], issue.deadline, concern.overdue, options
    )
