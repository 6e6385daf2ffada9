"""Tables of webhooks. What is to be told is a row from the transaction in which it happened, until it was taken."""

from __future__ import annotations

import sqlalchemy as sa

from hotmend.server.database import Id, Moment, metadata

webhooks = sa.Table(
    "webhooks",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("url", sa.String(2000), nullable=False),
    sa.Column("secret", sa.String(100), nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("next_at", Moment, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
    sa.Column("last", sa.String(500), nullable=False, server_default=""),
)
"""`next_at`: nobody tries before; whoever tries moves it on first, so that no two servers do."""

outbox = sa.Table(
    "webhook_outbox",
    metadata,
    sa.Column("webhook_id", Id, sa.ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column(
        "event_id",
        sa.BigInteger().with_variant(sa.Integer, "sqlite"),
        sa.ForeignKey("rollout_events.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
)
