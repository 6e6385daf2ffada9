"""Calendar and release notes as others read them: iCalendar, Atom, HTML. The libraries for them are used here alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from feedgen.feed import FeedGenerator
from icalendar import Calendar as ICalendar
from icalendar import Event
from jinja2 import Environment, PackageLoader, StrictUndefined

from hotmend import __version__
from hotmend.reference.texts import Reader
from hotmend.servicing.releases import Kind, Line, Release

_PRODUCT = f"-//hotmend//{__version__}//EN"


def release_title(release: Release, reader: Reader) -> str:
    """Return one line about a release."""
    planned = f" ({reader.text('planned')})" if release.planned else ""
    return f"{release.channel} {release.label}: {reader.text(release.kind)} {release.id}".rstrip() + planned


def release_text(release: Release, reader: Reader) -> str:
    """Return all that is known of a release."""
    say = reader.text
    reboot = {True: say("yes"), False: say("no"), None: say("not known")}[release.reboot]
    lines = [
        f"{say('reboot')}: {reboot}",
        f"{say('hotpatch line')}: {say(release.line)}",
        f"{say('needs baseline')}: {release.requires}" if release.requires else "",
        f"{say('build')}: {release.build}" if release.build else "",
        f"{say('confidence')}: {say(release.confidence)}",
        f"{say('source')}: {release.source}",
        release.note,
    ]
    return "\n".join(line for line in lines if line)


def _identity(release: Release) -> str:
    """Return an id; that of a release in the cycle stays when it is published and gets its number."""
    number = "" if release.label.endswith(" B") else release.id
    name = f"{release.channel}/{release.label}/{release.kind}/{number}"
    return "".join(letter if letter.isalnum() else "-" for letter in name).lower()


def channel_release(
    channel: str,
    identity: str,
    kind: Kind,
    made: datetime,
    *,
    title: str,
    requires: str,
    withdrawn: str | None,
    source: str,
    images: Mapping[str, str] = {},
) -> Release:
    """Return a signed release of a channel as a row of a calendar."""
    day = made.astimezone(UTC).date()
    return Release(
        channel=channel,
        month=f"{day:%Y-%m}",
        label=f"{day:%Y.%m} B" if kind is Kind.BASELINE else f"{day:%Y.%m}",
        kind=kind,
        # An unplanned baseline is packages to install; what has to be restarted for them depends on the machine.
        reboot={Kind.BASELINE: True, Kind.HOTPATCH: False}.get(kind),
        published=day,
        planned=False,
        id=identity,
        build="",
        requires=requires,
        line=Line.ON,
        line_basis="documented",
        confidence="high",
        source=source,
        note="; ".join(part for part in (title, withdrawn and f"withdrawn: {withdrawn}") if part),
        images=images,
    )


@dataclass(frozen=True, slots=True)
class Span:
    """Something else that takes place.

    Attributes:
        id: of it, the same each time.
        title, text: for people.
        start, end: days, moments with a zone, or wall-clock times without one; `end` is not in it.
        yearly: every year again.
    """

    id: str
    title: str
    text: str
    start: date | datetime
    end: date | datetime
    yearly: bool = False


def calendar_icalendar(
    releases: Sequence[Release], reader: Reader, made: datetime, spans: Sequence[Span] = ()
) -> bytes:
    """Return releases as an iCalendar of whole days (RFC 5545), and what else takes place.

    Args:
        releases: of the calendar.
        reader: whose language it is in.
        made: the moment of making it.
        spans: what else.
    """
    calendar = ICalendar()
    calendar.add("prodid", _PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add("x-wr-calname", reader.text("Hotpatch calendar"))
    for release in releases:
        event = Event()
        event.add("uid", f"{_identity(release)}@hotmend")
        event.add("dtstamp", made.astimezone(UTC))
        event.add("dtstart", release.day)
        event.add("dtend", release.day + timedelta(days=1))
        event.add("summary", release_title(release, reader))
        event.add("description", release_text(release, reader))
        event.add("categories", [str(release.kind)])
        event.add("status", "TENTATIVE" if release.planned else "CONFIRMED")
        event.add("transp", "TRANSPARENT")
        calendar.add_component(event)
    for span in spans:
        event = Event()
        event.add("uid", f"{span.id}@hotmend")
        event.add("dtstamp", made.astimezone(UTC))
        event.add("dtstart", span.start)
        event.add("dtend", span.end)
        event.add("summary", span.title)
        if span.text:
            event.add("description", span.text)
        if span.yearly:
            event.add("rrule", {"freq": "yearly"})
        event.add("transp", "TRANSPARENT")
        calendar.add_component(event)
    return bytes(calendar.to_ical())


def calendar_atom(releases: Sequence[Release], reader: Reader) -> bytes:
    """Return what is published as an Atom feed (RFC 4287), newest first; its dates are those of the releases."""
    releases = [release for release in releases if not release.planned]
    feed = FeedGenerator()
    feed.id("urn:hotmend:calendar")
    feed.title(reader.text("Hotpatch calendar"))
    feed.language(reader.language)
    feed.author({"name": "hotmend"})
    feed.generator("hotmend", __version__)
    moments = [_moment(release) for release in releases]
    feed.updated(max(moments, default=datetime(2022, 3, 8, tzinfo=UTC)))
    for release in sorted(releases, key=lambda each: each.day, reverse=True):
        entry = feed.add_entry(order="append")
        entry.id(f"urn:hotmend:release:{_identity(release)}")
        entry.title(release_title(release, reader))
        entry.content(release_text(release, reader), type="text")
        entry.updated(_moment(release))
        entry.published(_moment(release))
        if release.source.startswith("https://"):
            entry.link(href=release.source.split(" ", maxsplit=1)[0], rel="related")
    return bytes(feed.atom_str(pretty=True))


def _moment(release: Release) -> datetime:
    return datetime.combine(release.day, time(), UTC)


def calendar_html(releases: Sequence[Release], reader: Reader, made: datetime) -> str:
    """Return releases as one HTML page without scripts and without anything from elsewhere."""
    channels = sorted({release.channel for release in releases})
    return (
        _templates()
        .get_template("calendar.html.j2")
        .render(
            say=reader.text,
            day=reader.day,
            language=reader.language,
            made=reader.moment(made),
            channels=[(name, [each for each in reversed(releases) if each.channel == name]) for name in channels],
        )
    )


@dataclass(frozen=True, slots=True)
class NotedImage:
    """One image of a release: the build it applies to, verdict, and functions that came out in the proof, of all."""

    package: str
    old_version: str
    new_version: str
    path: str
    old_build_id: str
    verdict: str
    reconstructed: int
    reconstructible: int


@dataclass(frozen=True, slots=True)
class NotedStep:
    """One step of a workaround: what to do, exactly how, and whether it is a reboot."""

    title: str
    commands: tuple[str, ...]
    reboot: bool


@dataclass(frozen=True, slots=True)
class NotedIssue:
    """A known issue of a release.

    Attributes:
        title, workaround, cost: for people.
        resolved_by: the release that ends it, "" where none does.
        deadline: a workaround must be complete before this day.
        options: workarounds with steps: title and steps of each.
    """

    title: str
    workaround: str
    resolved_by: str
    deadline: date | None
    cost: str
    options: tuple[tuple[str, tuple[NotedStep, ...]], ...]


@dataclass(frozen=True, slots=True)
class Notes:
    """The notes of one release.

    Attributes:
        id, title, kind, classification, urgency, requires: as the release has them.
        made: when.
        cves: that it fixes.
        issues: known ones.
        withdrawn: the reason, "" for a release that stands.
        images: all of them.
        text: for people.
    """

    id: str
    title: str
    kind: str
    made: datetime
    classification: str
    urgency: str
    requires: str
    cves: tuple[str, ...]
    issues: tuple[NotedIssue, ...]
    withdrawn: str
    images: tuple[NotedImage, ...]
    text: str


def notes_html(channel: str, notes: Sequence[Notes], reader: Reader, made: datetime) -> str:
    """Return release notes as one HTML page, newest first, each with its id as anchor."""
    return (
        _templates()
        .get_template("notes.html.j2")
        .render(
            say=reader.text,
            moment=reader.moment,
            day=reader.day,
            language=reader.language,
            channel=channel,
            notes=sorted(notes, key=lambda note: (note.made, note.id), reverse=True),
            made=reader.moment(made),
        )
    )


def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("hotmend.reference", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
