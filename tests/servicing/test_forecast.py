"""What is due, when and why; with and without a workaround; and what was avoided so far."""

from __future__ import annotations

import dataclasses
from datetime import date

import pytest

from hotmend.servicing.avoided import linux_avoided, windows_avoided
from hotmend.servicing.evaluate import Answers, evaluate
from hotmend.servicing.facts import AppliedHotpatch, Image, MachineFacts, RunningImage, Update
from hotmend.servicing.forecast import Due, months
from hotmend.servicing.products import Channel
from hotmend.servicing.releases import Calendar, calendar_rows
from tests.servicing.machines import (
    AUGUST,
    JULY,
    NEW,
    OCTOBER,
    OLD,
    OTHER,
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
BEFORE = (JULY, AUGUST, SEPTEMBER)
BAD, GOOD = update("KB5070881", "2025-10-24"), update("KB5070893", "2025-10-25")
DONE: dict[str, object] = {
    "booted_at": at("2025-10-28"),
    "windows__workaround__override": 1,
    "windows__workaround__mutex_present": False,
    "windows__workaround__changed_at": at("2025-10-27"),
}


def _server(*updates: Update) -> MachineFacts:
    """Return a server whose build is what its history gives."""
    found = (PROGRAM.calendar.find(CHANNEL.name, each.kb) for each in updates if each.state == "installed")
    revisions = [release.revision for release in found if release is not None and release.revision is not None]
    return machine(windows(*updates, revision=max(revisions)))


def _answers(facts: MachineFacts, day: str) -> Answers:
    return evaluate(facts, PROGRAM, at(day))


def _told(due: tuple[Due, ...]) -> list[tuple[str, str, str]]:
    assert [each.day for each in due] == sorted(each.day for each in due)
    return [(f"{each.day:%m-%d}", each.need, each.cause.code) for each in due]


def _forecast(facts: MachineFacts, day: str) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    found = _answers(facts, day).forecast
    assert found is not None
    return _told(found.due), _told(found.due_with_workaround)


_WORK = ("10-26", "reboot", "workaround-reboot")
_JAN = ("01-13", "reboot", "baseline-due")


def _lapse(*days: str) -> list[tuple[str, str, str]]:
    return [(day, "reboot", "licence-lapses") for day in days]


def _off(*days: str, code: str = "off-line") -> list[tuple[str, str, str]]:
    return [(day, "reboot", code) for day in days]


@pytest.mark.parametrize(
    ("updates", "changes", "without", "with_workaround"),
    [
        # On the line, nothing done: the licence lapses. The workaround costs one planned reboot.
        ((*BEFORE, OCTOBER), {}, [*_lapse("11-11", "12-09"), _JAN], [_WORK, _JAN]),
        # The same with the workaround in place: nothing but the baseline.
        ((*BEFORE, OCTOBER), DONE, [_JAN], [_JAN]),
        # Off the line: three reboots, and no workaround.
        ((*BEFORE, OCTOBER, BAD), {}, [*_off("11-11", "12-09"), _JAN], [*_off("11-11", "12-09"), _JAN]),
        ((*BEFORE, BAD), {}, [*_off("11-11", "12-09"), _JAN], [*_off("11-11", "12-09"), _JAN]),
        # Not proven to be on the line counts as not on it.
        (
            (*BEFORE, OCTOBER),
            {"windows__updates_since": None},
            [*_lapse("11-11", "12-09"), _JAN],
            [_WORK, *_off("11-11", "12-09", code="line-not-proven"), _JAN],
        ),
        # Not enabled: each month, and after the baseline, too.
        (
            (*BEFORE, OCTOBER),
            {"windows__hotpatch__enablement": "Disabled", **DONE},
            [*_off("11-11", "12-09", code="not-hotpatched"), _JAN, *_off("02-10", "03-10", code="not-hotpatched")],
            [*_off("11-11", "12-09", code="not-hotpatched"), _JAN, *_off("02-10", "03-10", code="not-hotpatched")],
        ),
        # Enabled and not proven possible.
        (
            (*BEFORE, OCTOBER),
            {"windows__arc__connected": None, **DONE},
            [*_off("11-11", "12-09", code="not-hotpatched"), _JAN, *_off("02-10", "03-10", code="not-hotpatched")],
            [*_off("11-11", "12-09", code="not-hotpatched"), _JAN, *_off("02-10", "03-10", code="not-hotpatched")],
        ),
        # An update waits for its boot.
        (
            (*BEFORE, update("KB5066835", "2025-10-15", "pending-reboot")),
            DONE,
            [("10-26", "reboot", "reboot-pending"), _JAN],
            [("10-26", "reboot", "reboot-pending"), _JAN],
        ),
        ((*BEFORE, OCTOBER), DONE | {"reboot_pending": True}, *[[("10-26", "reboot", "reboot-pending"), _JAN]] * 2),
        ((*BEFORE, OCTOBER), DONE | {"reboot_pending": None}, [_JAN], [_JAN]),
        # The baseline of October is published and not installed; hotpatches of November need it.
        (BEFORE, {}, [("10-26", "reboot", "baseline-missing"), _JAN], [("10-26", "reboot", "baseline-missing"), _JAN]),
    ],
)
def test_the_machines_of_october_2025(
    updates: tuple[Update, ...],
    changes: dict[str, object],
    without: list[tuple[str, str, str]],
    with_workaround: list[tuple[str, str, str]],
) -> None:
    facts = changed(_server(*updates), **changes)
    assert _forecast(facts, "2025-10-26") == (without, with_workaround)


@pytest.mark.parametrize(
    ("updates", "day", "due"),
    [
        # On the day of a release it is due today; the day before, tomorrow.
        ((*BEFORE, OCTOBER), "2026-01-12", [("01-13", "reboot", "baseline-due")]),
        ((*BEFORE, OCTOBER), "2026-01-13", [("01-13", "reboot", "baseline-missing")]),
        # Three months behind: cumulative updates contain each other, one reboot.
        ((JULY,), "2026-02-01", [("02-01", "reboot", "baseline-missing")]),
        # Any update of the baseline's month or later contains the baseline.
        ((*BEFORE, BAD), "2025-10-26", [*_off("11-11", "12-09"), _JAN]),
        ((*BEFORE, update("KB5068861", "2025-11-12")), "2025-11-13", [*_off("12-09"), _JAN]),
        # Behind by a hotpatch month only: what is published is due today where it needs a reboot.
        ((*BEFORE, OCTOBER, BAD), "2025-12-20", [("12-20", "reboot", "off-line"), _JAN]),
        ((*BEFORE, OCTOBER, BAD), "2025-12-01", [("12-01", "reboot", "off-line"), *_off("12-09"), _JAN]),
        (
            (*BEFORE, OCTOBER, BAD, update("KB5068861", "2025-11-12")),
            "2025-12-01",
            [("12-09", "reboot", "off-line"), _JAN],
        ),
    ],
)
def test_what_is_behind_is_due_once(updates: tuple[Update, ...], day: str, due: list[tuple[str, str, str]]) -> None:
    found = _answers(changed(_server(*updates), **DONE), day).forecast
    assert found is not None
    assert _told(found.due)[: len(due)] == due


def test_the_forecast_ends_with_the_next_quarter_and_goes_on_beyond_the_calendar() -> None:
    facts = changed(_server(*BEFORE, OCTOBER), **DONE)
    for day, until in (("2025-10-20", "2026-03-31"), ("2025-12-31", "2026-03-31"), ("2026-01-01", "2026-06-30")):
        found = _answers(facts, day).forecast
        assert found is not None
        assert found.until == date.fromisoformat(until)
        assert all(each.day <= found.until for each in found.due)
    far = _answers(facts, "2029-05-01").forecast
    assert far is not None
    assert [(each.day, each.month, each.expected, each.cause.code) for each in far.due] == [
        (date(2029, 5, 1), "2029-04", True, "baseline-missing"),
        (date(2029, 7, 10), "2029-07", True, "baseline-due"),
    ]
    near = _answers(facts, "2025-10-20").forecast
    assert near is not None
    assert [(each.month, each.expected) for each in near.due] == [("2026-01", False)]


@pytest.mark.parametrize(
    ("day", "following"),
    [
        ("2025-10-20", "2025-11-11"),
        ("2025-11-11", "2025-11-11"),
        ("2025-11-12", "2025-12-09"),
        ("2025-12-10", "2026-02-10"),
    ],
)
def test_the_next_hotpatch_has_a_date(day: str, following: str) -> None:
    found = _answers(machine(windows(OCTOBER)), day).forecast
    assert found is not None
    assert found.next_hotpatch == date.fromisoformat(following)


def test_after_the_deadline_a_workaround_is_no_longer_counted_with() -> None:
    facts = _server(*BEFORE, OCTOBER)
    found = _answers(facts, "2025-11-11").forecast
    assert found is not None
    assert found.due == found.due_with_workaround
    assert _told(found.due) == [("11-11", "reboot", "licence-lapses"), *_lapse("12-09"), _JAN]


def test_reasons_are_sentences() -> None:
    def causes(facts: MachineFacts, day: str) -> dict[str, str]:
        found = _answers(facts, day).forecast
        assert found is not None
        return dict(because(each.cause for each in (*found.due, *found.due_with_workaround)))

    enrolled = _server(*BEFORE, OCTOBER)
    assert causes(enrolled, "2025-10-26") == {
        "licence-lapses": "The licence issue keeps the hotpatch of 2025-12 away: the regular update needs a reboot.",
        "baseline-due": "Baseline of 2026-01: planned each quarter, it ends in a reboot.",
        "workaround-reboot": "The workaround needs one planned reboot before 2025-11-11.",
    }
    off = changed(_server(*BEFORE, OCTOBER, BAD), reboot_pending=True)
    assert causes(off, "2025-12-08") == {
        "reboot-pending": "An installed update waits for a reboot.",
        "off-line": "The machine is off the line: the update of 2025-12 needs a reboot.",
        "baseline-due": "Baseline of 2026-01: planned each quarter, it ends in a reboot.",
    }
    disabled = changed(enrolled, windows__hotpatch__enablement="Disabled", **DONE)
    assert causes(disabled, "2026-01-12")["not-hotpatched"] == (
        "Hotpatch is not enabled, or not proven possible: the update of 2026-06 needs a reboot."
    )
    unknown = changed(enrolled, windows__updates_since=None, **DONE)
    assert causes(unknown, "2025-10-26")["line-not-proven"] == (
        "It is not proven that the machine is on the line: the update of 2025-12 is counted with a reboot."
    )
    assert causes(_server(*BEFORE), "2025-10-26")["baseline-missing"] == (
        "The baseline of 2025-10 is published and not installed."
    )


def test_without_a_channel_there_is_no_forecast() -> None:
    answers = _answers(changed(machine(windows()), windows__build=20348), "2025-10-20")
    assert (answers.level, answers.forecast, answers.avoided) == (None, None, None)


_HEAD = (
    "product,month,label,type,restart_required,status,release_date,kb,build,requires_baseline_kb,hotpatch_line,"
    "hotpatch_line_basis,confidence,source,note,images\n"
)
_MANIFESTS = _HEAD + (
    "Debian 12,2026-10,2026.10 B,baseline,yes,released,2026-10-13,2026-10,,,on,documented,high,manifest,,\n"
    f"Debian 12,2026-11,2026.11 B,hotpatch,no,released,2026-11-10,2026-11,,2026-10,on,documented,high,m,,{OLD}>{NEW}\n"
)
DEBIAN = dataclasses.replace(PROGRAM, calendar=Calendar(calendar_rows(_MANIFESTS)))


def _linux(**changes: object) -> list[tuple[str, str, str]]:
    found = evaluate(machine(linux(**changes)), DEBIAN, at("2026-11-20")).forecast
    assert found is not None
    assert found.due == found.due_with_workaround
    return _told(found.due)


_KERNEL = {"kernel_running": "6.1.0-40-amd64", "kernel_installed": "6.1.0-41-amd64"}
_BASE = ("01-12", "reboot", "baseline-due")


def _image(path: str, disk: str | None, effective: str | None, *units: str) -> RunningImage:
    return RunningImage(path, OLD, disk, effective, units=units or None)


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({}, [_BASE]),
        (_KERNEL, [("11-20", "reboot", "kernel-behind"), _BASE]),
        ({"kernel_installed": None}, [_BASE]),
        ({"images": (_image("/a", NEW, NEW, "a.service"),)}, [_BASE]),
        ({"images": (_image("/a", NEW, OLD, "a.service"),)}, [("11-20", "restart", "process-behind"), _BASE]),
        ({"images": (_image("/a", None, NEW, "a.service"),)}, [("11-20", "restart", "process-behind"), _BASE]),
        (
            {"images": (_image("/a", NEW, OLD, "a.service", "b.service"), _image("/b", NEW, OLD))},
            [*[("11-20", "restart", "process-behind")] * 3, _BASE],
        ),
        (
            {"enablement": "Disabled"},
            [
                ("12-08", "restart", "services-restart"),
                _BASE,
                *[(d, "restart", "services-restart") for d in ("02-09", "03-09")],
            ],
        ),
        (
            {"baseline": None},
            [("11-20", "reboot", "baseline-missing"), ("12-08", "restart", "services-restart"), _BASE],
        ),
    ],
)
def test_linux_reboots_and_restarts(changes: dict[str, object], due: list[tuple[str, str, str]]) -> None:
    found = _linux(**changes)
    assert sorted(found) == sorted(due)


