"""The calendar: its rows, what is refused, and the forms in which others read it."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from icalendar import Calendar as ICalendar

from hotmend.cli.main import run
from hotmend.model.errors import InputError
from hotmend.reference.feeds import calendar_atom, calendar_html, calendar_icalendar
from hotmend.reference.shipped import data_text, shipped_releases
from hotmend.reference.texts import Reader
from hotmend.servicing import releases as module
from hotmend.servicing.releases import (
    Calendar,
    Kind,
    Line,
    calendar_rows,
    month_of,
    quarter_end,
    second_tuesday,
)
from tests.servicing.machines import PROGRAM

MADE = datetime(2026, 5, 20, 8, tzinfo=UTC)
CALENDAR = PROGRAM.calendar
HEAD = (
    "product,month,label,type,restart_required,status,release_date,kb,build,requires_baseline_kb,hotpatch_line,"
    "hotpatch_line_basis,confidence,source,note"
)
ROW = "Debian 12,2026-10,2026.10 B,baseline,yes,released,2026-10-14,one,1.2.3,zero,on,documented,high,manifest,note"


def _rows(*rows: str, head: str = HEAD) -> tuple[module.Release, ...]:
    return calendar_rows("\n".join([head, *rows]) + "\n")


def test_the_first_hotpatch_has_its_row() -> None:
    (first,) = [each for each in CALENDAR.releases("Windows Server 2022 Azure Edition") if each.month == "2022-03"]
    assert (first.day, first.kind, first.confidence) == (date(2022, 3, 8), Kind.HOTPATCH, "medium")
    assert min(each.day for each in shipped_releases()) == first.day


def test_every_row_of_the_file_is_there_with_its_confidence_and_source() -> None:
    rows = list(csv.DictReader(io.StringIO(data_text("windows.csv"))))
    found = [each for each in shipped_releases() if each.month != "2022-03"]
    assert len(rows) == len(found) == 141
    for row, release in zip(rows, found, strict=True):
        assert (release.channel, release.label, release.id) == (row["product"], row["label"], row["kb"])
        assert (release.kind, release.confidence) == (row["type"], row["confidence"])
        assert (release.source, release.note) == (row["source"], row["note"])
        assert release.line == row["hotpatch_line"]
        assert release.source
    assert sum(each.confidence == "low" for each in found) == 9


def test_a_row_says_all_that_it_has() -> None:
    (found,) = _rows(ROW + ",aa>bb cc>dd", head=HEAD + ",images")
    assert found == module.Release(
        channel="Debian 12",
        month="2026-10",
        label="2026.10 B",
        kind=Kind.BASELINE,
        reboot=True,
        published=date(2026, 10, 14),
        planned=False,
        id="one",
        build="1.2.3",
        requires="zero",
        line=Line.ON,
        line_basis="documented",
        confidence="high",
        source="manifest",
        note="note",
        images={"aa": "bb", "cc": "dd"},
    )
    assert found.images == {"aa": "bb", "cc": "dd"}
    assert (found.day, found.revision) == (date(2026, 10, 14), 3)
    (plain,) = _rows(ROW.replace("released,2026-10-14", "planned,").replace("1.2.3", "").replace("yes", "unknown"))
    assert (plain.day, plain.revision, plain.planned, plain.published) == (date(2026, 10, 13), None, True, None)
    assert (plain.reboot, plain.images) == (None, {})
    for word in ("high", "medium", "low"):
        (sure,) = _rows(ROW.replace("high", word))
        assert sure.confidence == word
    (no,) = _rows(ROW.replace("yes", "no"))
    assert no.reboot is False


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (ROW.replace("high", "sure"), "line 2: confidence 'sure'"),
        (ROW.replace("released", "soon"), "line 2: status 'soon'"),
        (ROW.replace("baseline", "basis"), "line 2: 'basis'"),
        (ROW.replace("yes", "perhaps"), "line 2: 'perhaps'"),
        (ROW.replace("2026-10-14", "14.10.2026"), "line 2: Invalid isoformat"),
        (ROW.replace("2026-10,", "2026-13,"), "line 2: month must be"),
        (ROW.replace("2026-10,", "October,"), "line 2: invalid literal"),
        (ROW.replace(",on,", ",in,"), "line 2: 'in'"),
        ("Debian 12,2026-10", "line 2: "),
    ],
)
def test_a_row_that_does_not_fit_is_refused(row: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        _rows(row)
    assert str(caught.value).startswith("calendar: " + words)


def test_a_calendar_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^calendar: columns are missing: build, label$"):
        _rows(head=HEAD.replace("build,", "").replace("label,", ""))
    with pytest.raises(InputError, match="columns are missing"):
        calendar_rows("")
    with pytest.raises(InputError, match=r"^calendar: one stands twice in Debian 12$"):
        Calendar(_rows(ROW, ROW))
    monkeypatch.setattr(module, "ROWS_MAX", 1)
    assert len(_rows(ROW)) == 1
    with pytest.raises(InputError, match="more than 1 rows"):
        _rows(ROW, ROW)
    text = HEAD + "\n" + ROW + "\n"
    monkeypatch.setattr(module, "CALENDAR_BYTES_MAX", len(text))
    assert len(calendar_rows(text)) == 1
    with pytest.raises(InputError, match=r"^mine: larger than \d+ bytes$"):
        calendar_rows(text + "\n", "mine")


def test_releases_are_found_by_channel_and_identity() -> None:
    second = ROW.replace("Debian 12", "Debian 13")
    unnamed = ROW.replace(",one,", ",,")
    found = Calendar(_rows(ROW.replace("10-14", "10-15").replace("one", "two"), ROW, second, unnamed, unnamed))
    assert found.channels == ("Debian 12", "Debian 13")
    assert [each.id for each in found.releases("Debian 12")] == ["", "", "one", "two"]
    assert found.releases("Debian 11") == ()
    one = found.find("Debian 12", "one")
    assert one is not None
    assert one.channel == "Debian 12"
    assert (found.find("Debian 12", "three"), found.find("Debian 11", "one"), found.find("Debian 12", "")) == (
        None,
    ) * 3
    assert found.elsewhere("one") == ("Debian 12", "Debian 13")
    assert (found.elsewhere("two"), found.elsewhere("three")) == (("Debian 12",), ())


def test_kinds() -> None:
    assert [kind for kind in Kind if kind.is_baseline] == [Kind.BASELINE, Kind.UNPLANNED_BASELINE]
    assert [kind for kind in Kind if kind.is_hotpatch] == [Kind.HOTPATCH, Kind.OOB_HOTPATCH]


@pytest.mark.parametrize(
    ("day", "month", "tuesday", "this", "following"),
    [
        ("2025-10-20", "2025-10", "2025-10-14", "2025-12-31", "2026-03-31"),
        ("2026-01-01", "2026-01", "2026-01-13", "2026-03-31", "2026-06-30"),
        ("2026-09-30", "2026-09", "2026-09-08", "2026-09-30", "2026-12-31"),
        ("2026-04-01", "2026-04", "2026-04-14", "2026-06-30", "2026-09-30"),
    ],
)
def test_days_of_the_cycle(day: str, month: str, tuesday: str, this: str, following: str) -> None:
    found = date.fromisoformat(day)
    assert month_of(found) == month
    assert second_tuesday(found.year, found.month) == date.fromisoformat(tuesday)
    assert quarter_end(found) == date.fromisoformat(this)
    assert quarter_end(found, 1) == date.fromisoformat(following)


def test_october_2025_in_four_forms() -> None:
    rows = [each for each in CALENDAR.releases("Windows Server 2025") if each.month == "2025-10"]
    names = {each.id for each in rows}
    assert names >= {"KB5066835", "KB5070773", "KB5070881", "KB5070893"}
    for language, baseline in (("en", "baseline"), ("de", "Baseline")):
        reader = Reader(language)
        events = ICalendar.from_ical(calendar_icalendar(rows, reader, MADE)).walk("VEVENT")
        assert [str(event["SUMMARY"]).split()[-1] for event in events] == [each.id for each in rows]
        assert f"Windows Server 2025 2025.10 B: {baseline} KB5066835" in {str(event["SUMMARY"]) for event in events}
        feed = ElementTree.fromstring(calendar_atom(rows, reader))
        space = "{http://www.w3.org/2005/Atom}"
        titles = [entry.findtext(f"{space}title") or "" for entry in feed.iter(f"{space}entry")]
        assert {title.split()[-1] for title in titles} == names
        assert feed.get("{http://www.w3.org/XML/1998/namespace}lang") == language
        page = calendar_html(rows, reader, MADE)
        assert all(name in page for name in names)
        assert f'<html lang="{language}">' in page


def test_the_icalendar_is_of_whole_days_with_stable_names() -> None:
    reader = Reader("en")
    planned = [each for each in CALENDAR.releases("Windows Server 2025") if each.planned]
    first = [each for each in shipped_releases() if each.month == "2022-03"]
    assert planned
    calendar = ICalendar.from_ical(calendar_icalendar([*first, *planned], reader, MADE))
    events = calendar.walk("VEVENT")
    assert len({str(event["UID"]) for event in events}) == len(events) == len(planned) + 1
    assert events[0].decoded("DTSTART") == date(2022, 3, 8)
    assert events[0].decoded("DTEND") == date(2022, 3, 9)
    assert (str(events[0]["STATUS"]), str(events[-1]["STATUS"])) == ("CONFIRMED", "TENTATIVE")
    assert str(events[-1]["SUMMARY"]).endswith("(planned)")
    assert "confidence: medium" in str(events[0]["DESCRIPTION"])
    later = calendar_icalendar([*first, *planned], reader, datetime(2026, 6, 1, tzinfo=UTC))
    assert [str(event["UID"]) for event in ICalendar.from_ical(later).walk("VEVENT")] == [
        str(event["UID"]) for event in events
    ]


def test_the_atom_feed_has_what_is_published_newest_first() -> None:
    rows = [*shipped_releases()]
    space = "{http://www.w3.org/2005/Atom}"
    feed = ElementTree.fromstring(calendar_atom(rows, Reader("en")))
    dates = [entry.findtext(f"{space}published") or "" for entry in feed.iter(f"{space}entry")]
    assert dates == sorted(dates, reverse=True)
    assert len(dates) == sum(not each.planned for each in rows)
    assert dates[-1].startswith("2022-03-08")
    assert feed.findtext(f"{space}updated") == dates[0]
    ids = [entry.findtext(f"{space}id") for entry in feed.iter(f"{space}entry")]
    assert len(set(ids)) == len(ids)


class _Page(HTMLParser):
    """Collects tags and what they load."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_has_no_scripts_and_loads_nothing() -> None:
    text = calendar_html(shipped_releases(), Reader("de"), MADE)
    page = _Page()
    page.feed(text)
    assert "script" not in page.tags
    assert page.loads == []
    assert page.tags.count("tr") == len(shipped_releases()) + len(CALENDAR.channels)
    assert "Verlässlichkeit" in text
    assert "8. März 2022" in text
    hostile = _rows(ROW.replace("note", "<script>alert(1)</script>"))
    assert "<script>" not in calendar_html(hostile, Reader("en"), MADE)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 0, "KB5066835"),
        (["--channel", "Windows Server 2022 Azure Edition", "--language", "de"], 0, "2022-03-08"),
        (["--format", "html"], 0, "<!doctype html>"),
        (["--format", "icalendar"], 0, "BEGIN:VCALENDAR"),
        (["--format", "atom"], 0, "urn:hotmend:calendar"),
        (["--since", "2099-01-01"], 3, ""),
        (["--since", "x"], 2, ""),
        (["--channel", "Windows 95"], 2, ""),
    ],
)
def test_the_command(arguments: list[str], code: int, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["calendar", *arguments]) == code
    printed, _ = capfd.readouterr()
    assert words in printed


def test_the_command_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["calendar", "--json", "--channel", "Windows Server 2022 Azure Edition"]) == 0
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert rows[0]["day"] == "2022-03-08"
    assert (rows[0]["kind"], rows[0]["confidence"], rows[0]["published"]) == ("hotpatch", "medium", "2022-03-08")
    assert {row["channel"] for row in rows} == {"Windows Server 2022 Azure Edition"}
    assert sum(row["kind"] in {"baseline", "unplanned_baseline"} and row["month"][:4] == "2024" for row in rows) == 5
