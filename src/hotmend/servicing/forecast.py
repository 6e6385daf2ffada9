"""The next reboots and restarts of a machine, when and why, to the end of the next quarter.

*Reboots* are of the machine, *restarts* of processes; they are counted apart. What is not proven counts as a reboot:
a machine of which it is not known whether it is on the line gets the forecast of one that is not, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache

import msgspec

from hotmend.servicing.facts import Linux
from hotmend.servicing.known_issues import Concern
from hotmend.servicing.level import Level
from hotmend.servicing.message import Cause, cause
from hotmend.servicing.products import Channel
from hotmend.servicing.releases import Calendar, Kind, Line, Release, month_of, quarter_end, second_tuesday


class Need(StrEnum):
    """What is due."""

    REBOOT = "reboot"
    RESTART = "restart"


class Due(msgspec.Struct, frozen=True):
    """One reboot or restart.

    Attributes:
        day: when; today for what is overdue.
        need: of what.
        cause: why.
        month: of the release behind it; "" where there is none.
        expected: the release is not in the calendar; the cycle alone says that it comes.
    """

    day: date
    need: Need
    cause: Cause
    month: str = ""
    expected: bool = False


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is due up to and with `until`.

    Attributes:
        until: last day of the next quarter.
        due: as things stand, earliest first.
        due_with_workaround: with every workaround in place that is still open; equal to `due` where none is.
        next_hotpatch: the day of the next hotpatch; None: none in this time.
    """

    until: date
    due: tuple[Due, ...]
    due_with_workaround: tuple[Due, ...]
    next_hotpatch: date | None


@dataclass(frozen=True, slots=True)
class Month:
    """What a channel publishes in one month of the cycle.

    Attributes:
        name: `YYYY-MM`; `day`: when.
        baseline: a baseline month, planned or not.
        release: the baseline, or the hotpatch; None: not in the calendar.
        ids: of everything published in that month.
    """

    name: str
    day: date
    baseline: bool
    release: Release | None
    ids: frozenset[str]


