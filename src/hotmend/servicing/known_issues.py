"""Known issues as data: whom they concern (a rule), what to do in which order, until when, and how each step is proven.

A rule is a tree of conditions: over facts, level and calendar, or over what a Linux machine sees of itself. Its answer
is yes, no or unknown, by Kleene's logic.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import Meta

from hotmend.model.errors import InputError
from hotmend.servicing import on_linux
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.level import Level
from hotmend.servicing.on_linux import Line, OnLinux, Seen, any_of
from hotmend.servicing.products import Product
from hotmend.servicing.releases import Calendar

ISSUES_BYTES_MAX: Final = 1 << 20
DEPTH_MAX: Final = 10
"""Conditions within conditions."""


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"not_": "not"}):
    """What must hold. Of several fields all must.

    Attributes:
        all_of, any_of: conditions.
        not_: a condition that must not hold.
        product: one of these ids.
        line: one of `on`, `off`, `unknown`.
        installed: one of these updates is installed.
        from_day: an update of the machine's channel that was published on this day or later is installed.
        fact: dotted name of a fact; `equals`: its value is one of these.
        booted_after: dotted name of a fact that is a time: the last boot is later.
        linux: what a Linux machine is asked.
    """

    all_of: Annotated[tuple[Condition, ...], Meta(max_length=50)] = ()
    any_of: Annotated[tuple[Condition, ...], Meta(max_length=50)] = ()
    not_: Condition | None = None
    product: tuple[Line, ...] = ()
    line: tuple[Line, ...] = ()
    installed: tuple[Line, ...] = ()
    from_day: date | None = None
    fact: Line = ""
    equals: tuple[bool | int | Line, ...] = ()
    booted_after: Line = ""
    linux: OnLinux | None = None


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One step of a workaround.

    Attributes:
        title: what to do.
        commands: exactly.
        proof: how it is known to be done.
        reboot: the step is a reboot.
    """

    title: Line
    proof: Condition
    commands: Annotated[tuple[Line, ...], Meta(max_length=50)] = ()
    reboot: bool = False