def test_linux_reasons_are_sentences() -> None:
    facts = machine(linux(images=(_image("/a", NEW, OLD, "a.service"), _image("/b", NEW, OLD)), **_KERNEL))
    found = evaluate(changed(facts, linux__baseline=None), DEBIAN, at("2026-11-20")).forecast
    assert found is not None
    assert because(each.cause for each in found.due) == [
        ("kernel-behind", "The kernel that runs is 6.1.0-40-amd64; 6.1.0-41-amd64 is installed."),
        ("process-behind", "? runs old code of /b."),
        ("process-behind", "a.service runs old code of /a."),
        ("baseline-missing", "The baseline of 2026-10 is published and not installed."),
        ("services-restart", "No hotpatch comes to this machine: services restart for the updates of 2026-12."),
        ("baseline-due", "Baseline of 2027-01: planned each quarter, it ends in a reboot."),
    ]
    waiting = evaluate(changed(facts, reboot_pending=True), DEBIAN, at("2026-11-20")).forecast
    assert waiting is not None
    assert because([waiting.due[0].cause]) == [("reboot-pending", "An installed update waits for a reboot.")]
    assert "kernel-behind" not in [each.cause.code for each in waiting.due]
    assert waiting.next_hotpatch == date(2026, 12, 8)


def test_the_months_of_a_channel() -> None:
    found = months(PROGRAM.calendar, "Windows Server 2025", (1, 4, 7, 10), date(2025, 9, 30), date(2025, 12, 1))
    assert [(each.name, each.day, each.baseline) for each in found] == [
        ("2025-09", date(2025, 9, 9), False),
        ("2025-10", date(2025, 10, 14), True),
        ("2025-11", date(2025, 11, 11), False),
        ("2025-12", date(2025, 12, 9), False),
    ]
    assert found[1].release is PROGRAM.calendar.find("Windows Server 2025", "KB5066835")
    assert found[2].release is PROGRAM.calendar.find("Windows Server 2025", "KB5068966")
    assert {"KB5066835", "KB5070773", "KB5070881", "KB5070893"} <= found[1].ids
    unplanned = months(PROGRAM.calendar, "Windows Server 2022 Azure Edition", (1, 4, 7, 10), *[date(2024, 8, 1)] * 2)
    assert [(each.name, each.baseline, each.day) for each in unplanned] == [("2024-08", True, date(2024, 8, 13))]
    empty = months(PROGRAM.calendar, "nothing", (3,), date(2028, 2, 10), date(2028, 3, 1))
    assert [(each.name, each.day, each.baseline, each.release, each.ids) for each in empty] == [
        ("2028-02", date(2028, 2, 8), False, None, frozenset()),
        ("2028-03", date(2028, 3, 14), True, None, frozenset()),
    ]


