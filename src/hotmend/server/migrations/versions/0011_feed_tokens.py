"""Tokens that are good for feeds alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011_feed_tokens"
down_revision = "0010_window_ends"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.add_column("tokens", sa.Column("feeds", sa.Boolean(), server_default=sa.false(), nullable=False))