class Option(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One complete workaround; of several, one is enough.

    Attributes:
        id, title: for programs, for people.
        remedy: the name `hotmend windows apply` knows it by; "" where there is none.
        steps: in order.
    """

    id: Line
    title: Line
    steps: Annotated[tuple[Step, ...], Meta(min_length=1, max_length=50)]
    remedy: Line = ""


class KnownIssue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One known issue.

    Attributes:
        id, title: for programs, for people.
        affected: whom it concerns.
        since, until: days between which it exists; `until` is the first day without.
        options: workarounds.
        cost: what it costs to do nothing.
        deadline: a workaround must be complete before this day; None: none helps, or it is never too late.
        off_line: while it lasts, and without a workaround, every update from the deadline on needs a reboot.
        source: where this is written.
    """

    id: str
    title: str
    affected: Condition
    since: date
    until: date
    cost: str
    source: str
    options: tuple[Option, ...] = ()
    deadline: date | None = None
    off_line: bool = False


class KnownIssues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them."""

    issue: tuple[KnownIssue, ...]


class Asked(Protocol):
    """What conditions are asked of."""

    def answers(self, condition: Condition) -> Iterator[bool | None]:
        """Yield the answer of each field but `all_of`, `any_of` and `not_`, the cheap ones first."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A machine that is known by its facts.

    Attributes:
        facts, product, level: of the machine.
        calendar: of all channels.
        installed: ids of everything installed.
    """

    facts: MachineFacts
    product: Product | None
    level: Level | None
    calendar: Calendar
    installed: frozenset[str] | None

    def answers(self, condition: Condition) -> Iterator[bool | None]:
        """Yield the answer of each field."""
        if condition.product:
            yield None if self.product is None else self.product.id in condition.product
        if condition.line:
            yield None if self.level is None else str(self.level.line) in condition.line
        if condition.installed:
            yield None if self.installed is None else not self.installed.isdisjoint(condition.installed)
        if condition.from_day is not None:
            yield _installed_from(condition.from_day, self)
        if condition.fact:
            value = _fact(condition.fact, self.facts)
            yield None if value is None else value in condition.equals
        if condition.booted_after:
            yield _booted_after(condition.booted_after, self.facts)
        if condition.linux is not None:
            yield None


@dataclass(frozen=True, slots=True)
class LinuxSubject:
    """A Linux machine that looks at itself. Conditions over facts cannot be told of it."""

    machine: Seen

    def answers(self, condition: Condition) -> Iterator[bool | None]:
        """Yield the answer of each field."""
        if msgspec.structs.replace(condition, all_of=(), any_of=(), not_=None, linux=None) != Condition():
            yield None
        if condition.linux is not None:
            yield from on_linux.answers(condition.linux, self.machine)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an option has come: whether each of its steps is proven."""

    option: Option
    proven: tuple[bool | None, ...]

    @property
    def done(self) -> bool:
        """Every step is proven."""
        return all(each is True for each in self.proven)


@dataclass(frozen=True, slots=True)
class Concern:
    """A known issue, as it concerns one machine.

    Attributes:
        issue: which.
        affected: True, or None: cannot be told. Issues that do not concern a machine have no concern.
        options: how far each workaround has come.
        overdue: the deadline is over and nothing is done.
    """

    issue: KnownIssue
    affected: bool | None
    options: tuple[Progress, ...]
    overdue: bool

    @property
    def done(self) -> bool:
        """One of its workarounds is complete."""
        return any(progress.done for progress in self.options)


def concerns(issues: Iterable[KnownIssue], subject: Asked, today: date) -> tuple[Concern, ...]:
    """Return the issues that concern a machine on a day, or that may."""
    found = []
    for issue in issues:
        if not issue.since <= today < issue.until:
            continue
        affected = holds(issue.affected, subject)
        if affected is False:
            continue
        options = tuple(
            Progress(option, tuple(holds(step.proof, subject) for step in option.steps)) for option in issue.options
        )
        late = issue.deadline is not None and today >= issue.deadline and not any(p.done for p in options)
        found.append(Concern(issue, affected, options, late))
    return tuple(found)


def holds(condition: Condition, subject: Asked) -> bool | None:
    """Return whether a condition holds; None: cannot be told. A no is a no whatever else is unknown."""
    unknown = False
    for answer in _answers(condition, subject):
        if answer is False:
            return False
        unknown = unknown or answer is None
    return None if unknown else True


def _answers(condition: Condition, subject: Asked) -> Iterator[bool | None]:
    yield from subject.answers(condition)
    for each in condition.all_of:
        yield holds(each, subject)
    if condition.any_of:
        yield any_of([holds(each, subject) for each in condition.any_of])
    if condition.not_ is not None:
        answer = holds(condition.not_, subject)
        yield None if answer is None else not answer


def _installed_from(day: date, subject: Subject) -> bool | None:
    if subject.installed is None or subject.product is None:
        return None
    found = (subject.calendar.find(subject.product.channel, identity) for identity in subject.installed)
    return any(release is not None and release.day >= day for release in found)


def _booted_after(name: str, facts: MachineFacts) -> bool | None:
    changed = _fact(name, facts)
    if facts.booted_at is None or not isinstance(changed, datetime):
        return None
    return facts.booted_at > changed


def _fact(name: str, facts: MachineFacts) -> object:
    value: object = facts
    for part in name.split("."):
        if value is None:
            return None
        value = getattr(value, part)
    return value


def issues_parse(text: str, source: str = "known issues") -> tuple[KnownIssue, ...]:
    """Return the known issues that a TOML text holds.

    Raises:
        InputError: too large, not TOML, not this form, or a condition asks for a fact that does not exist.
    """
    if len(text) > ISSUES_BYTES_MAX:
        raise InputError("{source}: larger than {limit} bytes", source=source, limit=ISSUES_BYTES_MAX)
    try:
        issues = msgspec.convert(tomllib.loads(text), KnownIssues).issue
        for issue in issues:
            check((issue.affected,), issue.options)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError) as error:
        raise InputError("{source}: {why}", source=source, why=str(error)) from error
    return issues


def check(conditions: Iterable[Condition], options: Iterable[Option]) -> None:
    """Raise ValueError where a condition, or the proof of a step, says nothing or asks for what does not exist."""
    for condition in (*conditions, *(step.proof for option in options for step in option.steps)):
        _check(condition)


def _check(condition: Condition, depth: int = 1) -> None:
    """Raise ValueError for a condition that says nothing, or names a fact that does not exist."""
    if depth > DEPTH_MAX:
        raise ValueError(f"conditions are nested more than {DEPTH_MAX} deep")
    if condition == Condition():
        raise ValueError("a condition says nothing")
    if bool(condition.fact) != bool(condition.equals):
        raise ValueError("`fact` and `equals` belong together")
    for name in filter(None, (condition.fact, condition.booted_after)):
        _declared(name)
    if condition.linux is not None:
        on_linux.check(condition.linux)
    for each in (*condition.all_of, *condition.any_of, *filter(None, [condition.not_])):
        _check(each, depth + 1)


def _declared(name: str) -> None:
    kind: object = MachineFacts
    for part in name.split("."):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)} if _is_struct(kind) else {}  # type: ignore[arg-type]
        if part not in fields:
            raise ValueError(f"no fact is called {name!r}")
        kind = _struct_in(fields[part])


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _struct_in(kind: object) -> object:
    """Return the struct in a type such as `Windows | None`."""
    return next((each for each in getattr(kind, "__args__", ()) if _is_struct(each)), kind)
