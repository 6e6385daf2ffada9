"""Policies: what is refused and why; where windows and freezes begin and end, to the second."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from hotmend.model.errors import InputError
from hotmend.servicing import maintenance
from hotmend.servicing.maintenance import (
    Freeze,
    Interval,
    Policy,
    Window,
    intervals,
    localised,
    may_start,
    policy_parse,
    wall_starts,
)

BERLIN = ZoneInfo("Europe/Berlin")
DAY = "[[window]]\nname='w'\nrule='FREQ=DAILY'\nstart=2026-01-01T02:00:00\nminutes=60\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DAY.replace("DAILY", "HOURLY"), "policy: window 'w': more than one a day"),
        (DAY.replace("FREQ=DAILY", "freq=minutely"), "policy: window 'w': more than one a day"),
        (DAY.replace("DAILY", "SECONDLY"), "policy: window 'w': more than one a day"),
        (
            DAY.replace("DAILY", "SOMETIMES"),
            "policy: window 'w': 'FREQ=SOMETIMES' is no recurrence: invalid 'FREQ': SOMETIMES",
        ),
        (DAY.replace("'FREQ=DAILY'", "'x'"), "policy: window 'w': 'x' is no recurrence: "),
        (
            DAY.replace("'FREQ=DAILY'", "'RRULE:FREQ=DAILY\\nRRULE:FREQ=WEEKLY'")
            .replace("'R", '"R')
            .replace("Y'", 'Y"'),
            "policy: window 'w': one recurrence, not a set",
        ),
        ("[[freeze]]\nname='f'\nfirst=2026-02-02\nlast=2026-02-01", "policy: freeze 'f' ends before it begins"),
        (
            "[[freeze]]\nname='f'\nfirst=2026-12-20\nlast=2028-01-02\nyearly=true",
            "policy: freeze 'f' leaves no day of a year",
        ),
        ("mode = 'sometimes'", "policy: not a maintenance policy: Invalid enum value 'sometimes'"),
        ("window = []", "policy: not a maintenance policy: Expected `array` of length >= 1"),
        (
            DAY.replace("minutes=60", f"minutes={7 * 24 * 60 + 1}"),
            "policy: not a maintenance policy: Expected `int` <= 10080",
        ),
        (DAY + "days_after = 36501", "policy: not a maintenance policy: Expected `int` <= 36500"),
        ("x", "policy: "),
    ],
)
def test_what_is_refused_says_why(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        policy_parse(text)
    assert str(caught.value).startswith(message)


def test_what_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert policy_parse("") == Policy()
    assert Policy().mode == "automatic"
    assert Policy().reboot == "if-required"
    assert Policy().classifications == ("Critical", "Critical Updates", "Security", "Security Updates")
    one_day = policy_parse("[[freeze]]\nname='f'\nfirst=2026-02-01\nlast=2026-02-01")
    assert one_day.freeze == (Freeze("f", date(2026, 2, 1), date(2026, 2, 1)),)
    assert policy_parse(DAY + "days_after = 36500").window[0].days_after == 36500
    monkeypatch.setattr(maintenance, "POLICY_BYTES_MAX", len(DAY))
    assert policy_parse(DAY).window[0].minutes == 60
    with pytest.raises(InputError, match=r"^mine: larger than \d+ bytes$"):
        policy_parse(DAY + " ", "mine")


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _found(policy: Policy, after: str, before: str, zone: ZoneInfo = BERLIN) -> list[tuple[str, str, str]]:
    found = intervals(policy, zone, _at(after), _at(before))
    return [(f"{each.start:%m-%d %H:%M}", f"{each.end:%m-%d %H:%M}", each.name) for each in found]


NIGHTLY = Policy(window=(Window("night", "FREQ=DAILY", datetime(2000, 1, 1, 2), 120),))
LONG = Policy(window=(Window("week", "FREQ=MONTHLY;BYMONTHDAY=1", datetime(2026, 1, 1), 7 * 24 * 60),))


def test_what_only_touches_the_time_asked_for_is_not_in_it() -> None:
    # Two to four o'clock in Berlin is one to three in winter.
    assert _found(NIGHTLY, "2026-01-10T01:00", "2026-01-11T01:00") == [("01-10 01:00", "01-10 03:00", "night")]
    assert _found(NIGHTLY, "2026-01-10T02:59", "2026-01-10T03:00") == [("01-10 01:00", "01-10 03:00", "night")]
    assert _found(NIGHTLY, "2026-01-10T03:00", "2026-01-11T01:00") == []
    assert _found(NIGHTLY, "2026-01-10T03:00", "2026-01-11T01:01") == [("01-11 01:00", "01-11 03:00", "night")]


def test_a_window_that_began_long_before_is_still_open() -> None:
    assert _found(LONG, "2026-02-07T22:59", "2026-02-08T00:00") == [("01-31 23:00", "02-07 23:00", "week")]
    assert _found(LONG, "2026-02-07T23:00", "2026-02-08T00:00") == []


@pytest.mark.parametrize("name", ["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Kathmandu"])
def test_zones_far_from_utc(name: str) -> None:
    zone = ZoneInfo(name)
    found = intervals(NIGHTLY, zone, _at("2026-01-10T00:00"), _at("2026-01-20T00:00"))
    assert [each.start.astimezone(zone).hour for each in found] == [2] * len(found)
    assert len(found) in {10, 11}
    assert list(found) == sorted(found)


def test_several_windows_in_order_of_time() -> None:
    two = Policy(window=(*NIGHTLY.window, Window("noon", "FREQ=DAILY", datetime(2026, 1, 1, 12), 30)))
    assert [name for _, _, name in _found(two, "2026-01-10T00:00", "2026-01-12T00:00")] == ["night", "noon"] * 2


def _frozen(policy: Policy, *days: str, yearly: bool = False) -> Policy:
    first, last = (date.fromisoformat(day) for day in (days[0], days[-1]))
    return Policy(window=policy.window, freeze=(Freeze("f", first, last, yearly),))


def test_a_freeze_in_the_middle_leaves_two_parts() -> None:
    assert _found(_frozen(LONG, "2026-02-03"), "2026-02-01T00:00", "2026-02-09T00:00") == [
        ("01-31 23:00", "02-02 23:00", "week"),
        ("02-03 23:00", "02-07 23:00", "week"),
    ]
    assert _found(_frozen(LONG, "2026-01-20", "2026-02-01"), "2026-02-01T00:00", "2026-02-09T00:00") == [
        ("02-01 23:00", "02-07 23:00", "week")
    ]
    assert _found(_frozen(LONG, "2026-02-07", "2026-03-20"), "2026-02-01T00:00", "2026-02-09T00:00") == [
        ("01-31 23:00", "02-06 23:00", "week")
    ]
    for days in (("2026-01-31",), ("2026-02-08",)):  # the days before and after
        assert _found(_frozen(LONG, *days), "2026-02-01T00:00", "2026-02-09T00:00") == [
            ("01-31 23:00", "02-07 23:00", "week")
        ]
    assert _found(_frozen(LONG, "2026-02-01", "2026-02-07"), "2026-01-31T00:00", "2026-02-09T00:00") == []
    assert _found(_frozen(LONG, "2026-02-01"), "2026-01-31T00:00", "2026-02-09T00:00") == [
        ("02-01 23:00", "02-07 23:00", "week")
    ]


def test_a_yearly_freeze_comes_every_year() -> None:
    turn = _frozen(NIGHTLY, "2020-12-31", "2021-01-02", yearly=True)
    for year in (2015, 2026, 2044):
        found = _found(turn, f"{year}-12-30T00:00", f"{year + 1}-01-05T00:00")
        assert [start[:5] for start, _, _ in found] == ["12-30", "01-03", "01-04"], year
    new_year = Policy(window=LONG.window, freeze=(Freeze("f", date(2020, 12, 27), date(2020, 12, 31), yearly=True),))
    late = Policy(window=(Window("w", "FREQ=YEARLY", datetime(2026, 12, 29), 7 * 24 * 60),), freeze=new_year.freeze)
    assert _found(late, "2027-01-03T00:00", "2027-01-04T00:00") == [("12-31 23:00", "01-04 23:00", "w")]
    once = _frozen(NIGHTLY, "2026-12-31", "2027-01-02")
    assert len(_found(once, "2027-12-30T00:00", "2028-01-05T00:00")) == 6
    long_one = _frozen(NIGHTLY, "2020-03-01", "2022-02-27", yearly=True)
    assert _found(long_one, "2026-06-01T00:00", "2026-06-03T00:00") == []
    assert _found(long_one, "2026-02-01T00:00", "2026-02-03T00:00") == []
    leap = _frozen(NIGHTLY, "2024-02-29", yearly=True)
    assert [start[:5] for start, _, _ in _found(leap, "2026-02-27T00:00", "2026-03-02T00:00")] == ["02-27", "03-01"]
    assert [start[:5] for start, _, _ in _found(leap, "2028-02-27T00:00", "2028-03-02T00:00")] == [
        *("02-27", "02-28", "03-01")
    ]


def test_a_frozen_day_whose_midnight_does_not_exist_or_exists_twice() -> None:
    havana = ZoneInfo("America/Havana")
    always = Policy(window=(Window("all day", "FREQ=DAILY", datetime(2026, 1, 1), 24 * 60),))
    # Clocks go from midnight to one o'clock on 8 March, and from one o'clock back to midnight on 1 November 2026.
    gap = _frozen(always, "2026-03-08")
    assert _found(gap, "2026-03-08T05:00", "2026-03-09T04:00", havana) == []
    assert _found(gap, "2026-03-09T04:00", "2026-03-09T05:00", havana)[0][0] == "03-09 04:00"
    fold = _frozen(always, "2026-11-01")
    found = _found(fold, "2026-10-31T05:00", "2026-11-03T05:00", havana)
    assert [(start, end) for start, end, _ in found][:2] == [
        ("10-31 04:00", "11-01 04:00"),
        ("11-02 05:00", "11-03 05:00"),
    ]
    day_before = _frozen(always, "2026-10-31")
    found = _found(day_before, "2026-10-31T05:00", "2026-11-01T12:00", havana)
    assert [(start, end) for start, end, _ in found] == [("11-01 05:00", "11-02 05:00")]


def test_which_starts_a_window_has() -> None:
    window = Window("w", "FREQ=WEEKLY;BYDAY=TU", datetime(2026, 1, 1, 2), 60, days_after=3)
    found = list(wall_starts(window, datetime(2026, 1, 9, 2), datetime(2026, 1, 16, 2)))
    assert found == [datetime(2026, 1, 9, 2), datetime(2026, 1, 16, 2)]
    assert list(wall_starts(window, datetime(2025, 12, 1), datetime(2026, 1, 9, 1, 59))) == []


def test_what_may_start_when_windows_overlap() -> None:
    start = _at("2026-06-10T20:00")
    one, two = Interval(start, start + timedelta(hours=2), "a"), Interval(start, start + timedelta(hours=3), "b")
    later = Interval(start + timedelta(days=1), start + timedelta(days=1, minutes=30), "c")
    last = Interval(start + timedelta(days=2), start + timedelta(days=2, hours=5), "d")
    found = may_start([one, two, later, last], start, timedelta(hours=3))
    assert (found.allowed, found.until, found.next_start) == (True, two.end, last.start)
    found = may_start([one, two, later, last], start, timedelta(minutes=30))
    assert (found.allowed, found.next_start) == (True, later.start)
    found = may_start([later, last], start, timedelta(hours=5))
    assert (found.allowed, found.until, found.next_start) == (False, None, last.start)
    assert may_start([one], start - timedelta(seconds=1), timedelta(hours=2)).cause.code == "window-closed"
    assert may_start([one], one.end, timedelta(0)).cause.code == "window-closed"
    late = may_start([one], one.end - timedelta(minutes=90), timedelta(minutes=91, seconds=59))
    assert "takes 91 minutes" in str(late.cause.message)
    assert (late.allowed, late.until, late.next_start) == (False, one.end, None)
    assert may_start([one, last], one.end - timedelta(minutes=1), timedelta(hours=1)).next_start == last.start


def test_the_end_of_a_gap_is_found_to_the_second() -> None:
    assert localised(datetime(2026, 3, 29, 2, 30), 60, BERLIN) == (_at("2026-03-29T01:00"), _at("2026-03-29T01:30"))
    for wall in (datetime(2026, 3, 29, 2, 30), datetime(2026, 6, 1, 2), datetime(2026, 10, 25, 2, 30)):
        assert [each.tzinfo for each in localised(wall, 60, BERLIN) or ()] == [UTC, UTC]
        assert all(each.tzinfo is UTC for each in localised(wall, 60, BERLIN) or ())
    # Monrovia was 44 minutes and 30 seconds behind until midnight of 7 January 1972.
    monrovia = ZoneInfo("Africa/Monrovia")
    assert localised(datetime(1972, 1, 7, 0, 10), 60, monrovia) == (
        *(_at("1972-01-07T00:44:30"), _at("1972-01-07T01:10")),
    )
