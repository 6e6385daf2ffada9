"""When the audit record was read back last, and what was wrong."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Moment

revision = "0018_audit_checks"
down_revision = "0017_token_parents"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "audit_checks",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("wrong", sa.String(length=500), server_default="", nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_checks_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_checks")),
    )
