"""The forecast in its corners: months and expectations, issues without a deadline, channels with other cycles."""

from __future__ import annotations

import dataclasses
from datetime import date

import msgspec
import pytest

from hotmend.servicing.evaluate import Program, evaluate
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.forecast import Forecast, Need, Standing, linux_forecast, windows_forecast
from hotmend.servicing.known_issues import Concern
from hotmend.servicing.level import linux_level, windows_level
from hotmend.servicing.releases import Calendar, Line, calendar_rows
from tests.servicing.machines import (
    AUGUST,
    JULY,
    OCTOBER,
    PROGRAM,
    SEPTEMBER,
    at,
    because,
    changed,
    linux,
    machine,
    update,
    windows,
)

CHANNEL = PROGRAM.catalogue.channel[0]
DEBIAN = next(channel for channel in PROGRAM.catalogue.channel if channel.name == "Debian 12")
BEFORE = (JULY, AUGUST, SEPTEMBER)
HEAD = (
    "product,month,label,type,restart_required,status,release_date,kb,build,requires_baseline_kb,hotpatch_line,"
    "hotpatch_line_basis,confidence,source,note\n"
)
LICENCE = next(issue for issue in PROGRAM.issues if issue.id == "october-2025-licence")


def _row(month: str, kind: str, day: str, name: str, channel: str = "Debian 12", status: str = "released") -> str:
    return f"{channel},{month},{month.replace('-', '.')} B,{kind},yes,{status},{day},{name},,,on,documented,high,m,\n"


def _forecast(facts: MachineFacts, day: str, program: Program = PROGRAM) -> Forecast:
    found = evaluate(facts, program, at(day)).forecast
    assert found is not None
    return found


def _entries(found: Forecast) -> list[tuple[str, str, bool]]:
    return [(each.cause.code, each.month, each.expected) for each in found.due]


def test_each_entry_has_its_month_and_whether_it_is_only_expected() -> None:
    lapsing = machine(windows(*BEFORE, OCTOBER))
    assert _entries(_forecast(lapsing, "2025-10-26")) == [
        ("licence-lapses", "2025-11", False),
        ("licence-lapses", "2025-12", False),
        ("baseline-due", "2026-01", False),
    ]
    off = machine(windows(*BEFORE, OCTOBER, update("KB5070881", "2025-10-24"), revision=6905))
    assert _entries(_forecast(off, "2025-10-26")) == [
        ("off-line", "2025-11", False),
        ("off-line", "2025-12", False),
        ("baseline-due", "2026-01", False),
    ]
    disabled = changed(off, windows__hotpatch__enablement="Disabled")
    assert _entries(_forecast(disabled, "2028-12-20")) == [
        ("baseline-missing", "2028-10", True),
        ("baseline-due", "2029-01", True),
        ("off-line", "2029-02", True),
        ("off-line", "2029-03", True),
    ]


def test_an_issue_beyond_the_calendar_is_only_expected() -> None:
    issue = msgspec.structs.replace(LICENCE, since=date(2028, 1, 1), until=date(2029, 3, 13), deadline=None)
    concern = Concern(issue, True, (), overdue=False)
    level = windows_level(windows(*BEFORE, OCTOBER, revision=None), CHANNEL, PROGRAM.calendar)
    standing = Standing(level, frozenset({"KB5066835"}), hotpatched=True, reboot_pending=False, today=date(2029, 1, 20))
    found = windows_forecast(standing, CHANNEL, PROGRAM.calendar, [concern])
    # Without a deadline it counts from its first day; its last day, a release's own, is the first without.
    assert _entries(found) == [
        ("baseline-missing", "2029-01", True),
        ("licence-lapses", "2029-02", True),
        ("baseline-due", "2029-04", True),
    ]


def test_what_an_issue_costs_is_counted_only_for_those_that_take_machines_off_the_line() -> None:
    level = windows_level(windows(*BEFORE, OCTOBER, revision=None), CHANNEL, PROGRAM.calendar)
    standing = Standing(
        level, frozenset({"KB5066835"}), hotpatched=True, reboot_pending=False, today=date(2025, 10, 20)
    )
    harmless = msgspec.structs.replace(LICENCE, off_line=False)
    for concern, codes in (
        (Concern(LICENCE, None, (), overdue=False), ["licence-lapses", "licence-lapses", "baseline-due"]),
        (Concern(LICENCE, False, (), overdue=False), ["baseline-due"]),
        (Concern(harmless, True, (), overdue=False), ["baseline-due"]),
    ):
        assert [
            code for code, _, _ in _entries(windows_forecast(standing, CHANNEL, PROGRAM.calendar, [concern]))
        ] == codes


def test_a_workaround_without_a_deadline_is_due_before_the_issue_ends() -> None:
    issue = msgspec.structs.replace(LICENCE, deadline=None)
    level = windows_level(windows(*BEFORE, OCTOBER, revision=None), CHANNEL, PROGRAM.calendar)
    standing = Standing(
        level, frozenset({"KB5066835"}), hotpatched=True, reboot_pending=False, today=date(2025, 10, 20)
    )
    found = windows_forecast(standing, CHANNEL, PROGRAM.calendar, [Concern(issue, True, (), overdue=False)])
    first = found.due_with_workaround[0]
    assert because([first.cause]) == [
        ("workaround-reboot", "The workaround needs one planned reboot before 2026-01-13.")
    ]
    assert (first.day, first.need, first.month, first.expected) == (date(2025, 10, 20), Need.REBOOT, "", False)


