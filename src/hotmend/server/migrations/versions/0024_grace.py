"""Until when no silence of machines is judged, as nobody steered their rollout before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Moment

revision = "0024_grace"
down_revision = "0023_told_as"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step. A rollout that runs has its grace by when it was steered last, as after any other outage."""
    op.add_column("rollouts", sa.Column("grace_until", Moment(), nullable=True))
