"""Two runs side by side: everything that was observed, byte for byte, and the first difference for a person."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN_LETTERS = 120
_CONTEXT_BYTES = 16
_TEXT_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Observation:
    """What one run over one input gave: named pieces of bytes, such as `standard output` or `file a.png`."""

    case: str
    items: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One piece that differs.

    Attributes:
        case: which input, or "".
        item: which piece.
        expected, got: the places where they differ first, as text; "missing" where a run had no such piece.
        offset: in bytes, of that place.
        line: number of the line from 1, or 0 where it is not text.
    """

    case: str
    item: str
    expected: str
    got: str
    offset: int
    line: int

    def __str__(self) -> str:
        """Return it in one sentence."""
        where = f"{self.item}, line {self.line}" if self.line else f"{self.item}, byte {self.offset}"
        case = f"{self.case}: " if self.case else ""
        return f"{case}{where}: {self.expected} became {self.got}"


def without(patterns: Sequence[re.Pattern[bytes]], content: bytes) -> bytes:
    """Return `content` without what the patterns match, in their order."""
    for pattern in patterns:
        content = pattern.sub(b"", content)
    return content


def compare(expected: Sequence[Observation], got: Sequence[Observation]) -> tuple[Difference, ...]:
    """Return the differences, in the order in which things were observed."""
    found = []
    for one, other in zip(expected, got, strict=True):
        left, right = dict(one.items), dict(other.items)
        for name in dict.fromkeys((*left, *right)):
            if left.get(name) != right.get(name):
                found.append(_difference(one.case, name, left.get(name), right.get(name)))
    return tuple(found)


def _difference(case: str, item: str, expected: bytes | None, got: bytes | None) -> Difference:
    if expected is None or got is None:
        texts = ["missing" if content is None else _shown(content) for content in (expected, got)]
        return Difference(case, item, texts[0], texts[1], 0, 0)
    shorter = min(len(expected), len(got))
    offset = next((i for i in range(shorter) if expected[i] != got[i]), shorter)
    if _is_text(expected) and _is_text(got):
        start = expected.rfind(b"\n", 0, offset) + 1
        line = expected.count(b"\n", 0, start) + 1
        return Difference(case, item, _line(expected, start), _line(got, start), offset, line)
    left, right = (content[max(0, offset - 4) :][:_CONTEXT_BYTES].hex(" ") or "end" for content in (expected, got))
    return Difference(case, item, left, right, offset, 0)


def _is_text(content: bytes) -> bool:
    if len(content) > _TEXT_BYTES_MAX or b"\0" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _line(content: bytes, start: int) -> str:
    end = content.find(b"\n", start)
    line = content[start : end if end >= 0 else None]
    return _shown(line) if line or end >= 0 else "end"


def _shown(content: bytes) -> str:
    text = repr(content.decode("utf-8", "backslashreplace"))
    return text if len(text) <= _SHOWN_LETTERS else text[:_SHOWN_LETTERS] + "…"
