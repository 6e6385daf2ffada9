"""When machines were looked at last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Moment

revision = "0015_looks"
down_revision = "0014_alike"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step. It is not known of machines until they say so."""
    op.add_column("contacts", sa.Column("looked_at", Moment(), nullable=True))
    op.add_column("contacts", sa.Column("look_by", Moment(), nullable=True))
