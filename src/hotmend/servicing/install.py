"""What installing an update would do, asked before it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from hotmend.servicing.facts import Update, Windows
from hotmend.servicing.level import Level, fitting_bases, windows_level
from hotmend.servicing.message import Cause, cause
from hotmend.servicing.products import Channel
from hotmend.servicing.releases import Calendar, Line, Release


class Outcome(StrEnum):
    """What would come of it."""

    STAYS = "stays-on-line"
    LEAVES = "leaves-line"
    RETURNS = "returns-to-line"
    STAYS_OFF = "stays-off-line"
    NEEDS_BASELINE = "needs-baseline"
    UNKNOWN = "unknown"
    ALREADY = "already-installed"
    NOT_APPLICABLE = "not-applicable"


HARMLESS = frozenset({Outcome.STAYS, Outcome.RETURNS, Outcome.ALREADY})
"""What may be installed without being told so; everything else is refused."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one update would do.

    Attributes:
        id: the update.
        release: None: the channel has none of that identity.
        outcome: see `Outcome`.
        reboot: whether it needs one; None: not known, which plans take for a yes.
        causes: why.
    """

    id: str
    release: Release | None
    outcome: Outcome
    reboot: bool | None
    causes: tuple[Cause, ...]


def windows_effects(
    windows: Windows, channel: Channel, calendar: Calendar, ids: Sequence[str]
) -> tuple[tuple[Effect, ...], Level]:
    """Return what each of the updates would do, installed one after the other, and the level after the last.

    Updates that could not be installed, because they need a baseline or are not for the machine, change nothing.
    """
    effects = []
    for identity in ids:
        before = windows_level(windows, channel, calendar)
        effect = _effect(windows, channel, calendar, identity, before)
        effects.append(effect)
        if effect.outcome not in {Outcome.ALREADY, Outcome.NOT_APPLICABLE, Outcome.NEEDS_BASELINE}:
            windows = _with(windows, identity)
    return tuple(effects), windows_level(windows, channel, calendar)


def _with(windows: Windows, identity: str) -> Windows:
    """Return the machine as it would be with one update more. Its build would be another, which is not known here."""
    updates = (*(windows.updates or ()), Update(identity))
    return msgspec.structs.replace(windows, updates=updates if windows.updates is not None else None, revision=None)


def _effect(windows: Windows, channel: Channel, calendar: Calendar, identity: str, before: Level) -> Effect:
    release = calendar.find(channel.name, identity)
    if release is None:
        return stranger(calendar, identity, channel)
    if any(update.kb == identity and update.state == "installed" for update in windows.updates or ()):
        return Effect(
            identity,
            release,
            Outcome.ALREADY,
            False,
            (cause("already-installed", "{update} is installed.", update=identity),),
        )
    if before.baseline is not None and release.day < before.baseline.day and release.month != before.baseline.month:
        older = cause(
            "superseded",
            "{update} is older than baseline {baseline}, which contains it.",
            update=identity,
            baseline=before.baseline.id,
        )
        return Effect(identity, release, Outcome.NOT_APPLICABLE, None, (older,))
    if release.kind.is_hotpatch:
        return _hotpatch(release, channel, before)
    after = windows_level(_with(windows, identity), channel, calendar)
    return Effect(identity, release, _change(before, after), release.reboot, _told(release, before, after))


def stranger(calendar: Calendar, identity: str, channel: Channel) -> Effect:
    """Return what is known of an update that the channel does not have: nothing, or that it is another one's."""
    elsewhere = calendar.elsewhere(identity)
    if elsewhere:
        why = cause(
            "other-channel",
            "{update} is a release of {channels}, not of {channel}.",
            update=identity,
            channels=elsewhere,
            channel=channel.name,
        )
        return Effect(identity, None, Outcome.NOT_APPLICABLE, None, (why,))
    why = cause(
        "update-not-in-calendar", "{update} is not in the calendar, and what it does is not known.", update=identity
    )
    return Effect(identity, None, Outcome.UNKNOWN, None, (why,))


def _hotpatch(release: Release, channel: Channel, before: Level) -> Effect:
    """Say what a hotpatch would do: it is for machines on the line and its own baseline alone."""
    bases = fitting_bases(before.baseline, channel) if before.baseline else ()
    if before.line is Line.UNKNOWN:
        return Effect(release.id, release, Outcome.UNKNOWN, None, before.causes)
    if before.line is Line.OFF or release.requires not in bases:
        why = cause(
            "needs-baseline",
            "Hotpatch {update} is only for machines that are on the line with baseline {requires}.",
            update=release.id,
            requires=release.requires or "?",
        )
        return Effect(release.id, release, Outcome.NEEDS_BASELINE, None, (why, *before.causes))
    why = cause(
        "hotpatch-of-baseline",
        "Hotpatch {update} builds on {requires}, which is what the machine has.",
        update=release.id,
        requires=release.requires,
    )
    return Effect(release.id, release, Outcome.STAYS, release.reboot, (why,))


def _change(before: Level, after: Level) -> Outcome:
    match before.line, after.line:
        case _, Line.UNKNOWN:
            return Outcome.UNKNOWN
        case Line.ON, Line.ON:
            return Outcome.STAYS
        case _, Line.ON:
            return Outcome.RETURNS
        case Line.OFF, Line.OFF:
            return Outcome.STAYS_OFF
    return Outcome.LEAVES


def _told(release: Release, before: Level, after: Level) -> tuple[Cause, ...]:
    """Return the causes that are new with this update, and all where there is none."""
    new = tuple(each for each in after.causes if each not in before.causes)
    if release.kind.is_baseline:
        new = (cause("is-baseline", "{update} is a baseline; it needs a reboot.", update=release.id), *new)
    return new or after.causes
