"""Bars of the charts: a row each, with the figure beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from hotmend.server.portal.language import Words

_TONES: Final = {
    "on": "good",
    "off": "bad",
    "unknown": "open",
    "ENABLED": "good",
    "ACTION_REQUIRED": "bad",
    "PENDING": "open",
    "in-memory": "good",
    "everywhere": "good",
    "on-disk": "open",
    "nowhere": "bad",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        label: beside it.
        number: how long; `shown`: as people read it.
        tone: class of its colour; "" for the common one.
        link: what is behind it; "" for nothing.
    """

    label: str
    number: float
    shown: str
    tone: str = ""
    link: str = ""


def code_bars(numbers: Mapping[str, int], words: Words, filtered: str = "") -> list[Bar]:
    """Return a bar for each code, the most frequent first; `filtered` names the filter of the list of machines."""
    return [
        Bar(
            words.code(code) if code else words.say("not known"),
            number,
            words.number(number),
            _TONES.get(code, ""),
            f"/machines?{urlencode({filtered: code})}" if filtered and code else "",
        )
        for code, number in sorted(numbers.items(), key=lambda each: (-each[1], each[0]))
    ]
