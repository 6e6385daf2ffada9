"""docs/traceability.md: each line of the requirements with a command and what it answered, in both languages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.servicing.trace_lines import FLEET, TRACES
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


def test_the_page_has_the_lines_of_a_fleet() -> None:
    rows = (Row(line, asked, "", "fleet: later") for line, asked in FLEET)
    assert stands(PAGE, "fleet", table(rows)), "the page was out of date and is written anew: read what changed"


def _numbers(line: str) -> set[str]:
    first, _, last = line.partition("-")
    return {f"S{number}" for number in range(int(first[1:]), int((last or first).lstrip("S")) + 1)}


def test_every_line_has_a_command_or_is_about_a_fleet() -> None:
    traced = set().union(*(_numbers(each.line) for each in TRACES))
    fleet = set().union(*(_numbers(line) for line, _ in FLEET))
    assert traced | fleet | NOT_HERE == {f"S{number}" for number in range(1, 53)}
    # What only a fleet has is in that list alone; of some lines a machine shows its part.
    assert {"S32", "S33"} <= fleet - traced


def test_both_languages_are_shown() -> None:
    page = PAGE.read_text("utf-8")
    assert len(re.findall(r"[äöüß]", page)) > 100
    said = sum("<br>" in line for line in page.splitlines())
    assert said > len(TRACES) // 2