def _avoided(*updates: Update, channel: Channel = CHANNEL) -> tuple[int, int, int, int, bool]:
    found = windows_avoided(windows(*updates), channel, PROGRAM.calendar)
    return (found.reboots, found.restarts, found.reboots_had, found.uncounted, found.complete)


def test_what_windows_was_spared() -> None:
    assert _avoided(*BEFORE) == (2, 0, 1, 0, True)
    assert _avoided(*BEFORE, OCTOBER) == (2, 0, 2, 0, True)
    assert _avoided(JULY, AUGUST, update("KB5066360", "2025-09-12"), SEPTEMBER) == (2, 0, 1, 0, True)
    assert _avoided(JULY, AUGUST, update("KB5063878", "2025-08-20")) == (0, 0, 2, 0, True)
    assert _avoided(JULY, update("KB5064010", "2025-08-13", "failed")) == (0, 0, 1, 0, True)
    assert _avoided(JULY, update("KB1234567", "2025-08-13")) == (0, 0, 1, 0, True)
    assert windows_avoided(windows(updates=None), CHANNEL, PROGRAM.calendar).complete is False
    unread = windows_avoided(windows(updates=None), CHANNEL, PROGRAM.calendar)
    assert (unread.reboots, unread.restarts, unread.reboots_had, unread.uncounted, unread.exposures) == (0, 0, 0, 0, ())


