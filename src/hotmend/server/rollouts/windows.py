"""Which machines have an open window, by the policy of each and in the zone of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from hotmend.servicing.maintenance import Decision, Interval, Policy, intervals, may_start
from hotmend.servicing.message import cause

_AHEAD: Final = timedelta(days=400)


@dataclass(slots=True)
class Windows:
    """Answers for one moment; each pair of policy and zone is worked out once.

    Attributes:
        policies: content by name, as the server keeps them.
        now: the moment, UTC.
        needed: what an action takes.
        words: windows that have the word that their policy asks for: policy and start -> end.
    """

    policies: Mapping[str, Any]
    now: datetime
    needed: timedelta
    words: Mapping[tuple[str, datetime], datetime]
    _known: dict[tuple[str, str], Decision] = field(default_factory=dict)

    def ask(self, policy: str, zone: str) -> Decision:
        """Return whether an action may begin on a machine with this policy, in this zone; unknown is no."""
        key = (policy, zone)
        if key not in self._known:
            self._known[key] = self._decide(policy, zone)
        return self._known[key]

    def _decide(self, name: str, zone_name: str) -> Decision:
        try:
            content = self.policies.get(name, {})  # one without a row is the default one
            policy = msgspec.convert(content.get("maintenance", {}), Policy)
            zone = ZoneInfo(content.get("zone") or zone_name)
            of_day = _of_day(policy, zone, self.now.astimezone(UTC).date())
        except (KeyError, ValueError, msgspec.ValidationError, ZoneInfoNotFoundError, OSError):
            why = cause("time-zone-unknown", "The machine's time zone is not known, and windows are in it.")
            return Decision(False, None, None, why)
        found = tuple(each for each in of_day if each.end > self.now)
        if content.get("events"):
            is_open = [each for each in found if each.start <= self.now]
            found = tuple(each for each in found if each not in is_open or (name, each.start) in self.words)
            if is_open and not any(each in found for each in is_open):
                why = cause("window-without-word", "The open window waits for a word.")
                return Decision(False, None, next((each.start for each in found), None), why)
        return may_start(found, self.now, self.needed, joined=not content.get("events"))


@lru_cache(maxsize=4096)
def _of_day(policy: Policy, zone: ZoneInfo, day: date) -> tuple[Interval, ...]:
    """Return windows from a day on: working them out takes a tenth of a second, and a step of a rollout asks often."""
    begin = datetime.combine(day, time(), UTC)
    return intervals(policy, zone, begin, begin + _AHEAD)
