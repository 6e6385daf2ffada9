"""The update level of a machine, and whether it is on the hotpatch line.

Both come from the exact *set* of updates installed since the baseline, in whatever order, never from a build number.
Something unknown in that set is not on the line: it is unknown. A machine that left the line is not brought back by
another update of the same quarter, only by the next baseline.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from hotmend.servicing.facts import Linux, Update, Windows
from hotmend.servicing.message import Cause, cause
from hotmend.servicing.products import Channel, LineRule
from hotmend.servicing.releases import Calendar, Line, Release

_COUNTS = frozenset({"installed", "pending-reboot"})


@dataclass(frozen=True, slots=True)
class Level:
    """Where a machine is.

    Attributes:
        line: on the hotpatch line, off it, or unknown.
        baseline: the last one in effect; None: none is known.
        hotpatch: the newest one on top of it.
        pending: takes effect with the next boot.
        causes: why; never empty.
    """

    line: Line
    baseline: Release | None
    hotpatch: Release | None
    pending: tuple[Release, ...]
    causes: tuple[Cause, ...]


def windows_level(windows: Windows, channel: Channel, calendar: Calendar) -> Level:
    """Return the level of a Windows machine."""
    if windows.updates is None:
        return _unknown(cause("updates-unknown", "The update history is not known."))
    present = [update for update in windows.updates if update.state in _COUNTS]
    found = {update.kb: calendar.find(channel.name, update.kb) for update in present}
    known = sorted((release for release in found.values() if release is not None), key=_order)
    waiting = {update.kb for update in present if update.state == "pending-reboot"}
    baseline = _baseline(channel, (release for release in known if release.id not in waiting))
    pending = tuple(release for release in known if release.id in waiting)
    if baseline is None:
        return _unknown(cause("no-baseline", "No baseline of this channel is among the installed updates."), pending)
    rule = _line_rule(channel, baseline)
    since = [release for release in known if _is_since(release, baseline, rule)]
    hotpatch = next((r for r in reversed(since) if r.id not in waiting and _fits(r, baseline, rule)), None)
    unlisted = [update for update in present if found[update.kb] is None and not _outside(update, channel)]
    causes = (
        *_leaving(since, baseline, channel),
        *_gaps(windows, baseline, unlisted, [r for r in (baseline, *since) if r.id not in waiting]),
    )
    return _judged(baseline, hotpatch, pending, causes)


def _judged(
    baseline: Release, hotpatch: Release | None, pending: tuple[Release, ...], causes: tuple[Cause, ...]
) -> Level:
    """Return the level with the line that the causes leave: one that leads off beats any that is unknown."""
    if not causes:
        stays = cause(
            "on-line",
            "Every update installed since {baseline} keeps the machine on the line.",
            baseline=baseline.id,
        )
        return Level(Line.ON, baseline, hotpatch, pending, (stays,))
    off = any(each.code in _LEADS_OFF for each in causes)
    return Level(Line.OFF if off else Line.UNKNOWN, baseline, hotpatch, pending, causes)


_LEADS_OFF = frozenset({"left-line", "not-in-exact-set"})


def _unknown(why: Cause, pending: tuple[Release, ...] = ()) -> Level:
    return Level(Line.UNKNOWN, None, None, pending, (why,))


def _order(release: Release) -> tuple[date, str]:
    return release.day, release.id


def _baseline(channel: Channel, releases: Iterable[Release]) -> Release | None:
    """Return the newest baseline, or the newest release that stands for one by a line rule."""
    stands = {identity for rule in channel.line_rules for identity in rule.exactly}
    found = [release for release in releases if release.kind.is_baseline or release.id in stands]
    return max(found, key=_order, default=None)


def _line_rule(channel: Channel, baseline: Release) -> LineRule | None:
    return next((rule for rule in channel.line_rules if baseline.id in rule.exactly), None)


def _is_since(release: Release, baseline: Release, rule: LineRule | None) -> bool:
    """Say whether a release counts from this baseline on: later, or in the same month where a rule is exact."""
    if release.id == baseline.id:
        return False
    return release.day >= baseline.day or (rule is not None and release.month == baseline.month)


def fitting_bases(baseline: Release, channel: Channel) -> tuple[str, ...]:
    """Return the ids that a hotpatch may require on this baseline: its own, and those of its line rule."""
    rule = _line_rule(channel, baseline)
    return rule.exactly if rule else (baseline.id,)


def _fits(hotpatch: Release, baseline: Release, rule: LineRule | None) -> bool:
    """Say whether a hotpatch is one for this baseline."""
    bases = rule.exactly if rule else (baseline.id,)
    return hotpatch.kind.is_hotpatch and hotpatch.requires in bases


def _leaving(since: Iterable[Release], baseline: Release, channel: Channel) -> Iterable[Cause]:
    for release in since:
        leaving = _leaves(release, baseline, channel)
        if leaving is not None:
            yield leaving


def _leaves(release: Release, baseline: Release, channel: Channel) -> Cause | None:
    """Return why a release that comes on top of a baseline takes the machine off the line, or leaves it unknown."""
    if release.kind.is_hotpatch:
        return _foreign(release, baseline, _line_rule(channel, baseline))
    rule = next((each for each in channel.line_rules if each.month == release.month), None)
    if rule is not None:
        if release.id in rule.exactly:
            return None
        return cause(
            "not-in-exact-set",
            "{update} takes the machine off the line: of that month only {exactly} keep it there, and no later update"
            " is proven to bring it back before {until}.",
            update=release.id,
            exactly=rule.exactly,
            until=rule.until,
        )
    if release.line is Line.OFF:
        return cause(
            "left-line",
            "{update} ({label}) is an update of the standard line; only the next baseline leads back.",
            update=release.id,
            label=release.label,
        )
    if release.line is Line.UNKNOWN:
        return cause(
            "line-not-known",
            "Whether {update} ({label}) keeps a machine on the line is not known.",
            update=release.id,
            label=release.label,
        )
    return None


def _foreign(release: Release, baseline: Release, rule: LineRule | None) -> Cause | None:
    """Return what is wrong with a hotpatch on this baseline."""
    if not release.requires:
        return cause(
            "baseline-of-hotpatch-unknown",
            "Which baseline hotpatch {update} builds on is not known.",
            update=release.id,
        )
    if not _fits(release, baseline, rule):
        return cause(
            "hotpatch-of-other-baseline",
            "Hotpatch {update} builds on {requires}, and the baseline is {baseline}.",
            update=release.id,
            requires=release.requires,
            baseline=baseline.id,
        )
    return None


def _outside(update: Update, channel: Channel) -> bool:
    """Say whether an update is none of the operating system's own: .NET, drivers, definitions."""
    text = f"{update.title or ''} {update.classification or ''}"
    return any(word in text for word in channel.outside)


