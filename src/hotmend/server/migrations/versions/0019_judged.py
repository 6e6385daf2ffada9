"""When facts were judged last: what a killed server has not judged today is judged by the next one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019_judged"
down_revision = "0018_audit_checks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.add_column("facts", sa.Column("judged", sa.Date(), nullable=True))
