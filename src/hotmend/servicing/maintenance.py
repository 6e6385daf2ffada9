"""Maintenance windows: RFC 5545 recurrence in the machine's own zone, freeze periods, and whether there is time left.

A window is a range of *wall-clock* times, and no instant of it has a wall-clock time outside that range, whatever the
zone does on that day:

* a start that does not exist (clocks go forward) becomes the first instant after the gap;
* a start that exists twice (clocks go back) is the second one, from which the range is not left again;
* an end that exists twice is the first one after the start, one that does not exist is the gap;
* no window is longer than its duration; one that lies wholly in a gap does not take place on that day.

Recurrence works on wall-clock times without a zone; `days_after` moves each of its days on, without limit: 'second
Tuesday plus 20 days' may be in the next month.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from dateutil.rrule import rrule, rrulestr
from msgspec import Meta

from hotmend.model.errors import InputError
from hotmend.servicing.message import Cause, cause

POLICY_BYTES_MAX: Final = 1 << 20
MINUTES_MAX: Final = 7 * 24 * 60
_MARGIN: Final = timedelta(days=2)
"""More than any zone is away from UTC."""
_TOO_OFTEN: Final = ("HOURLY", "MINUTELY", "SECONDLY")
_TIMES: Final = ("BYHOUR", "BYMINUTE", "BYSECOND")
"""Parts of a recurrence that have one value at most: each more is another one on the same day."""
FIRST_YEAR: Final = 1970
"""Days are counted from a window's first one each time: from here that is a tenth of a second."""
_CYCLE_YEARS: Final = 400
"""After so many years the days of the calendar are the same again, days of the week included."""
_SECOND: Final = timedelta(seconds=1)
_ALL_YEAR: Final = timedelta(days=364)
"""From the first day of a year to its last one."""


REBOOTS: Final = ("never", "if-required", "always")
"""How much may be rebooted, least first."""


def reboot_within(policy: str, asked: str) -> str:
    """Return how much may be rebooted: what the policy allows, and no more than an action asks for ("": all of it)."""
    return min(policy, asked or policy, key=REBOOTS.index)


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One recurring window.

    Attributes:
        name: for people.
        rule: RRULE of RFC 5545, daily at most.
        start: first day and wall-clock time (DTSTART), without a zone.
        minutes: how long.
        days_after: each day of the recurrence is moved by so many days.
    """

    name: str
    rule: str
    start: Annotated[datetime, Meta(tz=False)]
    minutes: Annotated[int, Meta(ge=1, le=MINUTES_MAX)]
    days_after: Annotated[int, Meta(ge=-36500, le=36500)] = 0


class Freeze(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Days on which nothing is installed.

    Attributes:
        name: for people.
        first, last: both frozen.
        yearly: every year again; a range over the turn of the year is one.
    """

    name: str
    first: date
    last: date
    yearly: bool = False

    @property
    def always(self) -> bool:
        """Whether no day is left, those before the first one among them: a slip in the year of its end."""
        return self.yearly and self.last - self.first >= _ALL_YEAR


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator wants.

    Attributes:
        mode: install by itself, ask first, or only on command.
        window: at least one; none at all would be never.
        freeze: wins over windows.
        classifications: installed by themselves; all others are listed.
        include, exclude: ids or masks of names; exclude wins over everything.
        reboot: whether an update that needs one may be installed: `if-required`, `never`.
    """

    mode: Literal["automatic", "notify", "manual"] = "automatic"
    window: Annotated[tuple[Window, ...], Meta(min_length=1, max_length=100)] = (
        Window("off-peak hours", "FREQ=DAILY", datetime(2000, 1, 1, 22), 8 * 60),
    )
    freeze: Annotated[tuple[Freeze, ...], Meta(max_length=1000)] = ()
    classifications: tuple[str, ...] = ("Critical", "Critical Updates", "Security", "Security Updates")
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    reboot: Literal["if-required", "never"] = "if-required"


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    """A range of instants, UTC; `end` is not in it."""

    start: datetime
    end: datetime
    name: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something may start now.

    Attributes:
        allowed: it fits into the open window.
        until: end of the open window; None: none is open.
        next_start: of the next window with enough time; None: none was found.
        cause: why.
    """

    allowed: bool
    until: datetime | None
    next_start: datetime | None
    cause: Cause


def policy_parse(text: str, source: str = "policy") -> Policy:
    """Return the policy that a TOML text holds.

    Raises:
        InputError: too large, not TOML, not this form, a recurrence that is none or too frequent, a freeze that ends
            before it begins.
    """
    if len(text) > POLICY_BYTES_MAX:
        raise InputError("{source}: larger than {limit} bytes", source=source, limit=POLICY_BYTES_MAX)
    try:
        policy = msgspec.convert(tomllib.loads(text), Policy)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise InputError("{source}: not a maintenance policy: {why}", source=source, why=str(error)) from error
    policy_check(policy, source)
    return policy