def _gaps(windows: Windows, baseline: Release, unlisted: Iterable[Update], known: Iterable[Release]) -> Iterable[Cause]:
    """Yield what the history does not tell, or tells against the build."""
    installed = next((u.installed_at for u in windows.updates or () if u.kb == baseline.id), None)
    from_when = installed.date() if installed else baseline.day
    if windows.updates_since is None or windows.updates_since.date() > from_when:
        yield cause(
            "history-incomplete", "The update history does not reach back to baseline {baseline}.", baseline=baseline.id
        )
    for update in unlisted:
        if update.installed_at is None or update.installed_at.date() >= from_when:
            yield cause(
                "update-not-in-calendar",
                "{update} is not in the calendar, and what it does is not known.",
                update=update.kb,
            )
    revisions = {release.revision for release in known}
    if windows.revision is not None and None not in revisions and windows.revision not in revisions:
        yield cause(
            "build-contradicts-history",
            "The machine's build ends in {revision}, which no update of its history gives.",
            revision=windows.revision,
        )


def linux_level(linux: Linux, channel: Channel, calendar: Calendar) -> Level:
    """Return the level of a Linux machine: its baseline, and the newest hotpatch that *every* process carries.

    A hotpatch release is carried when no process runs a build that it replaces. What is on disk does not count.
    """
    if linux.baseline is None:
        return _unknown(cause("no-baseline-recorded", "No baseline is recorded on this machine."))
    baseline = calendar.find(channel.name, linux.baseline)
    if baseline is None or not baseline.kind.is_baseline:
        return _unknown(
            cause("baseline-not-in-channel", "The channel has no baseline called {baseline}.", baseline=linux.baseline)
        )
    if linux.images is None:
        return Level(
            Line.UNKNOWN, baseline, None, (), (cause("images-unknown", "What the processes map is not known."),)
        )
    running = {image.effective_build_id for image in linux.images}
    hotpatch = None
    for release in calendar.releases(channel.name):
        if release.requires == baseline.id and release.kind.is_hotpatch and not release.planned:
            if running & release.images.keys() or None in running:
                break
            hotpatch = release
    unnamed = cause(
        "build-id-unknown",
        "Of {count} running images the build is not known.",
        count=sum(image.effective_build_id is None for image in linux.images),
    )
    return _judged(baseline, hotpatch, (), (unnamed,) if None in running else ())
