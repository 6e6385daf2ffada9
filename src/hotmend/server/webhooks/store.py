"""SQL of webhooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.rollouts.tables import events, rollouts
from hotmend.server.webhooks.tables import outbox, webhooks


def insert(connection: Connection, values: Mapping[str, Any]) -> None:
    """Insert a webhook."""
    connection.execute(sa.insert(webhooks).values(values))


def rows(connection: Connection) -> list[RowMapping]:
    """Return all webhooks, oldest first, each with how many events wait for it as `waiting`."""
    count = sa.select(sa.func.count()).where(outbox.c.webhook_id == webhooks.c.id).scalar_subquery()
    query = sa.select(webhooks, count.label("waiting")).order_by(webhooks.c.created_at, webhooks.c.id)
    return list(connection.execute(query).mappings())


def delete(connection: Connection, identity: str) -> bool:
    """Remove a webhook; False: there is none."""
    return bool(connection.execute(sa.delete(webhooks).where(webhooks.c.id == identity)).rowcount)


def claim(connection: Connection, now: datetime, until: datetime) -> RowMapping | None:
    """Return a webhook for which something waits, and keep all others from it until a moment; None: there is none."""
    waits = sa.exists().where(outbox.c.webhook_id == webhooks.c.id)
    found = sa.select(webhooks.c.id).where(webhooks.c.next_at <= now, waits).order_by(webhooks.c.next_at).limit(1)
    taken = sa.update(webhooks).where(webhooks.c.id == found.scalar_subquery(), webhooks.c.next_at <= now)
    return connection.execute(taken.values(next_at=until).returning(*webhooks.c)).mappings().one_or_none()


def waiting(connection: Connection, identity: str, limit: int) -> list[RowMapping]:
    """Return what a webhook is to be told, oldest first."""
    query = (
        sa.select(events, rollouts.c.name, rollouts.c.state, rollouts.c.lane)
        .join(outbox, outbox.c.event_id == events.c.id)
        .join(rollouts, rollouts.c.id == events.c.rollout_id)
        .where(outbox.c.webhook_id == identity)
        .order_by(events.c.id)
        .limit(limit)
    )
    return list(connection.execute(query).mappings())


def settle(connection: Connection, identity: str, taken: Sequence[int], values: Mapping[str, Any]) -> None:
    """Keep how trying went; what was taken is told no more."""
    which = (outbox.c.webhook_id == identity) & outbox.c.event_id.in_(taken)
    connection.execute(sa.delete(outbox).where(which))
    connection.execute(sa.update(webhooks).where(webhooks.c.id == identity).values(values))