def policy_check(policy: Policy, source: str) -> None:
    """Check what the form of a policy does not say.

    Raises:
        InputError: a recurrence that is none or too frequent, a freeze that ends before it begins, or leaves no day.
    """
    for window in policy.window:
        _recurrence(window, source)
    for freeze in policy.freeze:
        if freeze.last < freeze.first:
            raise InputError("{source}: freeze '{name}' ends before it begins", source=source, name=freeze.name)
        if freeze.always:
            raise InputError("{source}: freeze '{name}' leaves no day of a year", source=source, name=freeze.name)


def _recurrence(window: Window, source: str = "policy") -> rrule:
    """Return the recurrence of a window.

    Raises:
        InputError: it is none, comes more than once a day, or never.
    """
    if any(word in window.rule.upper() for word in _TOO_OFTEN):
        raise InputError("{source}: window '{name}': more than one a day", source=source, name=window.name)
    try:
        parts = _parts(window.rule)
        if any("," in parts.get(name, "") for name in _TIMES):
            raise InputError("{source}: window '{name}': more than one a day", source=source, name=window.name)
        lines = len(window.rule.split())
        found = rrulestr(window.rule, dtstart=window.start) if lines == 1 else None
        if not isinstance(found, rrule):
            raise InputError("{source}: window '{name}': one recurrence, not a set", source=source, name=window.name)
        occurs = _occurs(found, window.start)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise InputError(
            "{source}: window '{name}': '{rule}' is no recurrence: {why}",
            source=source,
            name=window.name,
            rule=window.rule,
            why=str(error),
        ) from error
    if not occurs:
        raise InputError(
            "{source}: window '{name}': '{rule}' never occurs", source=source, name=window.name, rule=window.rule
        )
    return found


def _parts(rule: str) -> dict[str, str]:
    """Return the parts of a recurrence by name.

    Raises:
        ValueError: it has what is not of RFC 5545, a start of its own, or an interval from which no day follows.
    """
    pairs = (each.partition("=") for each in rule.upper().removeprefix("RRULE:").split(";"))
    parts = {name.strip(): value.strip() for name, _, value in pairs}
    if "BYEASTER" in parts:
        raise ValueError("BYEASTER is not of RFC 5545")
    if {"COUNT", "UNTIL"} <= parts.keys():
        raise ValueError("COUNT or UNTIL, not both")
    if int(parts.get("INTERVAL", "1")) < 1:  # the library would give the same day for ever
        raise ValueError("an interval is 1 or more")
    return parts


def _occurs(found: rrule, start: datetime) -> bool:
    """Return whether there is an occurrence within 400 years, in which every day of the calendar comes.

    The library looks for one to the end of all years: the recurrence is moved by whole cycles to where that is near.

    Raises:
        ValueError: it begins before `FIRST_YEAR`.
    """
    if start.year < FIRST_YEAR:
        raise ValueError(f"it begins before {FIRST_YEAR}")
    cycles = (MAXYEAR - start.year) // _CYCLE_YEARS - 1
    moved = found.replace(dtstart=start.replace(year=start.year + max(0, cycles) * _CYCLE_YEARS), until=None)
    try:
        if next(iter(moved), None) is None:
            return False
    except (ValueError, OverflowError):  # it went beyond the last year
        return False
    return next(iter(found), None) is not None  # it may end before


@lru_cache(maxsize=4096)
def _usable(window: Window) -> rrule | None:
    """Return the recurrence of a window; None where it is none: such a window never opens."""
    try:
        return _recurrence(window)
    except InputError:
        return None


def wall_starts(window: Window, after: datetime, before: datetime) -> Iterator[datetime]:
    """Yield the wall-clock starts of a window between two wall-clock times, both included.

    Of a recurrence that `policy_check` refuses there are none: a version that took it may have kept it.
    """
    recurrence = _usable(window)
    if recurrence is None:
        return
    shift = timedelta(days=window.days_after)
    for start in recurrence.between(after - shift, before - shift, inc=True):
        yield start + shift


def localised(wall_start: datetime, minutes: int, zone: ZoneInfo) -> tuple[datetime, datetime] | None:
    """Return the instants, UTC, of a wall-clock range in a zone; None where it does not exist on that day."""
    length = timedelta(minutes=minutes)
    start = max(_instants(wall_start, zone))
    end = min((instant for instant in _instants(wall_start + length, zone) if instant > start), default=start)
    end = min(end, start + length)
    return (start, end) if start < end else None


