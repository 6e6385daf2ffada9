"""What came of windows, and webhooks that are told of windows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Json, Moment

revision = "0010_window_ends"
down_revision = "0009_window_events"
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Take the step. Webhooks that are there go on with what they were made for: rollouts alone."""
    op.add_column("window_events", sa.Column("closed_at", Moment(), nullable=True))
    op.add_column("window_events", sa.Column("outcome", Json, nullable=True))
    op.create_index(op.f("ix_window_events_closed_at"), "window_events", ["closed_at"], unique=False)
    op.add_column("webhooks", sa.Column("rollouts", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("webhooks", sa.Column("windows", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_table(
        "notices",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("what", sa.String(length=40), nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )
    op.create_table(
        "notice_outbox",
        sa.Column("webhook_id", sa.String(length=32), nullable=False),
        sa.Column("notice_id", _NUMBER, autoincrement=False, nullable=False),
        sa.ForeignKeyConstraint(
            ["notice_id"], ["notices.id"], name=op.f("fk_notice_outbox_notice_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_notice_outbox_webhook_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("webhook_id", "notice_id", name=op.f("pk_notice_outbox")),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("webhook_id", sa.String(length=32), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("events", sa.Integer(), nullable=False),
        sa.Column("taken", sa.Boolean(), nullable=False),
        sa.Column("outcome", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_deliveries_webhook_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(op.f("ix_webhook_deliveries_webhook_id"), "webhook_deliveries", ["webhook_id"], unique=False)
