"""Known issues in the one form that pages show: those of the rules, and those of the releases of channels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import msgspec
from sqlalchemy.engine import RowMapping

from hotmend.servicing.known_issues import Concern, KnownIssue, Option
from hotmend.wire.report import Issue


class Step(msgspec.Struct, frozen=True):
    """One step of a workaround; `proven`: to be done on the machine that is meant, if one is (None: not known)."""

    title: str
    commands: tuple[str, ...] = ()
    reboot: bool = False
    proven: bool | None = None


class Workaround(msgspec.Struct, frozen=True):
    """One complete workaround; of several, one is enough."""

    title: str
    steps: tuple[Step, ...] = ()


class Published(msgspec.Struct, frozen=True):
    """What the server keeps of an issue of a release; fields are as `repository.releases` has them."""

    title: str
    since: datetime
    workaround: str = ""
    resolved_by: str = ""
    options: tuple[Workaround, ...] = ()
    deadline: date | None = None
    cost: str = ""
    affected: Any = None


@dataclass(frozen=True, slots=True)
class OfRelease:
    """The release whose issue something is.

    Attributes:
        id: of it.
        tiers: channel and tier of each that offers it; none: the server follows no such channel.
        since: when the issue became known; None: only machines speak of it.
        workaround: in words; "" for none.
        resolved_by: release that ends it; "": none does yet.
        withdrawn: no tier lets it stand.
        judged: machines that follow the channel say whether it concerns them. They judge what stands: all issues of
            hotpatches, and of what else there is those with a rule.
    """

    id: str
    tiers: tuple[tuple[str, str], ...] = ()
    since: datetime | None = None
    workaround: str = ""
    resolved_by: str = ""
    withdrawn: bool = False
    judged: bool = True


@dataclass(frozen=True, slots=True)
class Teller:
    """The machine in whose words something is said: id and name."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A known issue.

    Attributes:
        id: for programs.
        title, cost: what goes wrong, and what it costs to do nothing ("": not said).
        deadline: a workaround must be complete before this day.
        options: workarounds.
        since, until: days between which one of the rules exists.
        release: whose issue it is; its texts are English, as published.
        teller: who says so, where the server follows no channel that has it; nobody else vouches for the title.
    """

    id: str
    title: str
    cost: str
    deadline: date | None
    options: tuple[Workaround, ...]
    since: date | None = None
    until: date | None = None
    release: OfRelease | None = None
    teller: Teller | None = None

    @property
    def english(self) -> bool:
        """Whether its texts are English in any language, because no catalogue has them."""
        return self.release is not None

    def late(self, today: date) -> bool:
        """Return whether it is too late for a machine that is not done, whatever it said when it spoke last."""
        return self.deadline is not None and today >= self.deadline


@dataclass(frozen=True, slots=True)
class OfMachine:
    """A known issue, as it concerns one machine.

    Attributes:
        issue: which; its steps say whether they are proven.
        affected: True, or None: cannot be told.
        done: one of its workarounds is complete.
        overdue: none is, and the deadline is over.
    """

    issue: Shown
    affected: bool | None
    done: bool
    overdue: bool


def of_rules(issue: KnownIssue) -> Shown:
    """Return an issue of the rules."""
    options = tuple(_option(each, (None,) * len(each.steps)) for each in issue.options)
    return Shown(issue.id, issue.title, issue.cost, issue.deadline, options, issue.since, issue.until)


def of_releases(rows: Iterable[RowMapping]) -> list[Shown]:
    """Return the issues of releases, in the order of the rows; one that several tiers offer comes once.

    Args:
        rows: of the table of releases.
    """
    found: dict[str, Shown] = {}
    for row in rows:
        at, stands = (row["channel"], row["tier"]), row["withdrawn"] is None
        for number, given in enumerate(row["issues"]):
            identity = f"{row['id']}/{number}"
            one = msgspec.convert(given, Published)
            release = OfRelease(
                row["id"],
                (at,),
                one.since,
                one.workaround,
                one.resolved_by,
                not stands,
                stands and (row["kind"] == "hotpatch" or one.affected is not None),
            )
            if (before := found.get(identity)) is not None and before.release is not None:
                found[identity] = replace(before, release=_both(before.release, release))
            else:
                found[identity] = Shown(identity, one.title, one.cost, one.deadline, one.options, release=release)
    return list(found.values())


def _both(one: OfRelease, other: OfRelease) -> OfRelease:
    tiers = tuple(sorted({*one.tiers, *other.tiers}))
    return replace(one, tiers=tiers, withdrawn=one.withdrawn and other.withdrawn, judged=one.judged or other.judged)


def of_report(issue: Issue) -> Shown:
    """Return an issue of a release as a machine reports it, with what is proven there."""
    options = tuple(
        Workaround(one.title, tuple(Step(each.title, each.commands, each.reboot, each.proven) for each in one.steps))
        for one in issue.options
    )
    release = OfRelease(issue.id.partition("/")[0])
    return Shown(issue.id, issue.title, issue.cost, issue.deadline, options, release=release)


def of_teller(told: RowMapping) -> Shown:
    """Return an issue of a release that no channel has which the server follows: its title alone, and who tells it.

    What to do, until when and at what cost is left to the page of each machine that says so: one machine must not tell
    all who look at the fleet what to type.

    Args:
        told: of `store.told`.
    """
    identity, teller = told["issue"], Teller(told["id"], told["name"])
    release = OfRelease(identity.partition("/")[0])
    return Shown(identity, told["title"] or identity, "", None, (), release=release, teller=teller)


def of_machine(concerns: Iterable[Concern], reported: Iterable[Issue], today: date) -> list[OfMachine]:
    """Return how issues concern one machine: by its facts, and by its own report."""
    by_facts = []
    for each in concerns:
        options = tuple(_option(progress.option, progress.proven) for progress in each.options)
        by_facts.append(
            OfMachine(replace(of_rules(each.issue), options=options), each.affected, each.done, each.overdue)
        )
    by_report = []
    for one in reported:
        if one.affected is not False:
            shown = of_report(one)
            overdue = not one.done and (one.overdue or shown.late(today))
            by_report.append(OfMachine(shown, one.affected, one.done, overdue))
    return by_facts + by_report


def _option(option: Option, proven: tuple[bool | None, ...]) -> Workaround:
    steps = (
        Step(each.title, each.commands, each.reboot, done) for each, done in zip(option.steps, proven, strict=True)
    )
    return Workaround(option.title, tuple(steps))