@lru_cache(maxsize=256)
def months(
    calendar: Calendar, channel: str, baseline_months: tuple[int, ...], first: date, last: date
) -> tuple[Month, ...]:
    """Return the months of a channel, from the month of `first` to that of `last`."""
    found, day = [], date(first.year, first.month, 1)
    releases = calendar.releases(channel)
    while day <= last:
        name = month_of(day)
        own = [release for release in releases if release.month == name]
        cycle = [r for r in own if r.kind.is_baseline] or [
            r for r in own if r.label.endswith(" B") and r.kind.is_hotpatch
        ]
        release = cycle[0] if cycle else None
        baseline = release.kind.is_baseline if release else day.month in baseline_months
        when = release.day if release else second_tuesday(day.year, day.month)
        found.append(Month(name, when, baseline, release, frozenset(r.id for r in own if r.id)))
        day = (day + timedelta(days=31)).replace(day=1)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a forecast starts from.

    Attributes:
        level: of the machine.
        installed: ids of all that is installed, the level's baseline among them.
        hotpatched: it is eligible and enabled: hotpatches come to it while it is on the line.
        reboot_pending: it waits for a boot already.
        today: the day of the question.
    """

    level: Level
    installed: frozenset[str]
    hotpatched: bool
    reboot_pending: bool
    today: date


def windows_forecast(
    standing: Standing, channel: Channel, calendar: Calendar, concerns: Sequence[Concern] = ()
) -> Forecast:
    """Return the forecast of a Windows machine. Hotmend knows of no restarts of single services there."""
    until = quarter_end(standing.today, 1)
    plan = months(calendar, channel.name, channel.baseline_months, standing.today - timedelta(days=92), until)
    lapses = [c for c in concerns if c.issue.off_line and c.affected is not False and not c.done]
    without = _due(standing, plan, lapses)
    with_workaround = without
    open_ones = [c for c in lapses if c.issue.options and not c.overdue]
    if open_ones:
        planned = [
            Due(
                standing.today,
                Need.REBOOT,
                cause(
                    "workaround-reboot",
                    "The workaround needs one planned reboot before {deadline}.",
                    deadline=c.issue.deadline or c.issue.until,
                ),
            )
            for c in open_ones
        ]
        rest = _due(standing, plan, [c for c in lapses if c not in open_ones])
        with_workaround = tuple(sorted((*planned, *rest), key=lambda due: due.day))
    return Forecast(until, without, with_workaround, _next_hotpatch(plan, standing.today))


def _due(standing: Standing, plan: Sequence[Month], lapses: Sequence[Concern]) -> tuple[Due, ...]:
    """Return what is due month by month; a baseline brings a machine back to the line that gets hotpatches."""
    today, found = standing.today, []
    on_line = standing.hotpatched and standing.level.line is Line.ON
    if standing.reboot_pending:
        found.append(Due(today, Need.REBOOT, cause("reboot-pending", "An installed update waits for a reboot.")))
    for month in _open(standing, plan):
        lapsed = any((c.issue.deadline or c.issue.since) <= month.day < c.issue.until for c in lapses)
        day, expected = max(today, month.day), month.release is None
        if month.baseline:
            why = _baseline_cause(month, today)
            found.append(Due(day, Need.REBOOT, why, month.name, expected))
            on_line = standing.hotpatched
        elif lapsed:
            why = cause(
                "licence-lapses",
                "The licence issue keeps the hotpatch of {month} away: the regular update needs a reboot.",
                month=month.name,
            )
            found.append(Due(day, Need.REBOOT, why, month.name, expected))
        elif not on_line:
            found.append(Due(day, Need.REBOOT, _off_cause(standing, month), month.name, expected))
    return tuple(found)


def _baseline_cause(month: Month, today: date) -> Cause:
    if month.day <= today:
        return _missing(month.name)
    if month.release is not None and month.release.kind is Kind.UNPLANNED_BASELINE:
        return cause(
            "unplanned-baseline-due",
            "Unplanned baseline of {month}, in place of a hotpatch: it ends in a reboot.",
            month=month.name,
        )
    return cause("baseline-due", "Baseline of {month}: planned each quarter, it ends in a reboot.", month=month.name)


def _missing(month: str) -> Cause:
    return cause("baseline-missing", "The baseline of {month} is published and not installed.", month=month)


def _off_cause(standing: Standing, month: Month) -> Cause:
    if standing.level.line is Line.UNKNOWN:
        return cause(
            "line-not-proven",
            "It is not proven that the machine is on the line: the update of {month} is counted with a reboot.",
            month=month.name,
        )
    if standing.level.line is Line.ON and not standing.hotpatched:
        return cause(
            "not-hotpatched",
            "Hotpatch is not enabled, or not proven possible: the update of {month} needs a reboot.",
            month=month.name,
        )
    return cause("off-line", "The machine is off the line: the update of {month} needs a reboot.", month=month.name)


def _open(standing: Standing, plan: Sequence[Month]) -> list[Month]:
    """Return the months whose release is still to come to the machine: of those published, the newest alone.

    Cumulative updates contain each other: who is three months behind reboots once.
    """
    published = [month for month in plan if month.day <= standing.today]
    coming = [month for month in plan if month.day > standing.today]
    last = next((month for month in reversed(published) if month.baseline), None)
    behind = []
    if last is not None and not standing.installed & _ids_from(plan, last):
        behind = [last]
    elif published and not published[-1].baseline and not standing.installed & published[-1].ids:
        behind = [published[-1]]
    return behind + coming


def _ids_from(plan: Sequence[Month], first: Month) -> frozenset[str]:
    """Return the ids of everything published from a month on; a cumulative update of later contains its baseline."""
    return frozenset().union(*(month.ids for month in plan if month.day >= first.day))


def _next_hotpatch(plan: Sequence[Month], today: date) -> date | None:
    return next((month.day for month in plan if month.day >= today and not month.baseline), None)


def linux_forecast(linux: Linux, standing: Standing, channel: Channel, calendar: Calendar) -> Forecast:
    """Return the forecast of a Linux machine: due now, reboots of baselines, restarts where no hotpatch comes."""
    today, until = standing.today, quarter_end(standing.today, 1)
    plan = months(calendar, channel.name, channel.baseline_months, today, until)
    due: list[Due] = []
    if standing.reboot_pending:
        due.append(Due(today, Need.REBOOT, cause("reboot-pending", "An installed update waits for a reboot.")))
    elif linux.kernel_installed and linux.kernel_running and linux.kernel_installed != linux.kernel_running:
        due.append(
            Due(
                today,
                Need.REBOOT,
                cause(
                    "kernel-behind",
                    "The kernel that runs is {running}; {installed} is installed.",
                    running=linux.kernel_running,
                    installed=linux.kernel_installed,
                ),
            )
        )
    due += [
        Due(today, Need.RESTART, cause("process-behind", "{unit} runs old code of {path}.", unit=unit, path=path))
        for unit, path in _behind(linux)
    ]
    newest = _newest_baseline(calendar, channel, today)
    if newest is not None and (standing.level.baseline is None or standing.level.baseline.day < newest.day):
        due.append(Due(today, Need.REBOOT, _missing(newest.month), newest.month))
    on_line = standing.hotpatched and standing.level.line is Line.ON
    for month in plan:
        if month.day <= today:
            continue
        if month.baseline:
            due.append(Due(month.day, Need.REBOOT, _baseline_cause(month, today), month.name, month.release is None))
            on_line = standing.hotpatched
        elif not on_line:
            due.append(Due(month.day, Need.RESTART, _off_cause_linux(month), month.name, month.release is None))
    return Forecast(until, tuple(due), tuple(due), _next_hotpatch(plan, today))


def _newest_baseline(calendar: Calendar, channel: Channel, today: date) -> Release | None:
    """Return the last baseline that was published; None where the calendar has none."""
    found = [r for r in calendar.releases(channel.name) if r.kind.is_baseline and not r.planned and r.day <= today]
    return found[-1] if found else None


def _off_cause_linux(month: Month) -> Cause:
    return cause(
        "services-restart",
        "No hotpatch comes to this machine: services restart for the updates of {month}.",
        month=month.name,
    )


def _behind(linux: Linux) -> list[tuple[str, str]]:
    """Return unit and path of every process whose code is not that of the file on disk; unknown counts as behind."""
    return sorted(
        {
            (unit, image.path)
            for image in linux.images or ()
            if image.disk_build_id is None or image.effective_build_id != image.disk_build_id
            for unit in image.units or ("?",)
        }
    )
