"""One machine as its page shows it: its report, what the rules say of its facts, what is offered, what was done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.machines import fleet, store
from hotmend.server.machines.judging import program
from hotmend.server.problem import not_found
from hotmend.servicing.evaluate import Answers, evaluate
from hotmend.servicing.facts import MachineFacts, Offer
from hotmend.servicing.facts_json import facts_decode
from hotmend.servicing.install import Effect
from hotmend.servicing.maintenance import Policy
from hotmend.servicing.offered import line_channel, offered_effects
from hotmend.servicing.selection import Choice, Deed, choose
from hotmend.wire.report import Report

ACTIONS_MAX: Final = 1000


@dataclass(frozen=True, slots=True)
class Details:
    """One machine.

    Attributes:
        row: of the database.
        tags: name to value.
        report: the last one; None: none yet.
        facts, answers: where facts are known; what the rules say of them now.
        found: vulnerabilities in its processes.
    """

    row: RowMapping
    tags: dict[str, str]
    report: Report | None
    facts: MachineFacts | None
    answers: Answers | None
    found: list[RowMapping]

    @property
    def has_agent(self) -> bool:
        """Whether it can be told to do something."""
        return self.row["public_key"] is not None

    @property
    def in_channel(self) -> bool:
        """Whether its report shows that it follows a channel, and so may know of issues of releases."""
        report = self.report
        return report is not None and bool(report.level or report.issues or report.line != "unknown")

    @property
    def assessed_at(self) -> datetime | None:
        """When it looked for updates last, as far as is known."""
        at: datetime | None = self.row["looked_at"] or self.row["reported_at"]
        return self.facts.assessed_at if self.facts is not None else at


@dataclass(frozen=True, slots=True)
class Offered:
    """An update that waits.

    Attributes:
        offer: it.
        choice: what the policy does with it.
        effect: what it would do to the line; None: nothing, or not known.
    """

    offer: Offer
    choice: Choice
    effect: Effect | None


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in the update history.

    Attributes:
        at: when; None: not known.
        kind: `update`, `hotpatch`, or an action's.
        what: update, or updates of the action.
        state: that it came to.
        detail: more about it.
        action: id of the action; "" for none.
    """

    at: datetime | None
    kind: str
    what: str
    state: str
    detail: str
    action: str = ""


def load(connection: Connection, identity: str, now: datetime) -> Details:
    """Return one machine.

    Raises:
        Problem: there is none.
    """
    row = store.machine(connection, identity)
    if row is None:
        raise not_found("machine")
    body = store.report_body(connection, identity)
    kept = fleet.facts_of(connection, identity)
    facts = facts_decode(kept["body"]) if kept is not None else None
    return Details(
        row,
        store.tags_of(connection, [identity])[identity],
        msgspec.json.decode(body, type=Report) if body is not None else None,
        facts,
        evaluate(facts, program(), now) if facts is not None else None,
        store.findings_of(connection, identity),
    )


def offered(details: Details, policy: Policy, now: datetime) -> list[Offered]:
    """Return what waits for a machine, and what a policy does with each."""
    if details.facts is not None and details.facts.offered is not None:
        offers: Sequence[Offer] = details.facts.offered
        effects = offered_effects(details.facts, program(), offers, now)
    else:
        offers = [Offer(each) for each in details.report.waiting] if details.report is not None else []
        effects = (None,) * len(offers)
    return [Offered(offer, choose(offer, policy), effect) for offer, effect in zip(offers, effects, strict=True)]


def selection(classes: Sequence[str], include: str, exclude: str, restart: bool) -> Policy:
    """Return the policy of an installation by hand: classes and masks, separated by blanks; excludes win.

    Without a class every update is meant that is not excluded.
    """
    masks = tuple(include.split()[:100])
    return Policy(
        mode="automatic",
        classifications=tuple(classes),
        include=masks or (() if classes else ("*",)),
        exclude=tuple(exclude.split()[:100]),
        reboot="if-required" if restart else "never",
    )


def chosen(offers: Sequence[Offered]) -> list[str]:
    """Return the ids of the updates that would be installed."""
    return [each.offer.id for each in offers if each.choice.deed is Deed.INSTALL]


def history(connection: Connection, details: Details, now: datetime) -> list[Entry]:
    """Return what was installed and done on a machine, newest first; what has no time comes last."""
    found = [*_installed(details, now), *_acted(connection, details.row["id"])]
    known = sorted((each for each in found if each.at is not None), key=_when, reverse=True)
    return [*known, *(each for each in found if each.at is None)]


def _when(entry: Entry) -> datetime:
    assert entry.at is not None  # noqa: S101 - the caller sorts these alone
    return entry.at


def _installed(details: Details, now: datetime) -> Iterator[Entry]:
    facts = details.facts
    if facts is None:
        return
    if facts.windows is not None:
        channel = line_channel(facts, program(), now)
        for update in facts.windows.updates or ():
            release = program().calendar.find(channel.name, update.kb) if channel is not None else None
            hotpatch = release.kind.is_hotpatch if release else "hotpatch" in (update.title or "").lower()
            told = " · ".join(filter(None, (update.title, update.classification)))
            yield Entry(update.installed_at, "hotpatch" if hotpatch else "update", update.kb, update.state, told)
    if facts.linux is not None:
        for each in facts.linux.hotpatches or ():
            units = ", ".join(each.units or ())
            yield Entry(each.applied_at, "hotpatch", each.id, "in force" if each.active else "taken back", units)


def _acted(connection: Connection, identity: str) -> Iterator[Entry]:
    for row in store.actions_of(connection, identity, ACTIONS_MAX):
        yield Entry(row["changed_at"], row["kind"], ", ".join(row["updates"]), row["state"], row["detail"], row["id"])
