"""Since when a machine is held that has not begun."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Moment

revision = "0013_held"
down_revision = "0012_wire"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.add_column("rollout_members", sa.Column("held_since", Moment(), nullable=True))
