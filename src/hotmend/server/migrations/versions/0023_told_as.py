"""Ids by which webhooks know what they are told: numbers of rows come again, and these do not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023_told_as"
down_revision = "0022_issues"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step. What waits is told by another id than before: twice rather than never, as its number may be old."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    random = "lower(hex(randomblob(16)))" if sqlite else "replace(gen_random_uuid()::text, '-', '')"
    for table in ("rollout_events", "notices"):
        op.add_column(table, sa.Column("told_as", sa.String(length=32), server_default="", nullable=False))
        op.execute(f"UPDATE {table} SET told_as = {random}")  # noqa: S608 - of names that stand here
