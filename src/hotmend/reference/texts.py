"""Texts in the reader's language: gettext catalogues, and dates and lists as the language writes them (Babel)."""

from __future__ import annotations

import gettext
import io
import os
from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from importlib.resources import files

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.lists import format_list
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from hotmend.model.errors import UsageError
from hotmend.servicing.message import Message

_LOCALES = {"en": "en_GB", "de": "de"}
_MOMENTS = {"en": "d MMMM y HH:mm", "de": "d. MMMM y HH:mm"}
LANGUAGES = tuple(_LOCALES)
_VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


class Reader:
    """Somebody who reads one language."""

    def __init__(self, language: str) -> None:
        """Make a reader.

        Raises:
            UsageError: there are no texts in this language.
        """
        if language not in LANGUAGES:
            raise UsageError(
                "no texts in '{language}'", "there are {names}", language=language, names=", ".join(LANGUAGES)
            )
        self.language = language
        self._locale = Locale.parse(_LOCALES[language])
        self._texts = _translations(language)

    def text(self, text: str) -> str:
        """Return a text without values, translated; what has no translation stays English."""
        return self._texts.gettext(text) if text else ""

    def write(self, message: Message) -> str:
        """Return a message, translated and with its values in it."""
        return self.text(message.text).format(**{name: self._value(value) for name, value in message.values.items()})

    def day(self, day: date) -> str:
        """Return a date."""
        return format_date(day, "long", locale=self._locale)

    def moment(self, moment: datetime) -> str:
        """Return a time with its offset."""
        return f"{format_datetime(moment, _MOMENTS[self.language], locale=self._locale)} {moment:%z}"

    def _value(self, value: object) -> str:
        match value:
            case datetime():
                return self.moment(value)
            case date():
                return self.day(value)
            case tuple():
                return format_list([str(each) for each in value], "or", locale=self._locale) if value else "–"
        return self.text(value) if isinstance(value, str) else str(value)


@cache
def _translations(language: str) -> gettext.NullTranslations:
    """Return the translations of a language; of English, in which sentences are written, those of words alone."""
    with (files("hotmend.reference") / "locale" / f"{language}.po").open("rb") as source:
        catalog = read_po(source, locale=language)
    compiled = io.BytesIO()
    write_mo(compiled, catalog)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def language_of(environment: Mapping[str, str] = os.environ) -> str:
    """Return the language that the environment asks for, as gettext does; English where there are no texts in it."""
    for variable in _VARIABLES:
        for wish in environment.get(variable, "").split(":"):
            try:
                language = Locale.parse(wish.partition(".")[0].partition("@")[0]).language if wish else ""
            except (UnknownLocaleError, ValueError):
                language = "en"
            if language:
                return language if language in LANGUAGES else "en"
    return "en"
