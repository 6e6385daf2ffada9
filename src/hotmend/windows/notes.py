"""Why something is unknown: written down beside the facts, so that whoever reads them need not guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hotmend.model.errors import HotmendError

T = TypeVar("T")
_LETTERS_MAX = 300


class Notes:
    """Dotted names of fields to why they are unknown."""

    def __init__(self) -> None:
        self.unread: dict[str, str] = {}

    def unknown(self, field: str, why: str) -> None:
        """Write down why a field is unknown."""
        self.unread[field] = why[:_LETTERS_MAX]

    def ask(self, field: str, question: Callable[[], T]) -> T | None:
        """Return the answer to a question; where it fails, None, and why."""
        try:
            answer = question()
        except (HotmendError, OSError) as error:
            self.unknown(field, str(error) or type(error).__name__)
            return None
        if answer is None and field not in self.unread:
            self.unknown(field, "not said by this machine")
        return answer
