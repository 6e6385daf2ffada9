"""A channel's plan: what it watches and when it releases, as data in a TOML file (docs/commands.md)."""

from __future__ import annotations

import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from hotmend.diff.options import ACCEPTABLE
from hotmend.model.errors import InputError
from hotmend.repository.layout import check_channel

PLAN_BYTES_MAX: Final = 1 << 20
DEBIAN_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_ORDINALS = ("first", "second", "third", "fourth")

Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9.+/_-]{0,99}\Z")]
Address = Annotated[str, Meta(pattern=r"\A(https?|file|copy):[!-~]{1,400}\Z")]
Days = Annotated[int, Meta(ge=0, le=3650)]


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that this version does not know is an error: it might have been meant to forbid something."""


class Suite(_Value, frozen=True):
    """A suite of a repository of Debian packages.

    Attributes:
        name, uri, components: as in apt's sources.
        signed_by: file with the keys of whoever signs its Release file.
        security: updates of this suite become hotpatches; those of others wait for the next baseline.
    """

    name: Name
    uri: Address
    components: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=20)] = ("main",)
    signed_by: str = DEBIAN_KEYRING
    security: bool = False


class Cycle(_Value, frozen=True):
    """When planned baselines are made.

    Attributes:
        months: of the year.
        day: of the month, 1 to 28, or such as `second tuesday`.
    """

    months: Annotated[tuple[Annotated[int, Meta(ge=1, le=12)], ...], Meta(min_length=1, max_length=12)] = (1, 4, 7, 10)
    day: int | str = "second tuesday"

    def day_in(self, year: int, month: int) -> date:
        """Return the day of a baseline in a month.

        Raises:
            InputError: `day` says none.
        """
        if isinstance(self.day, int):
            if not 1 <= self.day <= 28:
                raise InputError(f"cycle: day {self.day}", "1 to 28, or such as `second tuesday`")
            return date(year, month, self.day)
        ordinal, _, weekday = self.day.lower().partition(" ")
        if ordinal not in _ORDINALS or weekday not in _WEEKDAYS:
            raise InputError(f"cycle: day {self.day!r}", "1 to 28, or such as `second tuesday`")
        first = date(year, month, 1)
        ahead = (_WEEKDAYS.index(weekday) - first.weekday()) % 7
        return first + timedelta(days=ahead + 7 * _ORDINALS.index(ordinal))

    def days(self, after: date, count: int) -> tuple[date, ...]:
        """Return the next planned days after a day."""
        found: list[date] = []
        year, month = after.year, after.month
        while len(found) < count:
            if month in self.months and (day := self.day_in(year, month)) > after:
                found.append(day)
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return tuple(found)

    def due(self, last: date | None, today: date) -> bool:
        """Return whether a baseline has to be made: there is none, or a planned day has come since the last one."""
        return last is None or self.days(last, 1)[0] <= today


class Tiers(_Value, frozen=True):
    """How releases get from canary to stable.

    Attributes:
        promote_after_days: how long the canary tier has a release before its promotion is asked for.
        promote: False asks for nothing; people do.
    """

    promote_after_days: Days = 7
    promote: bool = True


class Retention(_Value, frozen=True):
    """What is kept.

    Attributes:
        baselines: for how many of the newest baselines hotpatches are made; releases of older ones are withdrawn.
        superseded: how many hotpatches of a baseline stay on offer beside the newest.
        grace_days: how long files stay that nothing refers to any more, for machines in the middle of a download.
    """

    baselines: Annotated[int, Meta(ge=1, le=40)] = 2
    superseded: Annotated[int, Meta(ge=0, le=1000)] = 1
    grace_days: Days = 7


class Plan(_Value, frozen=True):
    """A channel.

    Attributes:
        channel: its name.
        packages: names of the source packages that are watched.
        suite: suites, in any order.
        manifest: `all` lists every package of the suites in a baseline, `watched` only those.
        builders: how many times each hotpatch is built; all must give the same bytes.
        partial: where a fix cannot be hot-patched as a whole, its safe part goes into the hotpatch all the same.
        accept: source package to codes of refusals that this vendor takes upon itself.
        again: names of bundles that may be released once more although they were withdrawn.
        cycle, tiers, retention: see there.
        state: folder for lists, packages and the queue, beside the plan; the channel's name by default.
    """

    channel: str
    packages: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=10_000)]
    suite: Annotated[tuple[Suite, ...], Meta(min_length=1, max_length=50)]
    format: Literal[1] = 1
    manifest: Literal["all", "watched"] = "all"
    builders: Annotated[int, Meta(ge=1, le=5)] = 2
    partial: bool = True
    accept: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    again: tuple[str, ...] = ()
    cycle: Cycle = Cycle()
    tiers: Tiers = Tiers()
    retention: Retention = Retention()
    state: str = ""


def plan_parse(data: bytes, source: str = "plan") -> Plan:
    """Return a plan.

    Raises:
        InputError: too long, not TOML, not this form (the message names the key), or against a rule.
    """
    if len(data) > PLAN_BYTES_MAX:
        raise InputError(f"{source}: longer than {PLAN_BYTES_MAX} bytes")
    try:
        plan = msgspec.convert(tomllib.loads(data.decode()), Plan)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: {error}", "docs/commands.md describes the plan of a channel") from None
    check_channel(plan.channel)
    plan.cycle.day_in(2026, 1)
    if not any(suite.security for suite in plan.suite):
        raise InputError(f"{source}: no suite is one of security updates", "security = true in its [[suite]]")
    if len({(suite.uri.rstrip("/"), suite.name) for suite in plan.suite}) != len(plan.suite):
        raise InputError(f"{source}: a suite stands there twice")
    unknown = {code for codes in plan.accept.values() for code in codes} - ACCEPTABLE
    if unknown:
        raise InputError(f"{source}: {min(unknown)} cannot be accepted", f"only {', '.join(sorted(ACCEPTABLE))}")
    return plan


def plan_load(path: Path) -> Plan:
    """Return the plan of a file, with `state` as a path that does not depend on where the command runs.

    Raises:
        InputError: as `plan_parse`, or the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    plan = plan_parse(data, str(path))
    return msgspec.structs.replace(plan, state=str(path.parent.absolute() / (plan.state or plan.channel)))
