"""What installing a release would do to a Linux machine, asked before it is installed.

There a hotpatch is for one baseline alone, as everywhere. A baseline is installed and booted; afterwards the machine is
on the line, whatever it was before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from hotmend.servicing.facts import Linux
from hotmend.servicing.install import Effect, Outcome, stranger
from hotmend.servicing.level import Level, linux_level
from hotmend.servicing.message import cause
from hotmend.servicing.products import Channel
from hotmend.servicing.releases import Calendar, Line, Release


def linux_effects(
    linux: Linux, channel: Channel, calendar: Calendar, ids: Sequence[str]
) -> tuple[tuple[Effect, ...], Level]:
    """Return what each release would do, installed one after the other, and the level after the last."""
    level, effects = linux_level(linux, channel, calendar), []
    for identity in ids:
        release = calendar.find(channel.name, identity)
        if release is None:
            effects.append(stranger(calendar, identity, channel))
            continue
        effect = _effect(release, level)
        effects.append(effect)
        if effect.outcome in {Outcome.STAYS, Outcome.RETURNS}:
            level = _after(release, level, effect)
    return tuple(effects), level


def _after(release: Release, level: Level, effect: Effect) -> Level:
    if release.kind.is_baseline:
        return Level(Line.ON, release, None, (), effect.causes)
    return dataclasses.replace(level, hotpatch=release)


def _effect(release: Release, before: Level) -> Effect:
    carried = {each.id for each in (before.baseline, before.hotpatch) if each is not None}
    if release.id in carried:
        why = cause("already-installed", "{update} is installed.", update=release.id)
        return Effect(release.id, release, Outcome.ALREADY, False, (why,))
    newest = before.hotpatch or before.baseline
    if newest is not None and (release.day, release.id) < (newest.day, newest.id):
        older = cause(
            "superseded-by",
            "{update} is not newer than {newest}, which contains it.",
            update=release.id,
            newest=newest.id,
        )
        return Effect(release.id, release, Outcome.NOT_APPLICABLE, None, (older,))
    if release.kind.is_baseline:
        why = cause("is-baseline", "{update} is a baseline; it needs a reboot.", update=release.id)
        outcome = Outcome.STAYS if before.line is Line.ON else Outcome.RETURNS
        return Effect(release.id, release, outcome, True, (why,))
    if before.line is Line.UNKNOWN:
        return Effect(release.id, release, Outcome.UNKNOWN, None, before.causes)
    if not release.kind.is_hotpatch:
        why = cause(
            "line-not-known",
            "Whether {update} ({label}) keeps a machine on the line is not known.",
            update=release.id,
            label=release.label,
        )
        return Effect(release.id, release, Outcome.UNKNOWN, release.reboot, (why,))
    if before.baseline is None or release.requires != before.baseline.id:
        why = cause(
            "needs-baseline",
            "Hotpatch {update} is only for machines that are on the line with baseline {requires}.",
            update=release.id,
            requires=release.requires or "?",
        )
        return Effect(release.id, release, Outcome.NEEDS_BASELINE, None, (why,))
    fits = cause(
        "hotpatch-of-baseline",
        "Hotpatch {update} builds on {requires}, which is what the machine has.",
        update=release.id,
        requires=release.requires,
    )
    return Effect(release.id, release, Outcome.STAYS, False, (fits,))
