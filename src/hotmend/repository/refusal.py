"""A refusal on its way to whoever returns it as a value."""

from __future__ import annotations

from typing import TypeVar

from hotmend.model.errors import HotmendError
from hotmend.model.verdict import Reason, refusal

T = TypeVar("T")


class Refusal(HotmendError):
    """Carries the reason; `Client` and the commands turn it into a value."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason


def refused(code: str, sentence: str, *subjects: str) -> Refusal:
    """Return the refusal to raise; each code is a heading in docs/reasons.md."""
    return Refusal(refusal(code, sentence, *subjects))


def unless_refused(answer: T | Reason) -> T:
    """Return what a channel answered; `HotmendError` with the reason where it refused."""
    if isinstance(answer, Reason):
        raise HotmendError(f"{answer.sentence} [{answer.code}]")
    return answer
