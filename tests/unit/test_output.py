from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from hotmend.cli import output
from hotmend.cli.output import Steps, print_reasons, print_table, share_text, size_text
from hotmend.cli.shapes import ReasonShape

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (9_999, "9999 B"), (46_463, "46 kB"), (2_040_000, "2040 kB"), (17_100_000, "17.1 MB")],
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size_text(count) == text


def test_a_share_of_nothing_is_not_said() -> None:
    assert share_text(1, 0) == ""
    assert share_text(46_463, 532_468) == "8.7 %"


def test_tables_outside_a_terminal_are_not_cut_off(capfd: Capture) -> None:
    print_table("", ("#number", "name"), [(1, "n" * 120), (22, "b")])
    lines = capfd.readouterr().out.splitlines()
    assert lines == ["number  name", f"     1  {'n' * 120}", "    22  b"]


def test_many_subjects_are_counted_and_long_ones_cut(capfd: Capture) -> None:
    print_reasons([ReasonShape("a-code", "refusal", "It is so.", ("s" * 300, *(f"subject {n}" for n in range(100))))])
    sentence, subjects = capfd.readouterr().out.splitlines()
    assert sentence == "  refused: It is so. [a-code]"
    assert subjects.startswith("    " + "s" * 79 + "…, subject 0, ")
    assert subjects.endswith(" more")
    assert len(subjects) < 300


class _Terminal(Console):
    """A console that says that it is a terminal and writes into the captured stderr."""

    def __init__(self, **options: object) -> None:
        super().__init__(file=sys.stderr, force_terminal=True, width=100, markup=False)


def _pretend_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console.Console", _Terminal)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


@pytest.mark.parametrize("threaded", [True, False])
def test_a_bar_appears_when_a_step_takes_long(threaded: bool, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    _pretend_terminal(monkeypatch)
    monkeypatch.setattr(output, "PROGRESS_AFTER_SECONDS", 0.05)
    with Steps(threaded=threaded) as steps:
        steps("reading", 0, 2)
        time.sleep(0.2)
        steps("comparing [x]", 1, 2)
        time.sleep(0.2)
    printed, said = capfd.readouterr()
    assert printed == ""
    assert "comparing [x]" in said


def test_no_bar_appears_when_all_is_quick(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    _pretend_terminal(monkeypatch)
    with Steps(threaded=True) as steps:
        steps("reading", 0, 2)
    assert capfd.readouterr().err == ""


def test_no_bar_appears_outside_a_terminal(monkeypatch: pytest.MonkeyPatch, capfd: Capture, tmp_path: Path) -> None:
    monkeypatch.setattr(output, "PROGRESS_AFTER_SECONDS", 0.0)
    with (tmp_path / "stderr").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        with Steps(threaded=False) as steps:
            steps("reading", 0, 2)
            steps("reading", 1, 2)
    assert (tmp_path / "stderr").read_text() == ""
