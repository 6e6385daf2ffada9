"""Moments that a person writes."""

from __future__ import annotations

from datetime import UTC, datetime

from hotmend.model.errors import UsageError


def moment(text: str) -> datetime:
    """Return a moment in the future that a person wrote; without a zone it is the machine's.

    Raises:
        UsageError: it is none, or is past.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no date and time", "2026-12-01T08:00") from None
    found = found.astimezone(UTC)
    if found <= datetime.now(UTC):
        raise UsageError(f"{text} is past")
    return found
