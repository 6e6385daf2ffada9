"""How often the agent takes a turn, read without what a turn itself needs: this is all that stays in memory."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

_DEFAULT_MINUTES: Final = 60
_MINUTES: Final = range(1, 60 * 24 * 31 + 1)


def pace(file: Path) -> float:
    """Return the seconds between two turns; of a configuration that is none, the default: the turn itself says why."""
    try:
        minutes = tomllib.loads(file.read_text("utf-8")).get("assess_minutes", _DEFAULT_MINUTES)
    except (OSError, ValueError):
        minutes = _DEFAULT_MINUTES
    valid = isinstance(minutes, int) and minutes in _MINUTES
    return 60.0 * (minutes if valid else _DEFAULT_MINUTES)
