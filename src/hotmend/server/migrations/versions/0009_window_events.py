"""Windows that stay closed without a word."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Moment

revision = "0009_window_events"
down_revision = "0008_slots"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "window_events",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("configuration", sa.String(length=100), nullable=False),
        sa.Column("starts_at", Moment(), nullable=False),
        sa.Column("ends_at", Moment(), nullable=False),
        sa.Column("asked_at", Moment(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("by", sa.String(length=200), server_default="", nullable=False),
        sa.Column("reason", sa.String(length=500), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["configuration"],
            ["configurations.name"],
            name=op.f("fk_window_events_configuration"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_window_events")),
        sa.UniqueConstraint("configuration", "starts_at", name=op.f("uq_window_events_configuration_starts_at")),
    )
