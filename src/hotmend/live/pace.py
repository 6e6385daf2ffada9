"""When the next stop may come: late enough for the program's own timed waits to end between stops.

A stop makes some waits begin anew with all of their time (`linux.timed`). Stops that follow each other closely would
keep such a wait from ending for as long as they go on. So they come in series, each no longer than the shortest of
the waits they met, and between two series every one of those waits can end: no wait lasts longer than three times its
own time, and a little.

That holds for waits of up to half the time that is left until the deadline. Longer ones would not end before it anyway.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

SERIES_SECONDS_MIN = 0.1
"""A series may always last as long as that."""

SLACK_SECONDS = 0.02
"""More than its own time is left to a wait: its thread has to begin it and to come back from it."""


@dataclass(slots=True)
class Pace:
    """The series of stops of one process. All times are of one clock, in seconds."""

    _began: float = -math.inf
    _last: float = -math.inf
    _waits: set[float] = field(default_factory=set)

    def pause(self, now: float, deadline: float) -> float:
        """Return how long to leave the process alone before the next stop; 0.0 where it may come now."""
        waits = [seconds for seconds in self._waits if seconds <= (deadline - now) / 2]
        if not waits or now - self._began < max(SERIES_SECONDS_MIN, min(waits)):
            return 0.0
        return max(0.0, self._last + max(waits) + SLACK_SECONDS - now)

    def stopped(self, now: float, waits: Iterable[float]) -> None:
        """Note a stop that has just ended, and the waits it made begin anew."""
        met = {seconds for seconds in waits if seconds > 0.0}
        if not met:
            return
        ended = {seconds for seconds in self._waits if seconds + SLACK_SECONDS < now - self._last}
        if ended == self._waits:
            self._began = now
        self._waits = self._waits - ended | met
        self._last = now
