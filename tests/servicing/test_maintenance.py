"""Maintenance windows: no instant outside the wall-clock range, in every zone; freezes; time that is left; choices."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotmend.model.errors import InputError
from hotmend.servicing.facts import Offer
from hotmend.servicing.maintenance import (
    Freeze,
    Interval,
    Policy,
    Window,
    intervals,
    localised,
    may_start,
    policy_check,
    policy_parse,
    wall_starts,
)
from hotmend.servicing.selection import Deed, choose
from tests.servicing.machines import BUSY

ZONES = sorted(zoneinfo.available_timezones())
_DIFFERENT = {
    (files("tzdata") / "zoneinfo" / name).read_bytes(): name for name in ZONES if name != "localtime"
}.values()
"""One name of each zone: the others are links to it."""
BERLIN = ZoneInfo("Europe/Berlin")
WHEN, NOW = datetime(2026, 1, 1, 2), datetime(2026, 11, 30, tzinfo=UTC)


def _wall(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _outside(wall: datetime, minutes: int, zone: ZoneInfo, instant: datetime) -> bool:
    """Say whether an instant's wall-clock time is outside the range, by nothing but the zone's own conversion."""
    return not wall <= instant.astimezone(zone).replace(tzinfo=None) < wall + timedelta(minutes=minutes)


def test_no_window_is_outside_its_zones_rule_in_50_years_of_all_zones() -> None:
    window = Window("w", "FREQ=WEEKLY;BYDAY=SU", _wall("1996-01-07T01:30"), 120)
    walls = list(wall_starts(window, _wall("1996-01-01"), _wall("2046-01-01")))
    assert len(walls) == 2609
    outside, lost = [], 0
    for name in _DIFFERENT:
        zone = ZoneInfo(name)
        for wall in walls:
            found = localised(wall, 120, zone)
            if found is None:
                lost += 1
                continue
            start, end = found
            if end - start > timedelta(minutes=120) or any(
                _outside(wall, 120, zone, instant) for instant in (start, end - timedelta(seconds=1))
            ):
                outside.append((name, wall))
    assert outside == []
    assert lost <= 10


@BUSY
@given(
    st.sampled_from(ZONES),
    st.datetimes(datetime(1996, 1, 1), datetime(2046, 1, 1)),
    st.integers(1, 3000),
)
def test_every_minute_of_a_window_is_in_its_range(name: str, wall: datetime, minutes: int) -> None:
    zone, wall = ZoneInfo(name), wall.replace(microsecond=0)
    found = localised(wall, minutes, zone)
    if found is None:
        return
    start, end = found
    assert start < end <= start + timedelta(minutes=minutes)
    instant = start
    while instant < end:
        assert not _outside(wall, minutes, zone, instant)
        instant += timedelta(minutes=7)


@pytest.mark.parametrize(
    ("wall", "minutes", "expected"),
    [
        ("2026-06-14T02:30", 60, ("00:30", "01:30")),
        ("2026-03-29T02:30", 60, ("01:00", "01:30")),  # the start does not exist
        ("2026-03-29T01:30", 60, ("00:30", "01:00")),  # the end does not exist
        ("2026-03-29T02:10", 30, None),  # nothing of it exists
        ("2026-10-25T02:30", 60, ("01:30", "02:30")),  # the start exists twice
        ("2026-10-25T01:30", 60, ("23:30", "00:30")),  # the end exists twice
        ("2026-10-25T01:30", 120, ("23:30", "01:30")),  # no longer than it says
        ("2026-10-25T02:10", 30, ("01:10", "01:40")),  # both exist twice
    ],
)
def test_gaps_and_folds(wall: str, minutes: int, expected: tuple[str, str] | None) -> None:
    found = localised(_wall(wall), minutes, BERLIN)
    assert (found and (f"{found[0]:%H:%M}", f"{found[1]:%H:%M}")) == expected


def test_a_day_that_does_not_exist_has_no_window() -> None:
    assert localised(_wall("2011-12-30T02:00"), 60, ZoneInfo("Pacific/Apia")) is None


@pytest.mark.parametrize(
    ("days", "first"), [(0, "2026-01-13"), (5, "2026-01-18"), (20, "2026-02-02"), (-14, "2025-12-30")]
)
def test_the_second_tuesday_plus_days(days: int, first: str) -> None:
    window = Window("w", "FREQ=MONTHLY;BYDAY=2TU", _wall("2025-01-01T02:00"), 60, days)
    found = list(wall_starts(window, _wall("2025-12-20"), _wall("2026-03-01")))
    assert _wall(f"{first}T02:00") in found
    plain = list(wall_starts(Window("w", window.rule, window.start, 60), _wall("2025-01-01"), _wall("2027-01-01")))
    assert {wall - timedelta(days=days) for wall in found} <= set(plain)


def _open(policy: Policy, day: str, days: int = 1) -> list[tuple[str, str]]:
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    found = intervals(policy, BERLIN, start, start + timedelta(days=days))
    return [(f"{each.start.astimezone(BERLIN):%d %H:%M}", f"{each.end.astimezone(BERLIN):%d %H:%M}") for each in found]


def test_off_peak_hours_are_the_default() -> None:
    assert _open(Policy(), "2026-06-10") == [("09 22:00", "10 06:00"), ("10 22:00", "11 06:00")]


def test_freezes_are_cut_out() -> None:
    whole = Policy(freeze=(Freeze("f", date(2026, 6, 10), date(2026, 6, 10)),))
    assert _open(whole, "2026-06-10") == [("11 00:00", "11 06:00")]
    assert _open(whole, "2026-06-11") == [("11 00:00", "11 06:00"), ("11 22:00", "12 06:00")]
    yearly = Policy(freeze=(Freeze("f", date(2020, 12, 18), date(2021, 1, 6), yearly=True),))
    assert _open(yearly, "2026-12-24", 5) == []
    assert _open(yearly, "2027-01-05", 1) == []
    assert _open(yearly, "2027-01-07", 1)[0] == ("07 00:00", "07 06:00")
    leap = Policy(freeze=(Freeze("f", date(2024, 2, 29), date(2024, 2, 29), yearly=True),))
    assert _open(leap, "2026-02-28")[0] == ("01 00:00", "01 06:00")


def test_all_of_a_window_is_used_and_nothing_beyond() -> None:
    at = datetime(2026, 6, 10, 20, tzinfo=UTC)
    one = Interval(at, at + timedelta(hours=2), "w")
    later = Interval(at + timedelta(days=1), at + timedelta(days=1, hours=2), "w")
    cases = [(0, 120, "window-open"), (0, 121, "window-too-short"), (119, 1, "window-open"), (120, 1, "window-closed")]
    for minute, needed, code in cases:
        decision = may_start([one, later], at + timedelta(minutes=minute), timedelta(minutes=needed))
        assert (decision.cause.code, decision.allowed) == (code, code == "window-open")
    assert may_start([one, later], at - timedelta(hours=1), timedelta(hours=1)).next_start == one.start
    assert may_start([one, later], at, timedelta(hours=3)).next_start is None
    assert may_start([], at, timedelta(0)).until is None


def test_a_window_that_goes_on_with_its_next_day_does_not_close_between_them() -> None:
    always = Policy(window=(Window("always", "FREQ=DAILY", datetime(2020, 1, 1), 24 * 60),))
    now = datetime(2026, 6, 10, 23, 55, tzinfo=UTC)
    found = intervals(always, ZoneInfo("UTC"), now, now + timedelta(days=3))
    decision = may_start(found, now, timedelta(hours=2))
    assert (decision.allowed, decision.until) == (True, found[-1].end)
    alone = may_start(found, now, timedelta(hours=2), joined=False)
    assert (alone.cause.code, alone.until) == ("window-too-short", found[0].end)
    at, hour = found[0].end, timedelta(hours=1)
    apart = [found[0], Interval(at + hour, at + 3 * hour, "always")]
    assert not may_start(apart, now, timedelta(minutes=6)).allowed
    other = [found[0], Interval(at, at + 3 * hour, "another")]
    assert not may_start(other, now, timedelta(minutes=6)).allowed, "each window from beginning to end"
    halves = [Interval(at, at + hour, "always"), Interval(at + hour, at + 2 * hour, "always")]
    assert may_start(halves, now, 2 * hour).next_start == at, "both together are long enough"
    inside = [Interval(at, at + 5 * hour, "always"), Interval(at + hour, at + 2 * hour, "always")]
    assert may_start(inside, at, 5 * hour).allowed


@pytest.mark.parametrize(
    "text",
    [
        "[[window]]\nname='w'\nrule='FREQ=HOURLY'\nstart=2026-01-01T02:00:00\nminutes=5",
        "[[window]]\nname='w'\nrule='FREQ=SOMETIMES'\nstart=2026-01-01T02:00:00\nminutes=5",
        "[[window]]\nname='w'\nrule='FREQ=DAILY'\nstart=2026-01-01T02:00:00Z\nminutes=5",
        "[[window]]\nname='w'\nrule='FREQ=DAILY'\nstart=2026-01-01T02:00:00\nminutes=0",
        "[[freeze]]\nname='f'\nfirst=2026-02-01\nlast=2026-01-01",
        "window = []",
        "mode = 'sometimes'",
        "exclud = []",
        "x",
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        policy_parse(text)


def _kept(rule: str, start: datetime = WHEN) -> Policy:
    """Return a policy as it is kept: nothing of its rule was checked."""
    return Policy(window=(Window("w", rule, start, 60),))


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;INTERVAL=-1",
        "FREQ=MONTHLY;INTERVAL=-1",
        "RRULE:FREQ=DAILY;INTERVAL=0",
        "rrule:freq=daily;interval=0",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=DAILY;INTERVAL=7;BYDAY=MO",
        "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;UNTIL=20251231",
        "FREQ=YEARLY;BYEASTER=0",
        "FREQ=DAILY;COUNT=1;UNTIL=20270101",
        "FREQ=DAILY;BYHOUR=1,2",
        "FREQ=DAILY;BYSECOND=1,2",
        "DTSTART:00010101T000000 RRULE:FREQ=DAILY",
    ],
)
def test_a_rule_from_which_no_days_follow_is_refused_and_one_that_is_kept_never_opens(rule: str) -> None:
    with pytest.raises(InputError):
        policy_check(_kept(rule), "policy")
    assert intervals(_kept(rule), BERLIN, NOW, NOW + timedelta(days=400)) == ()


def test_a_first_day_of_long_ago_is_refused() -> None:
    policy_check(_kept("FREQ=DAILY", WHEN.replace(year=1970)), "policy")
    with pytest.raises(InputError, match="before 1970"):
        policy_check(_kept("FREQ=DAILY", WHEN.replace(year=1969)), "policy")


@pytest.mark.parametrize("start", ["1999-12-31T02:00", "2000-02-29T02:00", "2026-01-01T02:00", "9999-12-31T02:00"])
@pytest.mark.parametrize("rule", ["FREQ=DAILY", "FREQ=YEARLY;UNTIL=99991231T235959", "FREQ=WEEKLY;COUNT=1"])
def test_a_rule_that_occurs_is_taken_whenever_it_begins(rule: str, start: str) -> None:
    policy_check(_kept(rule, _wall(start)), "policy")
    policy_check(_kept("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=SU", _wall("2026-01-01T02:00")), "policy")


_NUMBERS = st.lists(st.integers(-400, 400), min_size=1, max_size=3).map(lambda found: ",".join(map(str, found)))
_DAYS = st.lists(
    st.tuples(st.sampled_from(["", "1", "2", "-1", "5", "60"]), st.sampled_from(["MO", "TU", "SU"])).map("".join),
    min_size=1,
    max_size=3,
).map(",".join)
_PARTS = st.fixed_dictionaries(
    {"FREQ": st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY"])},
    optional={
        "INTERVAL": st.sampled_from([-7, -1, 0, 1, 2, 7, 1000, 10**9]).map(str),
        "COUNT": st.integers(-1, 3).map(str),
        "UNTIL": st.sampled_from(["20200101", "20270101T000000", "20270101T000000Z"]),
        "BYDAY": _DAYS,
        "BYMONTH": st.integers(-1, 13).map(str),
        "BYHOUR": st.sampled_from(["2", "24", "1,2"]),
        "WKST": st.sampled_from(["MO", "SU"]),
        **dict.fromkeys(["BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYSETPOS"], _NUMBERS),
    },
)


@given(_PARTS, st.datetimes(_wall("1969-01-01"), _wall("9999-12-31")))
@settings(deadline=None, max_examples=60)
def test_whatever_the_rule_it_is_refused_or_has_days_and_ends(parts: dict[str, str], start: datetime) -> None:
    kept = _kept(";".join(f"{name}={value}" for name, value in parts.items()), start.replace(microsecond=0))
    after, before = _wall("2026-11-30"), _wall("2028-01-31")
    starts = list(wall_starts(kept.window[0], after, before))
    assert len({each.date() for each in starts}) == len(starts), "one a day at most"
    assert all(max(after, kept.window[0].start) <= each <= before for each in starts)
    try:
        policy_check(kept, "policy")
    except InputError:
        assert not starts
        return
    assert int(parts.get("INTERVAL", "1")) >= 1


OFFER = Offer("KB5068966", "2025-11 Hotpatch", "Security Updates", needs_reboot=False)


@pytest.mark.parametrize(
    ("offer", "policy", "deed", "code"),
    [
        (OFFER, Policy(), Deed.INSTALL, "classification-wanted"),
        (OFFER, Policy(mode="notify"), Deed.ASK, "notify"),
        (OFFER, Policy(mode="manual"), Deed.LIST, "manual"),
        (OFFER, Policy(exclude=("KB5068966",), include=("KB5068966",)), Deed.EXCLUDE, "excluded"),
        (OFFER, Policy(exclude=("*Hotpatch",)), Deed.EXCLUDE, "excluded"),
        (OFFER, Policy(reboot="never"), Deed.INSTALL, "classification-wanted"),
        (Offer("KB1", None, "Drivers"), Policy(), Deed.LIST, "classification-listed"),
        (Offer("KB1", None, "Drivers"), Policy(include=("KB1",)), Deed.INSTALL, "included"),
        (Offer("KB1"), Policy(), Deed.LIST, "classification-unknown"),
        (Offer("KB1", None, "Security"), Policy(reboot="never"), Deed.LIST, "needs-reboot"),
        (Offer("KB1", None, "Critical", True), Policy(reboot="never", include=("KB1",)), Deed.LIST, "needs-reboot"),
    ],
)
def test_what_happens_with_an_offered_update(offer: Offer, policy: Policy, deed: Deed, code: str) -> None:
    choice = choose(offer, policy)
    assert (choice.deed, choice.cause.code) == (deed, code)
