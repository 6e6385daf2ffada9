"""A refusal on its way to whoever returns it as a value."""

from __future__ import annotations

from hotmend.model.errors import HotmendError
from hotmend.model.verdict import Reason, refusal


class Refusal(HotmendError):
    """Carries the reason; `Client` and the commands turn it into a value."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason


def refused(code: str, sentence: str, *subjects: str) -> Refusal:
    """Return the refusal to raise; each code is a heading in docs/reasons.md."""
    return Refusal(refusal(code, sentence, *subjects))
