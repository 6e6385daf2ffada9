"""docs/traceability.md: each line of the requirements with a command and what it answered, in both languages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.servicing.trace_lines import TRACES
from tests.traceability import ROOT, Row, stands, table

PAGE = ROOT / "docs" / "traceability.md"
NOT_HERE = {"S1", "S2", "S3", "S4"}
"""Marked L: about the engine, and shown by its own tests and docs/measured.md."""


def _rows() -> Iterator[Row]:
    for trace in TRACES:
        command, observed = trace.told()
        assert observed, trace
        yield Row(trace.line, trace.asked, command, observed)


def test_the_page_has_what_the_commands_answer() -> None:
    assert stands(PAGE, "rules", table(_rows())), "the page was out of date and is written anew: read what changed"


def _numbers(line: str) -> set[str]:
    first, _, last = line.partition("-")
    return {f"S{number}" for number in range(int(first[1:]), int((last or first).lstrip("S")) + 1)}


def _shown(page: str, place: str) -> set[str]:
    """Return the lines that a table of the page has rows for."""
    rows = page.partition(f"<!-- {place} -->")[2].partition(f"<!-- end of {place} -->")[0]
    named = re.findall(r"^\| (S[^|]+) \|", rows, re.MULTILINE)
    return set().union(*(_numbers(line) for row in named for line in row.split(", ")))


def test_every_line_has_a_command_and_what_it_answered() -> None:
    page = PAGE.read_text("utf-8")
    traced = set().union(*(_numbers(each.line) for each in TRACES))
    fleet = _shown(page, "rollouts") | _shown(page, "machines") | _shown(page, "portal")
    assert traced | fleet | NOT_HERE == {f"S{number}" for number in range(1, 53)}
    assert {"S32", "S33"} <= fleet - traced  # what only a fleet has


def test_every_line_about_a_fleet_has_what_a_server_answered() -> None:
    page = PAGE.read_text("utf-8")
    places = ("portal", "rollouts", "machines", "azure", "reporting", "windows-fleet", "twenty")
    shown = set().union(*(_shown(page, place) for place in places))
    assert {f"S{number}" for number in range(17, 51)} <= shown


def test_what_is_done_to_a_machine_is_shown_done() -> None:
    """Not only what a check says of it: the rows of the tests that run those commands are on the page."""
    page = PAGE.read_text("utf-8")
    for place, lines in (
        ("windows", "S12 S13 S14 S15 S23 S35 S36 S37 S39 S40 S41 S42 S43 S44 S45 S46 S48 S49"),
        ("arc", "S16 S17 S19 S20 S21 S22 S23 S41 S42 S43 S46"),
        ("linux", "S10 S11 S12 S38 S40 S43 S44 S45"),
        ("reporting", "S10 S16 S27 S29 S30 S37 S38 S39 S41 S43 S44 S45 S46 S47 S48 S49 S50"),
        ("windows-fleet", "S10 S11 S12 S16 S17 S29 S30 S38 S39 S44 S45"),
    ):
        assert _shown(page, place) == set(lines.split())


def test_both_languages_are_shown() -> None:
    page = PAGE.read_text("utf-8")
    assert len(re.findall(r"[äöüß]", page)) > 100
    said = sum("<br>" in line for line in page.splitlines())
    assert said > len(TRACES) // 2
