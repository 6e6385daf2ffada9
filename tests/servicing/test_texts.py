"""Every text has a German translation with the same places for values, and readers get their language."""

from __future__ import annotations

import contextlib
import json
import re
import string
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from hotmend.cli.errors import error_told
from hotmend.cli.main import run
from hotmend.model.errors import InputError, UsageError
from hotmend.reference.texts import Reader, language_of
from hotmend.servicing.message import message
from tests.servicing.texts import SOURCE, sources, texts, untranslatable
from tests.servicing.traces import CASES
from tests.traceability import ROOT

GERMAN = SOURCE / "reference" / "locale" / "de.po"


def _places(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


def test_every_text_is_translated_and_nothing_else() -> None:
    with Path(GERMAN).open("rb") as source:
        catalog = read_po(source, locale="de")
    translated = {str(entry.id): str(entry.string) for entry in catalog if entry.id}
    assert translated.keys() == texts()
    assert [text for text, german in translated.items() if not german or _places(text) != _places(german)] == []


def test_words_that_are_code_are_told_in_english_too() -> None:
    with GERMAN.with_name("en.po").open("rb") as source:
        catalog = read_po(source, locale="en")
    words = {str(entry.id): str(entry.string) for entry in catalog if entry.id}
    assert words.keys() <= texts()
    codes = {text for text in texts() if re.fullmatch(r"[A-Za-z]+([_-][A-Za-z]+)+|[A-Z]{4,}|lcu", text)}
    assert codes - words.keys() <= {"non-security"}  # as English as it gets
    assert [word for word in words.values() if not re.fullmatch(r"[a-z -]+", word)] == []
    assert Reader("en").text("unplanned_baseline") == "unplanned baseline"


def test_values_are_written_in_the_readers_language() -> None:
    told = message("The entitlement ends on {day}.", day=date(2026, 3, 31))
    assert Reader("en").write(told) == "The entitlement ends on 31 March 2026."
    assert Reader("de").write(told) == "Die Berechtigung endet am 31. März 2026."
    listed = message("Not reached: {closed}.", closed=("a", "b"))
    assert Reader("de").write(listed) == "Nicht erreicht: a oder b."
    since = message("The window is open until {until}.", until=datetime(2026, 3, 31, 4, 5, tzinfo=UTC))
    assert "04:05 +0000" in Reader("de").write(since)
    with pytest.raises(UsageError):
        Reader("fr")


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LANG": "de_AT", "LC_ALL": "en_GB.UTF-8"}, "en"),
        ({"LANGUAGE": "de:en", "LANG": "en_GB"}, "de"),
        ({"LANG": "fr_FR"}, "en"),
        ({"LANG": "nonsense"}, "en"),
    ],
)
def test_the_locale_decides(environment: dict[str, str], language: str) -> None:
    assert language_of(environment) == language


def test_no_error_is_put_together_before_it_can_be_translated() -> None:
    assert [place for path in sources() for place in untranslatable(path)] == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["check", f"{CASES}/none.json"],
            [f"{CASES}/none.json: lässt sich nicht lesen: No such file or directory"],
        ),
        (
            ["check", f"{CASES}/lists.toml"],
            ["nicht die Fakten einer Maschine: JSON is malformed", "docs/facts.md beschreibt die Form"],
        ),
        (
            ["check", f"{CASES}/vsm-off.json", "--at", "yesterday"],
            ["--at: kein Zeitpunkt: yesterday", "zum Beispiel 2025-10-20T08:00+02:00"],
        ),
        (
            ["check", f"{CASES}/vsm-off.json", "--policy", f"{CASES}/debian-12.csv"],
            [f"{CASES}/debian-12.csv: keine Wartungsregel: "],
        ),
        (
            ["check", f"{CASES}/vsm-off.json", "--calendar", f"{CASES}/lists.toml"],
            ["lists.toml: Spalten fehlen: ", "build"],
        ),
        (["check"], ["'FACTS.json' fehlt", "siehe hotmend check --help"]),
        (["check", "--nothing"], ["es gibt keine Option --nothing"]),
        (["calendar", "--since", "soon"], ["--since: kein Tag: soon"]),
        (["calendar", "--channel", "Windows 3.1"], ["kein Kanal heißt 'Windows 3.1'", "es gibt "]),
        (["windows", "apply", "moon"], ["REMEDY: nötig ist eines von vsm, licence-bug-option-1"]),
        (["windows", "apply", "vsm"], ["das geht nur auf einer Windows-Maschine"]),
        (["windows", "policy", "--facts", f"{CASES}/debian-on-line.json"], ["nicht die Fakten einer Windows-Maschine"]),
        (["arc", "--id", "/moon", "status"], ["nicht die ID einer Maschine: /moon", "wie sie im Portal steht"]),
    ],
)
def test_errors_of_input_are_told_in_the_readers_language(
    arguments: list[str], told: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.chdir(ROOT):
        assert run([*arguments, "--language", "de"]) in {1, 2}
        german = capsys.readouterr().err
        assert [text for text in told if text not in german] == []
        run([*arguments, "--language=en", "--json"])
    english = capsys.readouterr()
    assert english.err != german
    if english.out:
        assert english.err.startswith(f"hotmend: {json.loads(english.out)['error']}")


def test_an_error_keeps_its_words_where_there_is_no_translation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGUAGE", "de")
    assert run(["inspect", "nowhere.hotpatch"]) == 1
    assert capsys.readouterr().err == "hotmend: nowhere.hotpatch: No such file or directory\n"
    assert error_told(InputError("{a} and {b}", a="x", b=date(2026, 3, 1)), Reader("de"))[0] == "x and 1. März 2026"
    assert error_told(InputError("as it is: {}", "{too}"), Reader("de")) == ("as it is: {}", "{too}")
