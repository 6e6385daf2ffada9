"""Calendar and notes of a channel, read by the libraries that others use."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from xml.etree import ElementTree

import icalendar

from hotmend.publisher.release.pages import pages_of, pages_write
from hotmend.publisher.release.plan import Cycle
from hotmend.repository.issues import known_issue
from hotmend.repository.layout import Tier
from hotmend.repository.releases import KnownIssue
from hotmend.servicing.releases import Kind, calendar_rows
from tests.repository.kit import BASELINE, CHANNEL, HOTPATCH, World

_ATOM = "{http://www.w3.org/2005/Atom}"


def _pages(world: World) -> dict[str, bytes]:
    _, _, contents = world.publisher().contents()
    content = next(c for c in contents if c.tier is Tier.CANARY)
    return pages_of(content, Cycle(months=(1, 7), day="second tuesday"), world.now)


def test_the_forms_of_the_calendar_agree(original: World, tmp_path: Path) -> None:
    world = original.copy(tmp_path)
    world.publisher().add_issue(CHANNEL, HOTPATCH, KnownIssue("starts <slowly>", world.now, "wait"))
    pages = _pages(world)
    rows = calendar_rows(pages["calendar.csv"].decode())
    released = [row for row in rows if not row.planned]
    assert [(row.id, row.kind) for row in released] == [(BASELINE, Kind.BASELINE), (HOTPATCH, Kind.HOTPATCH)]
    assert released[1].images == {"ab" * 20: "cd" * 20}
    assert released[1].requires == BASELINE
    planned = [row.day for row in rows if row.planned]
    assert len(planned) == 4
    assert all(day.month in (1, 7) and day.weekday() == 1 and 8 <= day.day <= 14 for day in planned)
    assert planned[0] > world.now.date()

    events = list(icalendar.Calendar.from_ical(pages["calendar.ics"]).walk("VEVENT"))
    assert {event["status"] for event in events} == {"CONFIRMED", "TENTATIVE"}
    assert sorted(event.decoded("dtstart") for event in events) == sorted(row.day for row in rows)
    assert len({event["uid"] for event in events}) == len(events)
    entries = ElementTree.fromstring(pages["feed.atom"]).findall(f"{_ATOM}entry")
    assert len(entries) == len(released)
    assert [row["id"] for row in json.loads(pages["calendar.json"])] == [row.id for row in rows]
    notes = {note["id"]: note for note in json.loads(pages["notes.json"])}
    assert notes[HOTPATCH]["cves"] == ["CVE-2024-7347"]

    for language, word in (("en", "known issues"), ("de", "bekannte Probleme")):
        html = pages[f"notes.{language}.html"].decode()
        assert f'id="{HOTPATCH}"' in html
        assert word in html
        assert "starts &lt;slowly&gt;" in html
        assert "ab" * 20 in html
        assert HOTPATCH in pages[f"calendar.{language}.html"].decode()


def test_a_workaround_is_told_step_by_step(original: World, tmp_path: Path) -> None:
    world = original.copy(tmp_path)
    steps = """deadline = 2026-12-09
    cost = "It stays <slow>."
    options = [{ id = "o", title = "Larger", steps = [
      { title = "Say so", commands = ["echo 'a <b>'"], proof = { linux = { file = "/etc/x" } } },
      { title = "Boot", reboot = true, proof = { linux = { booted_since = "/etc/x" } } } ] }]"""
    world.publisher().add_issue(CHANNEL, HOTPATCH, known_issue("It is slow.", world.now, "", steps, "the text"))
    pages = _pages(world)
    for language, words in (
        ("en", "To be done before 9 December 2026. If nothing is done: It stays &lt;slow&gt;."),
        ("de", "Zu erledigen vor 9. Dezember 2026. Wenn nichts geschieht: It stays &lt;slow&gt;."),
    ):
        html = pages[f"notes.{language}.html"].decode()
        assert words in html
        assert html.index("Larger") < html.index("echo &#39;a &lt;b&gt;&#39;") < html.index("<li>Boot (")
    (note,) = [note for note in json.loads(pages["notes.json"]) if note["issues"]]
    assert note["issues"][0]["deadline"] == "2026-12-09"
    assert [step["reboot"] for step in note["issues"][0]["options"][0][1]] == [False, True]


def test_withdrawals_are_told(original: World, tmp_path: Path) -> None:
    world = original.copy(tmp_path)
    world.publisher().withdraw(CHANNEL, (HOTPATCH,), "it loops")
    pages = _pages(world)
    assert "withdrawn: it loops" in pages["notes.en.html"].decode()
    assert "zurückgezogen: it loops" in pages["notes.de.html"].decode()
    assert any("it loops" in row.note for row in calendar_rows(pages["calendar.csv"].decode()))
    written = pages_write(world.publisher(), CHANNEL, Cycle(), world.now)
    assert len(written) == 2 * len(pages)
    assert all((world.repository / name).stat().st_size for name in written)
    world.client(Tier.CANARY).channel()


def test_the_cycle() -> None:
    cycle = Cycle(months=(1, 4, 7, 10), day="second tuesday")
    assert cycle.days(date(2026, 1, 13), 3) == (date(2026, 4, 14), date(2026, 7, 14), date(2026, 10, 13))
    assert Cycle(months=(12,), day=5).days(date(2026, 12, 5), 2) == (date(2027, 12, 5), date(2028, 12, 5))
    assert cycle.due(None, date(2026, 2, 1))
    assert not cycle.due(date(2026, 1, 13), date(2026, 4, 13))
    assert cycle.due(date(2026, 1, 13), date(2026, 4, 14))
    assert cycle.due(date(2026, 1, 13), datetime(2026, 12, 1, tzinfo=UTC).date())
