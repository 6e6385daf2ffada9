"""Tables of webhooks. What is to be told is a row from the transaction in which it happened, until it was taken."""

from __future__ import annotations

import sqlalchemy as sa

from hotmend.server.database import Id, Json, Moment, metadata, new_id

_Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")

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
    sa.Column("rollouts", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("windows", sa.Boolean, nullable=False, server_default=sa.false()),
)
"""`next_at`: nobody tries before; whoever tries moves it on first, so that no two servers do.

`rollouts`, `windows`: of what it is told.
"""

outbox = sa.Table(
    "webhook_outbox",
    metadata,
    sa.Column("webhook_id", Id, sa.ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column(
        "event_id",
        _Number,
        sa.ForeignKey("rollout_events.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
)
"""Events of rollouts that a webhook has not taken."""

notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("what", sa.String(40), nullable=False),
    sa.Column("content", Json, nullable=False),
    sa.Column("told_as", Id, nullable=False, server_default="", default=new_id),
)
"""What is told and is no event of a rollout; it is gone when all have taken it, and then SQLite gives `id` out again.

`told_as`: its id for webhooks.
"""

notice_outbox = sa.Table(
    "notice_outbox",
    metadata,
    sa.Column("webhook_id", Id, sa.ForeignKey("webhooks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column(
        "notice_id",
        _Number,
        sa.ForeignKey("notices.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
)
"""Notices that a webhook has not taken."""

deliveries = sa.Table(
    "webhook_deliveries",
    metadata,
    sa.Column("id", _Number, primary_key=True),
    sa.Column("webhook_id", Id, sa.ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("events", sa.Integer, nullable=False),
    sa.Column("taken", sa.Boolean, nullable=False),
    sa.Column("outcome", sa.String(500), nullable=False),
)
"""The last requests to each webhook."""
