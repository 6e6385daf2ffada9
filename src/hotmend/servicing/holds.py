"""What a hold means for those who wait: whether the ring waits with the machine, and for how long before people look.

A machine whose windows cannot be known is not waited for: it counts as one that is off, and comes late when they are
known. Enough machines being changed is a turn that has not come, and no hold of the machine's own.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

NOT_WAITED_FOR: Final = frozenset({"time-zone-unknown"})
"""Codes of holds that no waiting ends."""
TURN: Final = "budget-used"
WINDOWS: Final = ("time-zone-unknown", "window-closed", "window-too-short", "window-without-word")
"""Codes of holds by the machine's windows; an open window ends them."""
LONG: Final = timedelta(hours=24)
"""A hold that has lasted for so long is one that somebody must look at."""
LONG_OF: Final = {"time-zone-unknown": timedelta(hours=1), "window-closed": timedelta(days=8)}
"""The same of others: a zone is in a machine's first report, and windows may be a week apart."""