def _instants(wall: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """Return when a wall-clock time is: once, twice, or, where it does not exist, the end of the gap."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first <= second:
        return (first, second) if first < second else (first,)
    return (_transition(second, first, zone),)


def _transition(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the first second after `before` at which the zone has the offset that it has at `after`."""
    wanted = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
        if middle.astimezone(zone).utcoffset() == wanted:
            after = middle
        else:
            before = middle
    return after


def intervals(policy: Policy, zone: ZoneInfo, after: datetime, before: datetime) -> tuple[Interval, ...]:
    """Return when a policy's windows are open between two aware moments, earliest first, frozen days left out."""
    first = after.astimezone(zone).replace(tzinfo=None) - _MARGIN
    last = before.astimezone(zone).replace(tzinfo=None) + _MARGIN
    found: list[Interval] = []
    for window in policy.window:
        for wall in wall_starts(window, first - timedelta(minutes=window.minutes), last):
            instants = localised(wall, window.minutes, zone)
            if instants is not None:
                found.append(Interval(*instants, window.name))
    for frozen in _frozen(policy.freeze, zone, first.date(), last.date()):
        found = [rest for each in found for rest in _without(each, frozen)]
    return tuple(sorted(each for each in found if each.end > after and each.start < before))


def _frozen(freezes: Iterable[Freeze], zone: ZoneInfo, first: date, last: date) -> Iterator[tuple[datetime, datetime]]:
    for freeze in freezes:
        for begin, end in _days(freeze, first, last):
            begins = min(_instants(datetime.combine(begin, time()), zone))
            ends = max(_instants(datetime.combine(end + timedelta(days=1), time()), zone))
            yield begins, ends


def _days(freeze: Freeze, first: date, last: date) -> Iterator[tuple[date, date]]:
    """Yield first and last day of a freeze, for a yearly one in each year that matters, the one before among them."""
    if not freeze.yearly:
        yield freeze.first, freeze.last
        return
    length = freeze.last - freeze.first
    for year in range(first.year - 1 - length.days // 365, last.year + 1):
        begin = _in_year(freeze.first, year)
        yield begin, begin + length


def _in_year(day: date, year: int) -> date:
    """Return a day in another year; 29 February is 28 February there, one day more frozen rather than one less."""
    try:
        return day.replace(year=year)
    except ValueError:
        return day.replace(year=year, day=28)


def _without(interval: Interval, frozen: tuple[datetime, datetime]) -> Iterator[Interval]:
    begins, ends = frozen
    if ends <= interval.start or begins >= interval.end:
        yield interval
        return
    if interval.start < begins:
        yield Interval(interval.start, begins, interval.name)
    if ends < interval.end:
        yield Interval(ends, interval.end, interval.name)


def may_start(open_ones: Sequence[Interval], now: datetime, needed: timedelta, *, joined: bool = True) -> Decision:
    """Return whether something that takes `needed` may start now, inside one window from beginning to end.

    All of a window is used: what fits into the time that is left may start, and nothing else.

    Args:
        open_ones: earliest first.
        now: the moment.
        needed: how long it takes.
        joined: a window whose next day begins where this one ends (all day, every day) does not close between them;
            False where each day of it asks for a word of its own.
    """
    ends = _ends(open_ones, joined)
    until = max((end for each, end in ends if each.start <= now < each.end), default=None)
    following = next((each.start for each, end in ends if each.start > now and end - each.start >= needed), None)
    if until is None:
        return Decision(False, None, following, cause("window-closed", "No maintenance window is open."))
    if now + needed > until:
        short = cause(
            "window-too-short",
            "The open window ends at {until}, too early for what takes {minutes} minutes.",
            until=until,
            minutes=int(needed / timedelta(minutes=1)),
        )
        return Decision(False, until, following, short)
    fits = cause("window-open", "The window is open until {until}.", until=until)
    return Decision(True, until, following, fits)


def _ends(open_ones: Sequence[Interval], joined: bool) -> list[tuple[Interval, datetime]]:
    """Return each interval with the moment at which its window closes."""
    if not joined:
        return [(each, each.end) for each in open_ones]
    found: list[tuple[Interval, datetime]] = []
    after: dict[str, tuple[datetime, datetime]] = {}
    for each in reversed(open_ones):
        begins, closes = after.get(each.name, (each.end, each.end))
        end = max(each.end, closes) if begins <= each.end else each.end
        after[each.name] = each.start, end
        found.append((each, end))
    return found[::-1]
