"""A machine's security updates of a year, replayed against the results of a survey. Pure.

An update is replayed where the survey has compared exactly the two builds that the machine went through; where it has
compared another old build with the same new one, that is said and counted apart; what it has not seen stays unknown.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Final

from hotmend.image.deb import ChangelogEntry
from hotmend.model.verdict import Verdict
from hotmend.publisher.history import History, Installed
from hotmend.publisher.survey.report import Report
from hotmend.publisher.survey.results import FileRow, PackageRow

YEAR: Final = timedelta(days=365)


class Replay(StrEnum):
    """What an update would have been with hotmend."""

    HOTPATCH = "hotpatch"
    PART = "part"
    BASELINE = "baseline required"
    NO_CODE = "no code changed"
    KERNEL = "kernel"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Replayed:
    """One update of the machine.

    Attributes:
        installed: day, package, versions.
        replay: what it would have been.
        exact: the survey has compared exactly these two builds.
        like: for an unknown one, what the update of the same package was that the survey knows; None for no such one.
        security: it was a security update by its changelog; None: the changelog does not go back that far.
        codes: of the refusals in the way.
        cves: that its changelog names.
    """

    installed: Installed
    replay: Replay
    exact: bool
    like: Replay | None
    security: bool | None
    codes: tuple[str, ...]
    cves: tuple[str, ...]

    @property
    def restarts(self) -> bool:
        """Whether something has to be restarted for it without hotmend."""
        return self.replay is not Replay.NO_CODE


@dataclass(frozen=True, slots=True)
class Readiness:
    """The year as a whole. Days are days on which updates came in that need a restart, or a reboot.

    Attributes:
        since, until: the days that the logs cover, at most a year.
        complete: the logs go back a year.
        updates: security updates, and those of which it is not known whether they are.
        restart_days, restart_days_left: days with restarts of services: without hotmend, and with it. What is unknown
            counts as left.
        restart_days_left_if_alike: an estimate: as if each unknown update had been what the survey found for the update
            of the same package that it knows.
        reboot_days: days on which a kernel came in. None of them is saved: kernels are not hot-patched.
        codes: what is in the way, by the number of updates.
    """

    since: date
    until: date
    complete: bool
    updates: tuple[Replayed, ...]
    restart_days: int
    restart_days_left: int
    restart_days_left_if_alike: int
    reboot_days: int
    codes: tuple[tuple[str, int], ...]

    @property
    def counts(self) -> dict[Replay, int]:
        """How many updates would have been what."""
        found = Counter(update.replay for update in self.updates)
        return {replay: found[replay] for replay in Replay}

    @property
    def restart_days_saved_a_year(self) -> float:
        """Days with restarts that hotmend saves, for a whole year where the logs are shorter."""
        days = max((self.until - self.since).days, 1)
        return round((self.restart_days - self.restart_days_left) * 365 / days, 1)


def replay(
    history: History, changes: Mapping[Installed, tuple[ChangelogEntry, ...]], report: Report, today: date
) -> Readiness:
    """Replay a year.

    Args:
        history: of the machine.
        changes: what changelogs say of its upgrades.
        report: of a survey.
        today: the last day.
    """
    since = max(today - YEAR, history.first or today)
    survey = _Survey(report)
    updates = []
    kernels: set[date] = set()
    for item in history.installed:
        if not since <= item.day <= today:
            continue
        if item.is_kernel:
            kernels.add(item.day)
        elif item.old_version:
            update = _replayed(item, changes.get(item, ()), survey)
            if update.security is not False:
                updates.append(update)
    days, left, alike = _days(updates)
    codes = Counter(code for update in updates for code in update.codes)
    complete = history.first is not None and history.first <= today - YEAR
    return Readiness(
        since, today, complete, tuple(updates), days, left, alike, len(kernels), tuple(codes.most_common())
    )


def _days(updates: Iterable[Replayed]) -> tuple[int, int, int]:
    """Return the days on which something has to be restarted: without hotmend, with it, and with it by the estimate."""
    by_day: dict[date, list[Replayed]] = defaultdict(list)
    for update in updates:
        if update.restarts:
            by_day[update.installed.day].append(update)
    left = sum(any(update.replay is not Replay.HOTPATCH for update in found) for found in by_day.values())
    spared = {Replay.HOTPATCH, Replay.NO_CODE}
    alike = sum(any((u.like or u.replay) not in spared for u in found) for found in by_day.values())
    return len(by_day), left, alike


def _replayed(item: Installed, entries: tuple[ChangelogEntry, ...], survey: _Survey) -> Replayed:
    found, codes, exact = survey.find(item)
    security = any("-security" in entry.distributions for entry in entries) if entries else None
    text = "\n".join(entry.text for entry in entries)
    words = text.replace(",", " ").replace(")", " ").replace("(", " ").replace(":", " ").split()
    cves = tuple(dict.fromkeys(word.rstrip(".;") for word in words if word.startswith("CVE-")))
    if found is not Replay.UNKNOWN:
        return Replayed(item, found, exact, None, True, codes, cves)
    return Replayed(item, found, exact, survey.like(item.package), security, codes, cves)


class _Survey:
    """A survey's rows by package."""

    def __init__(self, report: Report) -> None:
        self._packages: dict[str, list[PackageRow]] = defaultdict(list)
        self._files: dict[tuple[str, str], list[FileRow]] = defaultdict(list)
        self._unseen = {name for source in report.sources for name in source.unseen}
        for package in report.packages:
            self._packages[package.package].append(package)
        for file in report.files:
            self._files[file.package, file.new_version].append(file)

    def find(self, item: Installed) -> tuple[Replay, tuple[str, ...], bool]:
        """Return what an update would have been, the refusals in its way, and whether these builds were compared."""
        if item.package in self._unseen:
            return Replay.NO_CODE, (), True
        rows = [row for row in self._packages[item.package] if row.new_version == item.new_version]
        exact = [row for row in rows if row.old_version == item.old_version]
        if not rows:
            return Replay.UNKNOWN, (), False
        row = (exact or rows)[0]
        files = [f for f in self._files[row.package, row.new_version] if f.old_version == row.old_version]
        codes = tuple(dict.fromkeys(code for file in files for code in file.refusals))
        return _outcome(row, files), codes, bool(exact)

    def like(self, package: str) -> Replay | None:
        """Return what the one update of a package was that the survey knows."""
        rows = self._packages[package]
        found = _outcome(rows[0], self._files[package, rows[0].new_version]) if rows else Replay.UNKNOWN
        return None if found is Replay.UNKNOWN else found


def _outcome(row: PackageRow, files: list[FileRow]) -> Replay:
    if row.error is not None or row.verdict is None:
        return Replay.UNKNOWN
    if row.verdict == Verdict.BASELINE_REQUIRED:
        return Replay.PART if any(file.functions_taken for file in files) else Replay.BASELINE
    return Replay.NO_CODE if row.verdict == Verdict.NO_CHANGE else Replay.HOTPATCH
