"""What the choice of a rollout's machines followed from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021_seeds"
down_revision = "0020_undoes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step. Rollouts that are there were drawn by their ids."""
    op.add_column("rollouts", sa.Column("seed", sa.String(length=64), server_default="", nullable=False))
    op.execute("UPDATE rollouts SET seed = id")
    op.create_index("ix_rollouts_seed", "rollouts", ["seed"], unique=True)
