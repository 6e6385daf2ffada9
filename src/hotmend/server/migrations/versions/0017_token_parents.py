"""Which token made a token, and which one a session began with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017_token_parents"
down_revision = "0016_alerts_by_code"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step. Nobody knows what tokens made that are there; sessions end, and are begun anew with their token."""
    op.execute(sa.text("DELETE FROM sessions"))
    op.add_column("sessions", sa.Column("token_id", sa.String(length=32), nullable=True))
    op.add_column("tokens", sa.Column("parent_id", sa.String(length=32), nullable=True))
    op.create_index(op.f("ix_tokens_parent_id"), "tokens", ["parent_id"], unique=False)
