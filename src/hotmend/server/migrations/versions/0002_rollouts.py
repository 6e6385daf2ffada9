"""Rollouts: who belongs to which ring, who has approved, and what happened."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Json, Moment

revision = "0002_rollouts"
down_revision = "0001_first"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("lane", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=30), nullable=False),
        sa.Column("spec", Json, nullable=False),
        sa.Column("plan", sa.String(length=64), nullable=False),
        sa.Column("failed_at", Moment(), nullable=True),
        sa.Column("why", Json, nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("changed_at", Moment(), nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.CheckConstraint("lane IN ('normal', 'zero-day')", name=op.f("ck_rollouts_lane")),
        sa.CheckConstraint(
            "state IN ('CREATING', 'WAITING_FOR_APPROVAL', 'READY', 'STARTING', 'RUNNING', 'PAUSED', 'STOPPING', 'STOPPED', 'FINISHED', 'ROLLING_BACK', 'ROLLED_BACK')",
            name=op.f("ck_rollouts_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollouts")),
    )
    op.create_index(op.f("ix_rollouts_state"), "rollouts", ["state"], unique=False)
    op.create_table(
        "rollout_approvals",
        sa.Column("rollout_id", sa.String(length=32), nullable=False),
        sa.Column("person", sa.String(length=100), nullable=False),
        sa.Column("plan", sa.String(length=64), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_approvals_rollout_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rollout_id", "person", "plan", name=op.f("pk_rollout_approvals")),
    )
    op.create_table(
        "rollout_gates",
        sa.Column("rollout_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("until", Moment(), nullable=False),
        sa.Column("by", sa.String(length=200), server_default="", nullable=False),
        sa.Column("reason", sa.String(length=500), server_default="", nullable=False),
        sa.CheckConstraint("kind IN ('pre', 'post')", name=op.f("ck_rollout_gates_kind")),
        sa.CheckConstraint("state IN ('waiting', 'allowed', 'denied')", name=op.f("ck_rollout_gates_state")),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_gates_rollout_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rollout_id", "number", "kind", name=op.f("pk_rollout_gates")),
    )
    op.create_table(
        "rollout_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("rollout_id", sa.String(length=32), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("who", sa.String(length=200), nullable=False),
        sa.Column("what", sa.String(length=40), nullable=False),
        sa.Column("group_number", sa.Integer(), nullable=True),
        sa.Column("why", Json, nullable=False),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_events_rollout_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout_events")),
    )
    op.create_index("ix_rollout_events_rollout_id_id", "rollout_events", ["rollout_id", "id"], unique=False)
    op.create_table(
        "rollout_groups",
        sa.Column("rollout_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("why", Json, nullable=False),
        sa.Column("began_at", Moment(), nullable=True),
        sa.Column("quiet_since", Moment(), nullable=True),
        sa.Column("judged", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.CheckConstraint(
            "state IN ('CREATING', 'READY', 'SCHEDULED', 'RUNNING', 'SOAKING', 'FINISHED', 'ERROR')",
            name=op.f("ck_rollout_groups_state"),
        ),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_groups_rollout_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rollout_id", "number", name=op.f("pk_rollout_groups")),
        sa.UniqueConstraint("id", name=op.f("uq_rollout_groups_id")),
    )
    op.create_table(
        "rollout_members",
        sa.Column("rollout_id", sa.String(length=32), nullable=False),
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("late", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("held", sa.String(length=40), server_default="", nullable=False),
        sa.Column("alerts", sa.Integer(), nullable=True),
        sa.Column("action_id", sa.String(length=32), nullable=True),
        sa.Column("revert_id", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_rollout_members_machine_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_members_rollout_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rollout_id", "machine_id", name=op.f("pk_rollout_members")),
    )
    op.create_index(op.f("ix_rollout_members_action_id"), "rollout_members", ["action_id"], unique=False)
    op.create_index(
        "ix_rollout_members_waiting", "rollout_members", ["rollout_id", "number", "action_id", "place"], unique=False
    )
