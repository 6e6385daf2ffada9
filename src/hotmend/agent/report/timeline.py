"""What happened on this machine, from all that keeps a record of it, oldest first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from hotmend.agent.record.history import AnyEvent
from hotmend.agent.report.system_log import CrashEvent, UnitEvent
from hotmend.agent.report.telling import pids_of, told, units_of
from hotmend.live.chain import AuditRecord
from hotmend.model.errors import UsageError

_SPAN: Final = re.compile(r"(\d+)\s*(s|m|min|h|d|w)")
_UNITS: Final = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened.

    Attributes:
        at: when, UTC.
        source: `history`, `audit`, `units` or `kernel`.
        text: what, for people.
        units, pids: that it is about.
        line: number of the line of the audit record; 0 for others.
    """

    at: datetime
    source: str
    text: str
    units: frozenset[str] = frozenset()
    pids: frozenset[int] = frozenset()
    line: int = 0


def since_when(text: str, now: datetime) -> datetime:
    """Return the moment that `2h`, `30m`, `3d`, or a date and time mean; without a zone it is the machine's.

    Raises:
        UsageError: it is none of these.
    """
    if found := _SPAN.fullmatch(text.strip()):
        try:
            return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
        except OverflowError:
            return datetime.fromtimestamp(0, UTC)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is neither a span nor a moment", "2h, 30m, 3d, or 2026-11-29T08:00") from None


def merge(
    history: Iterable[AnyEvent],
    audit: Iterable[AuditRecord],
    units: Iterable[UnitEvent],
    crashes: Iterable[CrashEvent],
    since: datetime,
) -> tuple[Entry, ...]:
    """Return all that happened since a moment, oldest first; of one moment the audit record comes first."""
    entries = [*_of_audit(audit), *_of_history(history), *_of_units(units), *_of_kernel(crashes)]
    return tuple(sorted((entry for entry in entries if entry.at >= since), key=lambda entry: entry.at))


def _of_history(events: Iterable[AnyEvent]) -> Iterator[Entry]:
    return (Entry(event.at, "history", told(event), units_of(event), pids_of(event)) for event in events)


def _of_audit(records: Iterable[AuditRecord]) -> Iterator[Entry]:
    for record in records:
        if record.phase == "torn":
            text = f"line {record.number}: a crash cut off the line before it"
        else:
            end = record.outcome or "begins"
            which = ", ".join(record.hotpatches)
            text = f"line {record.number}: {record.deed} of {which} in process {record.pid}: {end}"
        try:
            at = datetime.fromisoformat(record.at)
        except ValueError:
            continue
        yield Entry(at, "audit", text, pids=frozenset({record.pid} - {0}), line=record.number)


def _of_units(events: Iterable[UnitEvent]) -> Iterator[Entry]:
    return (Entry(event.at, "units", str(event), units=frozenset({event.unit})) for event in events)


def _of_kernel(events: Iterable[CrashEvent]) -> Iterator[Entry]:
    return (Entry(event.at, "kernel", str(event), pids=frozenset({event.pid})) for event in events)
