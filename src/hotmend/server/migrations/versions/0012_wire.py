"""The wire version that an agent says."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012_wire"
down_revision = "0011_feed_tokens"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.add_column("contacts", sa.Column("wire", sa.Integer(), server_default="1", nullable=False))
