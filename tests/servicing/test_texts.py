"""Every text has a German translation with the same places for values, and readers get their language."""

from __future__ import annotations

import re
import string
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from hotmend.model.errors import UsageError
from hotmend.reference.texts import Reader, language_of
from hotmend.servicing.message import message
from tests.servicing.texts import SOURCE, texts

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
