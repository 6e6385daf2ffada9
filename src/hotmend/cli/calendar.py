"""`hotmend calendar`: what was and will be released, with source and confidence, in the forms others read."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path

import click
import msgspec

from hotmend.cli.check import calendar_files
from hotmend.cli.output import ExitCode, print_json, print_table
from hotmend.model.errors import UsageError
from hotmend.reference.shipped import program
from hotmend.reference.texts import LANGUAGES, Reader, language_of
from hotmend.servicing.releases import Release


class CalendarShape(msgspec.Struct, frozen=True):
    """One release."""

    channel: str
    month: str
    label: str
    kind: str
    id: str
    build: str
    day: date
    published: date | None
    planned: bool
    reboot: bool | None
    line: str
    line_basis: str
    requires: str
    confidence: str
    source: str
    note: str


@click.command("calendar")
@click.option("--channel", "channels", metavar="NAME", multiple=True, help="Only this channel; can be repeated.")
@click.option("--since", metavar="DAY", help="Only releases from this day on.")
@click.option("--format", "form", type=click.Choice(("table", "html", "icalendar", "atom")), default="table")
@click.option(
    "--calendar",
    "calendars",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="A CSV file with releases of further channels; can be repeated.",
)
@click.option("--language", type=click.Choice(LANGUAGES), help="Of the texts (default: that of the locale).")
@click.option("--json", "as_json", is_flag=True, help="One object per release.")
def calendar_command(
    channels: tuple[str, ...],
    since: str | None,
    form: str,
    calendars: tuple[Path, ...],
    language: str | None,
    as_json: bool,
) -> int:
    """Show the release calendar: baselines, hotpatches and other updates, each with its source and confidence."""
    reader = Reader(language or language_of())
    calendar = program(calendar_files(calendars)).calendar
    for name in channels:
        if name not in calendar.channels:
            raise UsageError(
                "no channel is called '{name}'", "there are {names}", name=name, names=", ".join(calendar.channels)
            )
    first = _day(since)
    releases = sorted(
        (each for name in channels or calendar.channels for each in calendar.releases(name) if each.day >= first),
        key=lambda each: (each.day, each.channel, each.id),
    )
    if as_json:
        for release in releases:
            print_json(_shape(release))
    else:
        _print(releases, form, reader)
    return ExitCode.DONE if releases else ExitCode.NOTHING_TO_DO


def _day(text: str | None) -> date:
    try:
        return date.fromisoformat(text) if text else date.min
    except ValueError:
        raise UsageError(
            "{option}: not a day: {text}", "for example {example}", option="--since", text=text, example="2025-10-01"
        ) from None


def _print(releases: list[Release], form: str, reader: Reader) -> None:
    now = datetime.now(UTC)
    if form != "table":
        from hotmend.reference.feeds import calendar_atom, calendar_html, calendar_icalendar

    match form:
        case "html":
            click.echo(calendar_html(releases, reader, now))
        case "icalendar":
            sys.stdout.buffer.write(calendar_icalendar(releases, reader, now))
        case "atom":
            sys.stdout.buffer.write(calendar_atom(releases, reader))
        case _:
            say = reader.text
            columns = (
                say("day"),
                say("channel"),
                say("release"),
                say("kind"),
                say("reboot"),
                say("hotpatch line"),
                say("needs baseline"),
                say("confidence"),
            )
            print_table("", columns, _rows(releases, reader))


def _rows(releases: Iterable[Release], reader: Reader) -> Iterable[tuple[str, ...]]:
    say = reader.text
    reboots = {True: say("yes"), False: say("no"), None: say("not known")}
    for each in releases:
        day = each.day.isoformat() + (f" ({say('planned')})" if each.planned else "")
        yield (
            day,
            each.channel,
            f"{each.label} {each.id}",
            say(each.kind),
            reboots[each.reboot],
            say(each.line),
            each.requires,
            say(each.confidence),
        )


def _shape(release: Release) -> CalendarShape:
    fields = (name for name in CalendarShape.__struct_fields__)
    return CalendarShape(**{name: getattr(release, name) for name in fields})
