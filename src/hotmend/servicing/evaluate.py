"""All questions about one machine, answered together. One function, from facts and the program to answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hotmend.model.errors import InputError
from hotmend.servicing.avoided import Avoided, linux_avoided, windows_avoided
from hotmend.servicing.eligibility import Eligibility, eligibility
from hotmend.servicing.enrollment import Enrollment, State, enrollment
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.forecast import Forecast, Standing, linux_forecast, windows_forecast
from hotmend.servicing.install import Effect, windows_effects
from hotmend.servicing.install_linux import linux_effects
from hotmend.servicing.known_issues import Concern, KnownIssue, Subject, concerns
from hotmend.servicing.level import Level, linux_level, windows_level
from hotmend.servicing.prerequisites import CHECKS
from hotmend.servicing.products import Catalogue, Channel
from hotmend.servicing.releases import Calendar
from hotmend.servicing.remedies import Remedy


@dataclass(frozen=True, slots=True)
class Program:
    """Everything that is known beside the machines.

    Raises:
        InputError: a product needs a prerequisite that no rule knows.
    """

    catalogue: Catalogue
    calendar: Calendar
    issues: tuple[KnownIssue, ...]
    remedies: Mapping[str, Remedy]

    def __post_init__(self) -> None:
        """Check what one part says of another."""
        for product in self.catalogue.product:
            unknown = [name for name in product.needs if name not in CHECKS]
            if unknown:
                raise InputError(
                    "product {product}: no prerequisite is called '{name}'", product=product.id, name=unknown[0]
                )


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of one machine at one moment.

    Attributes:
        eligibility, enrollment: may it be hot-patched, and is it enabled?
        level: where it is; None: its product has no channel.
        concerns: known issues that concern it, or may.
        forecast, avoided: None where there is no channel.
    """

    eligibility: Eligibility
    enrollment: Enrollment
    level: Level | None
    concerns: tuple[Concern, ...]
    forecast: Forecast | None
    avoided: Avoided | None


def evaluate(facts: MachineFacts, program: Program, now: datetime) -> Answers:
    """Return the answers for one machine at an aware moment."""
    eligible = eligibility(facts, program.catalogue, program.calendar, now)
    enrolled = enrollment(facts, eligible, now)
    channel = channel_of(facts, program, eligible)
    level = _level(facts, channel, program.calendar)
    installed = _installed(facts)
    subject = Subject(facts, eligible.product, level, program.calendar, installed)
    concerned = concerns(program.issues, subject, now.date())
    if channel is None or level is None:
        return Answers(eligible, enrolled, level, concerned, None, None)
    standing = Standing(
        level=level,
        installed=installed or frozenset(),
        hotpatched=eligible.eligible is True and enrolled.state is State.ENABLED,
        reboot_pending=facts.reboot_pending is True or bool(level.pending),
        today=now.date(),
    )
    if facts.windows is not None:
        forecast = windows_forecast(standing, channel, program.calendar, concerned)
        avoided = windows_avoided(facts.windows, channel, program.calendar)
    else:
        assert facts.linux is not None  # noqa: S101 - facts_decode lets nothing else pass
        forecast = linux_forecast(facts.linux, standing, channel, program.calendar)
        avoided = linux_avoided(facts.linux)
    return Answers(eligible, enrolled, level, concerned, forecast, avoided)


def effects(
    facts: MachineFacts, program: Program, ids: Sequence[str], now: datetime
) -> tuple[tuple[Effect, ...], Level | None]:
    """Return what installing updates would do, in this order, and the level afterwards.

    Raises:
        InputError: the machine's product is not known, or has no channel.
    """
    channel = channel_of(facts, program, eligibility(facts, program.catalogue, program.calendar, now))
    if channel is None:
        raise InputError(
            "what an update would do can be told of machines alone whose product has a channel",
            "hotmend check without --if-installed says which product the machine is, or what is missing to tell",
        )
    if facts.windows is not None:
        return windows_effects(facts.windows, channel, program.calendar, ids)
    assert facts.linux is not None  # noqa: S101 - facts_decode lets nothing else pass
    return linux_effects(facts.linux, channel, program.calendar, ids)


def channel_of(facts: MachineFacts, program: Program, eligible: Eligibility) -> Channel | None:
    """Return the channel of a machine's product; None where it has none, or is of another platform."""
    channel = program.catalogue.channel_of(eligible.product) if eligible.product else None
    platform = "windows" if facts.windows is not None else "linux"
    return channel if channel is not None and channel.platform == platform else None


def _level(facts: MachineFacts, channel: Channel | None, calendar: Calendar) -> Level | None:
    if channel is None:
        return None
    if facts.windows is not None:
        return windows_level(facts.windows, channel, calendar)
    return linux_level(facts.linux, channel, calendar) if facts.linux is not None else None


def _installed(facts: MachineFacts) -> frozenset[str] | None:
    """Return what counts as installed; None where nobody knows."""
    if facts.windows is None or facts.windows.updates is None:
        return None
    return frozenset(u.kb for u in facts.windows.updates if u.state in {"installed", "pending-reboot"})
