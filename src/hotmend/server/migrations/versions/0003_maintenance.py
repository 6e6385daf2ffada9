"""Maintenance: configurations, freezes and assignments."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Json, Moment

revision = "0003_maintenance"
down_revision = "0002_rollouts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "configurations",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("changed_by", sa.String(length=200), nullable=False),
        sa.Column("changed_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_configurations")),
    )
    op.create_table(
        "freezes",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("first", sa.Date(), nullable=False),
        sa.Column("last", sa.Date(), nullable=False),
        sa.Column("yearly", sa.Boolean(), nullable=False),
        sa.CheckConstraint("first <= last", name=op.f("ck_freezes_order")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_freezes")),
    )
    op.create_table(
        "assignments",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("configuration", sa.String(length=100), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("machine_id", sa.String(length=32), nullable=True),
        sa.Column("scope", sa.String(length=100), nullable=True),
        sa.Column("tag_name", sa.String(length=100), server_default="", nullable=False),
        sa.Column("tag_value", sa.String(length=200), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["configuration"], ["configurations.name"], name=op.f("fk_assignments_configuration")),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_assignments_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assignments")),
        sa.UniqueConstraint("priority", name=op.f("uq_assignments_priority")),
    )
