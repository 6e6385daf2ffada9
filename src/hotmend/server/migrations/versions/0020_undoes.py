"""Which action a revert is about, and how often one was tried."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Id

revision = "0020_undoes"
down_revision = "0019_judged"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step. A revert that is under way goes on as it was made; it is the first one of its machine."""
    op.add_column("actions", sa.Column("undoes", Id, nullable=True))
    op.add_column("rollout_members", sa.Column("reverts", sa.Integer(), server_default="0", nullable=False))
    op.execute("UPDATE rollout_members SET reverts = 1 WHERE revert_id IS NOT NULL")
