"""How the known issues of a channel's releases concern this machine: by its memory, packages, files and processes."""

from __future__ import annotations

import functools
import itertools
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from hotmend.agent.apt.installed import dpkg_query
from hotmend.agent.census.assessment import Assessment, plain_name
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
        """Return whether a process has a file of that name mapped, old or new."""
        return self._if_seen(plain_name(path) in self._mapped)

    def installed(self, package: str, at_least: str) -> bool | None:
        """Return whether it is installed, as dpkg says."""
        if self._packages is None:
            return None
        version = self._packages.get(package)
        if version is None or not at_least:
            return version is not None
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
        """Return when it was last written or put there; its own time of modification may be an older file's."""
        try:
            return datetime.fromtimestamp(Path(path).stat().st_ctime, UTC)
        except OSError:
            return None

    def began_at(self, unit: str) -> tuple[datetime, ...] | None:
        """Return when each process of a unit began."""
        name = unit if "." in unit else f"{unit}.service"
        began = tuple(
            self._booted + timedelta(seconds=process.start_time_ticks / _TICKS)
            for process in self._found.processes
            if process.owner.unit == name
        )
        return None if self._found.unseen else began

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
        return frozenset(plain_name(image.path) for process in self._found.processes for image in process.images)

    @functools.cached_property
    def _packages(self) -> dict[str, str] | None:
        try:
            listed = dpkg_query("--show", "--showformat=${binary:Package} ${db:Status-Status} ${Version}\\n")
        except InputError:
            return None
        rows = (line.split(" ") for line in listed.splitlines())
        return {row[0].partition(":")[0]: row[2] for row in rows if len(row) == 3 and row[1] == "installed"}


def _read_lines(path: str) -> tuple[str, ...] | None:
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            content = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise
    except OSError:
        return None
    return None if len(content) > _FILE_BYTES_MAX else tuple(content.decode(errors="replace").splitlines())


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
    sizes = itertools.accumulate(len(msgspec.json.encode(issue)) for issue in told.values())
    fitting = sum(size <= ISSUES_BYTES_MAX for size in sizes)
    return tuple(told.values())[: min(fitting, ISSUES_MAX)]


def _as_rule(release: AnyRelease, number: int, issue: Published) -> Iterator[KnownIssue]:
    """Yield the issue as the rules judge it; of a release that is no hotpatch only those that say whom they concern.

    A report has no room for the id of one with a longer name.
    """
    conditions = [issue.affected] if issue.affected is not None else []
    if len(release.id) > RELEASE_LETTERS_MAX:
        return
    if isinstance(release, HotpatchRelease):
        conditions.append(Condition(linux=OnLinux(hotpatched=(release.id,))))
    if conditions:
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
