"""SQL of webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.paging import page
from hotmend.server.rollouts.tables import events, rollouts
from hotmend.server.webhooks.notices import forget_told
from hotmend.server.webhooks.tables import deliveries, notice_outbox, notices, outbox, webhooks

DELIVERIES: Final = 50
"""So many of the last ones are kept for each webhook."""
_OUTBOXES: Final = (outbox, notice_outbox)


def insert(connection: Connection, values: Mapping[str, Any]) -> None:
    """Insert a webhook."""
    connection.execute(sa.insert(webhooks).values(values))


def row(connection: Connection, identity: str) -> RowMapping | None:
    """Return a webhook, with how many events wait for it as `waiting`; None: there is none."""
    return connection.execute(_waiting().where(webhooks.c.id == identity)).mappings().one_or_none()


def webhook_page(connection: Connection, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return webhooks, oldest first, as `row` does, and the cursor of those behind them."""
    return page(connection, _waiting(), ((webhooks.c.created_at, False), (webhooks.c.id, False)), cursor, limit)


def _waiting() -> sa.Select[Any]:
    counts = [
        sa.select(sa.func.count()).where(each.c.webhook_id == webhooks.c.id).scalar_subquery() for each in _OUTBOXES
    ]
    return sa.select(webhooks, (counts[0] + counts[1]).label("waiting"))


def delete(connection: Connection, identity: str) -> bool:
    """Remove a webhook, and what waits for it; False: there is none."""
    found = bool(connection.execute(sa.delete(webhooks).where(webhooks.c.id == identity)).rowcount)
    forget_told(connection)
    return found


def claim(connection: Connection, now: datetime, until: datetime) -> RowMapping | None:
    """Return a webhook for which something waits, and keep all others from it until a moment; None: there is none."""
    waits = sa.or_(*(sa.exists().where(each.c.webhook_id == webhooks.c.id) for each in _OUTBOXES))
    found = sa.select(webhooks.c.id).where(webhooks.c.next_at <= now, waits).order_by(webhooks.c.next_at).limit(1)
    taken = sa.update(webhooks).where(webhooks.c.id == found.scalar_subquery(), webhooks.c.next_at <= now)
    return connection.execute(taken.values(next_at=until).returning(*webhooks.c)).mappings().one_or_none()


def waiting(connection: Connection, identity: str, limit: int) -> list[RowMapping]:
    """Return events of rollouts that a webhook is to be told, oldest first."""
    query = (
        sa.select(events, rollouts.c.name, rollouts.c.state, rollouts.c.lane)
        .join(outbox, outbox.c.event_id == events.c.id)
        .join(rollouts, rollouts.c.id == events.c.rollout_id)
        .where(outbox.c.webhook_id == identity)
        .order_by(events.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).mappings())


def notices_waiting(connection: Connection, identity: str, limit: int) -> list[RowMapping]:
    """Return what else a webhook is to be told, oldest first."""
    query = sa.select(notices).join(notice_outbox, notice_outbox.c.notice_id == notices.c.id)
    found = query.where(notice_outbox.c.webhook_id == identity).order_by(notices.c.id).limit(limit)
    return list(connection.execute(found).mappings())


def settle(
    connection: Connection, identity: str, taken: Sequence[int], noticed: Sequence[int], values: Mapping[str, Any]
) -> bool:
    """Keep how trying went; what was taken is told no more. False: the webhook is gone."""
    if not connection.execute(sa.update(webhooks).where(webhooks.c.id == identity).values(values)).rowcount:
        return False
    which = (outbox.c.webhook_id == identity) & outbox.c.event_id.in_(taken)
    connection.execute(sa.delete(outbox).where(which))
    if noticed:
        which = (notice_outbox.c.webhook_id == identity) & notice_outbox.c.notice_id.in_(noticed)
        connection.execute(sa.delete(notice_outbox).where(which))
        forget_told(connection)
    return True


def insert_delivery(connection: Connection, identity: str, values: Mapping[str, Any]) -> None:
    """Keep what came of a request, and of those before it the last ones."""
    connection.execute(sa.insert(deliveries).values(webhook_id=identity, **values))
    mine = deliveries.c.webhook_id == identity
    last = sa.select(deliveries.c.id).where(mine).order_by(deliveries.c.id.desc()).limit(DELIVERIES)
    connection.execute(sa.delete(deliveries).where(mine, deliveries.c.id.not_in(last)))


def delivery_rows(connection: Connection, identity: str) -> list[RowMapping]:
    """Return the last requests to a webhook, newest first."""
    query = sa.select(deliveries).where(deliveries.c.webhook_id == identity).order_by(deliveries.c.id.desc())
    return list(connection.execute(query).mappings())
