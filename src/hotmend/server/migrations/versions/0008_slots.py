"""Restart slots, what an action may reboot, and rollouts that begin by themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Moment

revision = "0008_slots"
down_revision = "0007_compliance"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "restart_slots",
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("pool", sa.String(length=100), nullable=False),
        sa.Column("taken_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_restart_slots_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_restart_slots")),
    )
    op.create_index(op.f("ix_restart_slots_pool"), "restart_slots", ["pool"])
    op.add_column("actions", sa.Column("reboot", sa.String(length=20), server_default="", nullable=False))
    op.add_column("rollouts", sa.Column("start_at", Moment(), nullable=True))
