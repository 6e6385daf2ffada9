"""What rules say to people: a sentence in English with places for values, translated where it is shown, never here."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Message(msgspec.Struct, frozen=True):
    """One sentence.

    Attributes:
        text: English, the key of its translations; `{name}` is the place of a value.
        values: name to value: str, int, date, datetime or a tuple of str.
    """

    text: str
    values: Mapping[str, object] = {}

    def __str__(self) -> str:
        """Return the sentence in English, for logs and tests."""
        return self.text.format(**self.values)


class Cause(msgspec.Struct, frozen=True):
    """Why an answer is what it is.

    Attributes:
        code: stays the same in all languages; docs/servicing.md says what it means.
        message: for people.
    """

    code: str
    message: Message


def N_(text: str) -> str:  # noqa: N802 - the name gettext's tools know
    """Mark a text for translation and return it."""
    return text


def message(text: str, **values: object) -> Message:
    """Return a message. The name is what the extraction of texts to translate looks for."""
    return Message(text, values)


def cause(code: str, text: str, **values: object) -> Cause:
    """Return a cause; its text is extracted for translation, too."""
    return Cause(code, Message(text, values))