def test_a_channel_with_one_baseline_a_year() -> None:
    yearly = msgspec.structs.replace(CHANNEL, baseline_months=(1,))
    empty = Calendar(())
    level = windows_level(windows(OCTOBER), CHANNEL, PROGRAM.calendar)
    standing = Standing(level, frozenset(), hotpatched=True, reboot_pending=False, today=date(2028, 10, 20))
    assert _entries(windows_forecast(standing, yearly, empty)) == [("baseline-due", "2029-01", True)]
    behind = dataclasses.replace(level, line=Line.OFF)
    standing = dataclasses.replace(standing, level=behind, today=date(2028, 10, 20), hotpatched=False)
    assert [(each.day.month, each.cause.code) for each in windows_forecast(standing, yearly, empty).due] == [
        (10, "off-line"),
        (11, "off-line"),
        (12, "off-line"),
        (1, "baseline-due"),
        (2, "off-line"),
        (3, "off-line"),
    ]
    always = msgspec.structs.replace(CHANNEL, baseline_months=tuple(range(1, 13)))
    assert windows_forecast(standing, always, empty).next_hotpatch is None


def _linux(day: str, *rows: str, **changes: object) -> Forecast:
    program = dataclasses.replace(PROGRAM, calendar=Calendar(calendar_rows(HEAD + "".join(rows))))
    return _forecast(machine(linux(**changes)), day, program)


OLD_BASE = _row("2026-07", "baseline", "2026-07-14", "2026-07")
BASE = _row("2026-10", "baseline", "2026-10-13", "2026-10")
UNPLANNED = _row("2026-12", "unplanned_baseline", "2026-12-15", "2026-12-u", status="planned")


def test_linux_each_entry_has_its_month_and_whether_it_is_only_expected() -> None:
    found = _linux("2026-11-20", BASE, UNPLANNED, enablement="Disabled")
    assert _entries(found) == [
        ("unplanned-baseline-due", "2026-12", False),
        ("baseline-due", "2027-01", True),
        ("services-restart", "2027-02", True),
        ("services-restart", "2027-03", True),
    ]
    assert because([found.due[0].cause]) == [
        ("unplanned-baseline-due", "Unplanned baseline of 2026-12, in place of a hotpatch: it ends in a reboot.")
    ]
    assert found.until == date(2027, 3, 31)
    known = _linux("2026-11-20", BASE, _row("2026-12", "hotpatch", "2026-12-08", "hot"), enablement="Disabled")
    assert _entries(known)[0] == ("services-restart", "2026-12", False)


@pytest.mark.parametrize(
    ("day", "baseline", "due"),
    [
        ("2026-10-12", "2026-07", [("2026-10-13", "baseline-due"), ("2027-01-12", "baseline-due")]),
        ("2026-10-13", "2026-07", [("2026-10-13", "baseline-missing"), ("2027-01-12", "baseline-due")]),
        ("2026-11-20", "2026-07", [("2026-11-20", "baseline-missing"), ("2027-01-12", "baseline-due")]),
        ("2026-11-20", "2026-10", [("2027-01-12", "baseline-due")]),
        ("2026-12-14", "2026-10", [("2026-12-15", "unplanned-baseline-due"), ("2027-01-12", "baseline-due")]),
        ("2026-12-15", "2026-10", [("2027-01-12", "baseline-due")]),
    ],
)
def test_linux_a_baseline_that_is_published_and_not_installed(
    day: str, baseline: str, due: list[tuple[str, str]]
) -> None:
    rows = [OLD_BASE, BASE, *([UNPLANNED] if day >= "2026-12" else [])]
    found = _linux(day, *rows, baseline=baseline)
    assert [(f"{each.day}", each.cause.code) for each in found.due] == due
    assert all(each.need is Need.REBOOT for each in found.due)
    assert all(each.month for each in found.due)
    assert not any(each.expected for each in found.due if each.cause.code == "baseline-missing")


def test_linux_what_waits_for_a_boot_is_due_today() -> None:
    level = linux_level(linux(), DEBIAN, Calendar(calendar_rows(HEAD + BASE)))
    standing = Standing(level, frozenset(), hotpatched=True, reboot_pending=True, today=date(2026, 11, 20))
    found = linux_forecast(linux(), standing, DEBIAN, Calendar(calendar_rows(HEAD + BASE)))
    assert [(each.day, each.need, each.month, each.expected) for each in found.due] == [
        (date(2026, 11, 20), Need.REBOOT, "", False),
        (date(2027, 1, 12), Need.REBOOT, "2027-01", True),
    ]
    assert _entries(found)[0][0] == "reboot-pending"
    assert found.due_with_workaround == found.due
