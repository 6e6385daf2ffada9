"""What feeds show: releases of followed channels and of the shipped calendar, windows, freezes, planned rollouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.reference.feeds import Span, channel_release
from hotmend.reference.shipped import shipped_releases
from hotmend.server.machines.tables import policies
from hotmend.server.maintenance import store as maintenance
from hotmend.server.releases import store as releases
from hotmend.server.rollouts.tables import rollouts
from hotmend.servicing.maintenance import Policy, intervals
from hotmend.servicing.releases import Kind, Release

Say = Callable[[str], str]
"""Returns a text in the reader's language."""
AHEAD: Final = timedelta(days=92)
BEHIND: Final = timedelta(days=366)
"""So much of what is over is shown, of releases."""
SPANS_MAX: Final = 5000


def followed(connection: Connection) -> list[Release]:
    """Return the releases of the channels that are followed, as rows of a calendar."""
    return [
        channel_release(
            f"{row['channel']} ({row['tier']})",
            row["id"],
            Kind(row["kind"]),
            row["made"],
            title=row["title"],
            requires=row["requires"],
            withdrawn=row["withdrawn"],
            source=row["channel"],
        )
        for row in releases.all_releases(connection)
    ]


def calendar(connection: Connection, now: datetime) -> list[Release]:
    """Return releases of the last year and those that are planned: of followed channels, and shipped ones."""
    since = (now - BEHIND).date()
    return [each for each in (*followed(connection), *shipped_releases()) if each.day >= since]


def spans(connection: Connection, now: datetime, say: Say) -> list[Span]:
    """Return what takes place in the fleet in the next time."""
    found = (*_freezes(connection, say), *_rollouts(connection, say), *_windows(connection, now, say))
    return list(islice(found, SPANS_MAX))


def _windows(connection: Connection, now: datetime, say: Say) -> Iterator[Span]:
    """Yield windows: in UTC where a configuration has a zone, as wall-clock times where it is that of each machine."""
    for row in connection.execute(sa.select(policies.c.name, policies.c.content).order_by(policies.c.name)):
        if row.name.startswith("."):  # the server's own
            continue
        content: dict[str, Any] = row.content
        policy = msgspec.convert(content.get("maintenance", {}), Policy, strict=False)
        try:
            found = intervals(policy, ZoneInfo(content.get("zone") or "UTC"), now, now + AHEAD)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
        zone = content.get("zone") or say("the zone of each machine")
        lines = [f"{say('time zone')}: {zone}"]
        if content.get("events"):
            lines.append(say("It stays closed without a word."))
        for each in found:
            start, end = each.start, each.end
            if not content.get("zone"):
                start, end = start.replace(tzinfo=None), end.replace(tzinfo=None)
            title = f"{say('Maintenance window')}: {row.name} ({each.name})"
            yield Span(f"window-{row.name}-{start.isoformat()}", title, "\n".join(lines), start, end)


def _freezes(connection: Connection, say: Say) -> Iterator[Span]:
    for row in maintenance.freeze_rows(connection):
        title = f"{say('Freeze')}: {row['name']}"
        end = row["last"] + timedelta(days=1)
        text = say("Nothing is installed on these days.")
        yield Span(f"freeze-{row['name']}", title, text, row["first"], end, yearly=row["yearly"])


def _rollouts(connection: Connection, say: Say) -> Iterator[Span]:
    planned = sa.select(rollouts.c.id, rollouts.c.name, rollouts.c.start_at).where(rollouts.c.start_at.is_not(None))
    for row in connection.execute(planned.order_by(rollouts.c.start_at)):
        title = f"{say('Rollout begins')}: {row.name}"
        yield Span(f"rollout-{row.id}", title, "", row.start_at, row.start_at + timedelta(hours=1))
