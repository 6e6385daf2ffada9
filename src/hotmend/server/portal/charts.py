"""Charts: bars, a row each with the figure beside it; lines over days, with a table of the same figures below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
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


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart: its name, class of its colour, and its parts, each the points of an SVG polyline."""

    name: str
    tone: str
    parts: list[str]


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over days, in a field of 1000 by 300; `most` is at its top, `first` and `last` at its sides."""

    first: date
    last: date
    most: int
    lines: list[Line]


def lines(days: Sequence[date], given: Sequence[tuple[str, str, Sequence[int]]]) -> Chart | None:
    """Return a chart of figures by day; None where there is no day. Where days are missing the line is broken."""
    if not days:
        return None
    first, last = days[0], days[-1]
    width = max((last - first).days, 1)
    most = max([1, *(max(values) for _, _, values in given)])
    made = []
    for name, tone, values in given:
        parts: list[list[str]] = []
        for index, (day, value) in enumerate(zip(days, values, strict=True)):
            if not index or (day - days[index - 1]).days > 1:
                parts.append([])
            parts[-1].append(f"{1000 * (day - first).days / width:.1f},{300 - 300 * value / most:.1f}")
        # A line of one point would not be drawn.
        made.append(Line(name, tone, [" ".join(part if len(part) > 1 else part * 2) for part in parts]))
    return Chart(first, last, most, made)
