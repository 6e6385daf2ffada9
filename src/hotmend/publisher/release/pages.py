"""Calendar and release notes of a channel as files beside its repository: HTML in each language, JSON, iCalendar, Atom.

They follow from the releases and the cycle, and are not signed: they are for people and their calendars. What a machine
believes comes from the releases themselves.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from typing import Final

import msgspec

from hotmend.publisher.release.plan import Cycle
from hotmend.reference.feeds import (
    NotedImage,
    NotedIssue,
    NotedStep,
    Notes,
    calendar_atom,
    calendar_html,
    calendar_icalendar,
    channel_release,
    notes_html,
)
from hotmend.reference.texts import LANGUAGES, Reader
from hotmend.repository.publish import Publisher
from hotmend.repository.releases import AnyRelease, Baseline, HotpatchRelease, KnownIssue, UnplannedBaseline
from hotmend.repository.state import PUBLIC
from hotmend.repository.tiers import Content
from hotmend.servicing.releases import CALENDAR_COLUMNS, Kind, Line, Release

FOLDER: Final = "pages"
PLANNED: Final = 4
"""Baselines of the cycle that the calendar looks ahead."""
_KINDS = {Baseline: Kind.BASELINE, HotpatchRelease: Kind.HOTPATCH, UnplannedBaseline: Kind.UNPLANNED_BASELINE}


def pages_write(publisher: Publisher, channel: str, cycle: Cycle, now: datetime) -> tuple[str, ...]:
    """Write the pages of both tiers of a channel; return the names of the files that changed.

    Raises:
        HotmendError: another publisher is at work, or a file cannot be written.
    """
    _, _, contents = publisher.contents()
    written = []
    with publisher.store.lock():
        for content in contents:
            if content.channel != channel:
                continue
            for name, data in pages_of(content, cycle, now).items():
                path = f"{PUBLIC}/{FOLDER}/{channel}/{content.tier}/{name}"
                publisher.store.write(path, data)
                written.append(path)
    return tuple(written)


def pages_of(content: Content, cycle: Cycle, now: datetime) -> dict[str, bytes]:
    """Return the pages of one tier, by file name."""
    calendar = calendar_of(content, cycle, now)
    notes = [_notes(release) for release in content.releases.values()]
    reader = Reader("en")
    pages = {
        "calendar.ics": calendar_icalendar(calendar, reader, now),
        "feed.atom": calendar_atom(calendar, reader),
        "calendar.json": msgspec.json.format(msgspec.json.encode(calendar)) + b"\n",
        "calendar.csv": _csv(calendar).encode(),
        "notes.json": msgspec.json.format(msgspec.json.encode(notes)) + b"\n",
    }
    for language in LANGUAGES:
        reader = Reader(language)
        pages[f"calendar.{language}.html"] = calendar_html(calendar, reader, now).encode()
        pages[f"notes.{language}.html"] = notes_html(content.channel, notes, reader, now).encode()
    return pages


def calendar_of(content: Content, cycle: Cycle, now: datetime) -> tuple[Release, ...]:
    """Return a tier's releases and the next planned baselines as rows of a calendar, earliest first."""
    released = sorted(content.releases.values(), key=lambda r: (r.made, r.id))
    rows = [_row(release, content) for release in released]
    last = max((r.made for r in released if isinstance(r, Baseline)), default=None)
    after = last.astimezone(UTC).date() if last is not None else now.astimezone(UTC).date()
    return (*rows, *(_planned(content.channel, day) for day in cycle.days(after, PLANNED)))


def _row(release: AnyRelease, content: Content) -> Release:
    return channel_release(
        content.channel,
        release.id,
        _KINDS[type(release)],
        release.made,
        title=release.title,
        requires="" if isinstance(release, Baseline) else release.requires,
        withdrawn=release.withdrawn.reason if release.withdrawn is not None else None,
        source=f"{content.tier} tier",
        images=_images(release),
    )


def _images(release: AnyRelease) -> dict[str, str]:
    if not isinstance(release, HotpatchRelease):
        return {}
    return {image.old_build_id: image.new_build_id for file in release.files for image in file.images}


def _planned(channel: str, day: date) -> Release:
    return Release(
        channel=channel,
        month=f"{day:%Y-%m}",
        label=f"{day:%Y.%m} B",
        kind=Kind.BASELINE,
        reboot=True,
        published=day,
        planned=True,
        id="",
        build="",
        requires="",
        line=Line.ON,
        line_basis="documented",
        confidence="high",
        source="cycle",
        note="",
    )


def _notes(release: AnyRelease) -> Notes:
    images = (
        tuple(image for file in release.files for image in file.images)
        if isinstance(release, HotpatchRelease)
        else release.images
        if isinstance(release, UnplannedBaseline)
        else ()
    )
    return Notes(
        id=release.id,
        title=release.title,
        kind=_KINDS[type(release)],
        made=release.made,
        classification=release.classification,
        urgency=release.urgency,
        requires="" if isinstance(release, Baseline) else release.requires,
        cves=release.cves,
        issues=tuple(_issue(issue) for issue in release.known_issues),
        withdrawn=release.withdrawn.reason if release.withdrawn is not None else "",
        images=tuple(
            NotedImage(
                image.package,
                image.old_version,
                image.new_version,
                image.path,
                image.old_build_id,
                image.verdict,
                image.reconstructed,
                image.reconstructible,
            )
            for image in images
        ),
        text=release.notes,
    )


def _issue(issue: KnownIssue) -> NotedIssue:
    options = tuple(
        (option.title, tuple(NotedStep(step.title, step.commands, step.reboot) for step in option.steps))
        for option in issue.options
    )
    return NotedIssue(issue.title, issue.workaround, issue.resolved_by, issue.deadline, issue.cost, options)


def _csv(calendar: tuple[Release, ...]) -> str:
    """Return the calendar in the form that `hotmend check --calendar` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*CALENDAR_COLUMNS, "images"))
    for row in calendar:
        writer.writerow(
            (
                row.channel,
                row.month,
                row.label,
                row.kind,
                {True: "yes", False: "no", None: "unknown"}[row.reboot],
                "planned" if row.planned else "released",
                row.published.isoformat() if row.published else "",
                row.id,
                row.build,
                row.requires,
                row.line,
                row.line_basis,
                row.confidence,
                row.source,
                row.note,
                " ".join(f"{old}>{new}" for old, new in row.images.items()),
            )
        )
    return text.getvalue()