def test_how_long_each_fix_took_to_arrive() -> None:
    late = update("KB5062553", "2025-07-01")
    found = windows_avoided(windows(AUGUST, SEPTEMBER, late, update("KB5066835")), CHANNEL, PROGRAM.calendar)
    assert [(each.id, each.published, each.installed, each.days) for each in found.exposures] == [
        ("KB5065474", date(2025, 9, 9), date(2025, 9, 10), 1),
        ("KB5064010", date(2025, 8, 12), date(2025, 8, 13), 1),
    ]
    same = windows_avoided(windows(update("KB5065474", "2025-09-09")), CHANNEL, PROGRAM.calendar)
    assert [each.days for each in same.exposures] == [0]


def test_what_linux_was_spared() -> None:
    one = AppliedHotpatch("a", OLD, NEW, units=("x.service", "x.service", "y.service"))
    two = AppliedHotpatch("b", NEW, OTHER, units=("x.service",))
    blind = AppliedHotpatch("c", NEW, OTHER)
    found = linux_avoided(linux(hotpatches=(one, two, blind)))
    assert (found.reboots, found.restarts, found.reboots_had, found.uncounted, found.complete) == (0, 3, 0, 1, True)
    assert found.exposures == ()
    unread = linux_avoided(linux(hotpatches=None))
    assert (unread.restarts, unread.complete, unread.reboots, unread.reboots_had, unread.uncounted) == (
        0,
        False,
        0,
        0,
        0,
    )
    assert unread.exposures == ()


def test_image_of_a_machine_that_was_not_read_decides_nothing_here() -> None:
    facts = changed(_server(*BEFORE, OCTOBER), windows__image=Image(), **DONE)
    found = _answers(facts, "2025-10-26")
    assert found.eligibility.eligible is None
    assert found.forecast is not None
    assert found.forecast.due[0].cause.code == "not-hotpatched"
