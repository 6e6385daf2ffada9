"""Long calls of Azure Resource Manager's routes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Json, Moment

revision = "0006_arm"
down_revision = "0005_webhooks"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "arm_calls",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("counts", Json, nullable=False),
        sa.Column("state", sa.String(length=10), server_default="InProgress", nullable=False),
        sa.Column("why", sa.String(length=2000), server_default="", nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.CheckConstraint("kind IN ('assess', 'install', 'enable', 'disable')", name=op.f("ck_arm_calls_kind")),
        sa.CheckConstraint(
            "state IN ('InProgress', 'Succeeded', 'Failed', 'Canceled')", name=op.f("ck_arm_calls_state")
        ),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_arm_calls_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_arm_calls")),
        sa.UniqueConstraint("id", name=op.f("uq_arm_calls_id")),
    )
    op.create_index("ix_arm_calls_machine_id_number", "arm_calls", ["machine_id", "number"])
