"""When to come back: spread by chance, and later where nobody answers, so that machines never come all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

DEFAULT_SECONDS: Final = 60
SPREAD: Final = 0.1
"""Part of the time by which each wait is longer or shorter."""
BACK_OFF_MAX: Final = 4
"""Most times the usual wait, after failures in a row."""


def wait_seconds(usual: int, failures: int, chance: Callable[[], float]) -> float:
    """Return how long to wait.

    After an outage machines come back spread as before it, over a longer time: never more a second than usual.

    Args:
        usual: what the server said last; 0: nothing yet.
        failures: in a row.
        chance: a number from 0 to 1.
    """
    times = min(BACK_OFF_MAX, 1 << min(failures, 10))
    return (usual or DEFAULT_SECONDS) * times * (1 - SPREAD + 2 * SPREAD * chance())
