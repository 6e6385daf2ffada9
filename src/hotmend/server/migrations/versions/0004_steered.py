"""When a rollout was steered last: what an alert goes by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Moment

revision = "0004_steered"
down_revision = "0003_maintenance"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.add_column("rollouts", sa.Column("steered_at", Moment(), nullable=True))
