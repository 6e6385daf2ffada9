"""Windows that stay closed without a word: asked for before they open, answered by people or by what they have made.

Asked is at the check-in of the first machine whose window is near, in the transaction that answers it. Rows of one
configuration are made under a lock of its row, so that two servers never ask twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.database import new_id
from hotmend.server.machines.tables import reports
from hotmend.server.maintenance import store
from hotmend.server.maintenance.tables import window_events
from hotmend.server.paging import page
from hotmend.server.webhooks import notices
from hotmend.servicing.maintenance import Interval, intervals
from hotmend.wire.maintenance import ConfigurationWanted
from hotmend.wire.policy import Policy

SHOWN_MAX: Final = 200
OVER_MAX: Final = 10


def words(
    connection: Connection, now: datetime, name: str, policy: Policy, zones: Collection[str]
) -> dict[str, datetime]:
    """Ask about the windows of a configuration that are near or open, and return what may begin now.

    Args:
        connection: of a transaction that may write.
        now: UTC.
        name: of the configuration.
        policy: made of it.
        zones: of machines that have it.

    Returns:
        zone -> end of the open window, for those whose window has its word.
    """
    row = store.configuration(connection, name, lock=True)
    wanted = msgspec.convert(row["content"], ConfigurationWanted) if row is not None else ConfigurationWanted()
    if not wanted.event_minutes:  # the machine has a policy of before: it gets the one of now in the same answer
        return {}
    found: dict[str, datetime] = {}
    for zone in zones:
        for window in _near(policy, zone, now, timedelta(minutes=wanted.event_minutes)):
            state = _state(connection, name, window, now)
            if state == "allowed" and window.start <= now < window.end:
                found[zone] = window.end
    return found


def zones_of(connection: Connection, ids: Collection[str]) -> dict[str, str]:
    """Return the zones that machines have reported; "" where they have not."""
    found = dict.fromkeys(ids, "")
    query = sa.select(reports.c.machine_id, reports.c.zone).where(reports.c.machine_id.in_(list(ids)))
    return found | {machine: zone or "" for machine, zone in connection.execute(query)}


def _near(policy: Policy, zone: str, now: datetime, before: timedelta) -> tuple[Interval, ...]:
    """Return the windows that are open or open soon; none where nobody knows the zone."""
    try:
        return intervals(policy.maintenance, ZoneInfo(policy.zone or zone), now, now + before)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ()


def _state(connection: Connection, name: str, window: Interval, now: datetime) -> str:
    which = (window_events.c.configuration == name) & (window_events.c.starts_at == window.start)
    state = connection.scalar(sa.select(window_events.c.state).where(which))
    if state is None:
        identity = new_id()
        values = {
            "id": identity,
            "configuration": name,
            "starts_at": window.start,
            "ends_at": window.end,
            "asked_at": now,
            "state": "asked",
        }
        connection.execute(sa.insert(window_events).values(values))
        notices.of_windows(connection, now, "window.opening", _opening(identity, name, window))
        return "asked"
    return str(state)


def _opening(identity: str, name: str, window: Interval) -> Mapping[str, Any]:
    """Return what webhooks are told before a window: how to answer, and until when the word matters."""
    answer = {
        "method": "POST",
        "path": f"/api/v1/maintenance/windows/{identity}/answer",
        "yes": {"allow": True, "reason": ""},
        "no": {"allow": False, "reason": ""},
        "opens_at": window.start.isoformat(),
        "until": window.end.isoformat(),
    }
    return {"window": shown(identity, name, window.start, window.end), "answer": answer}


def shown(identity: str, name: str, start: datetime, end: datetime) -> Mapping[str, Any]:
    """Return by what webhooks know a window."""
    return {"id": identity, "configuration": name, "starts_at": start.isoformat(), "ends_at": end.isoformat()}


def allowed(connection: Connection, now: datetime) -> dict[tuple[str, datetime], datetime]:
    """Return the windows that have their word and are open: configuration and start -> end."""
    is_open = (window_events.c.starts_at <= now) & (window_events.c.ends_at > now)
    found = sa.select(window_events).where(is_open, window_events.c.state == "allowed")
    return {(row["configuration"], row["starts_at"]): row["ends_at"] for row in connection.execute(found).mappings()}


def rows(connection: Connection, now: datetime) -> list[RowMapping]:
    """Return windows that were asked about and are not over, the next one first."""
    found = sa.select(window_events).where(window_events.c.ends_at > now).order_by(window_events.c.starts_at)
    return list(connection.execute(found.limit(SHOWN_MAX)).mappings())


def asked_page(connection: Connection, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return windows that were asked about, the latest first, and the cursor of those behind them."""
    order = (window_events.c.starts_at, True), (window_events.c.id, False)
    return page(connection, sa.select(window_events), order, cursor, limit)


def over(connection: Connection) -> list[RowMapping]:
    """Return the last windows that were closed, the latest first, with what came of them."""
    found = sa.select(window_events).where(window_events.c.closed_at.is_not(None))
    return list(connection.execute(found.order_by(window_events.c.starts_at.desc()).limit(OVER_MAX)).mappings())


def row(connection: Connection, identity: str) -> RowMapping | None:
    """Return a window that was asked about, locked; None: there is none."""
    found = sa.select(window_events).where(window_events.c.id == identity).with_for_update()
    return connection.execute(found).mappings().one_or_none()


def answer(connection: Connection, identity: str, state: str, by: str, reason: str) -> RowMapping:
    """Write the word down, and return the row as it is then."""
    values = {"state": state, "by": by, "reason": reason}
    changed = sa.update(window_events).where(window_events.c.id == identity).values(values)
    return connection.execute(changed.returning(window_events)).mappings().one()
