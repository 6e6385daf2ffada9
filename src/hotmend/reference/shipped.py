"""The data files that come with hotmend, read once."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from hotmend.servicing.evaluate import Program
from hotmend.servicing.known_issues import issues_parse
from hotmend.servicing.products import catalogue_parse
from hotmend.servicing.releases import Calendar, Release, calendar_rows
from hotmend.servicing.remedies import remedies_parse

SURVEY = "survey-{}.jsonl.zst"
"""The results of a survey of a release of Debian, by its codename, as `hotmend survey --compact` writes them."""

CALENDARS = ("first.csv", "windows.csv")


def data_text(name: str) -> str:
    """Return the text of a data file."""
    return (files("hotmend.reference") / "data" / name).read_text("utf-8")


@cache
def shipped_releases() -> tuple[Release, ...]:
    """Return all releases of the calendar that comes with hotmend."""
    return tuple(row for name in CALENDARS for row in calendar_rows(data_text(name), name))


def program(more: tuple[Release, ...] = ()) -> Program:
    """Return the program as shipped, with releases of further channels."""
    return Program(
        catalogue=catalogue_parse(data_text("products.toml"), "products.toml"),
        calendar=Calendar((*shipped_releases(), *more)),
        issues=issues_parse(data_text("known_issues.toml"), "known_issues.toml"),
        remedies=remedies_parse(data_text("remedies.toml"), "remedies.toml"),
    )


def shipped_survey(codename: str) -> bytes | None:
    """Return the results of the survey of a release, where one comes with hotmend."""
    file = files("hotmend.reference") / "data" / SURVEY.format(codename)
    return file.read_bytes() if codename.isalnum() and file.is_file() else None
