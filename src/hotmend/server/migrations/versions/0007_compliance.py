"""Compliance over time, evidence, how known issues concern machines, and the channels that are followed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Json, Moment

revision = "0007_compliance"
down_revision = "0006_arm"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "channels",
        sa.Column("channel", sa.String(length=100), nullable=False),
        sa.Column("tier", sa.String(length=20), nullable=False),
        sa.Column("source", sa.String(length=1000), nullable=False),
        sa.Column("looked_at", Moment(), nullable=False),
        sa.Column("good_at", Moment(), nullable=True),
        sa.Column("refused", sa.String(length=1000), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("channel", "tier", name=op.f("pk_channels")),
    )
    op.create_table(
        "compliance_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("machines", sa.Integer(), nullable=False),
        sa.Column("silent", sa.Integer(), nullable=False),
        sa.Column("exposed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day", name=op.f("pk_compliance_days")),
    )
    op.create_table(
        "evidence_key",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seed", sa.String(length=64), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_evidence_key_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence_key")),
    )
    op.create_table(
        "channel_releases",
        sa.Column("channel", sa.String(length=100), nullable=False),
        sa.Column("tier", sa.String(length=20), nullable=False),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("kind", sa.String(length=30), nullable=False),
        sa.Column("title", sa.String(length=2000), nullable=False),
        sa.Column("made", Moment(), nullable=False),
        sa.Column("classification", sa.String(length=30), nullable=False),
        sa.Column("urgency", sa.String(length=20), nullable=False),
        sa.Column("requires", sa.String(length=100), nullable=False),
        sa.Column("cves", Json, nullable=False),
        sa.Column("packages", Json, nullable=False),
        sa.Column("issues", Json, nullable=False),
        sa.Column("withdrawn", sa.String(length=2000), nullable=True),
        sa.ForeignKeyConstraint(
            ["channel", "tier"],
            ["channels.channel", "channels.tier"],
            name=op.f("fk_channel_releases_channel_tier"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("channel", "tier", "id", name=op.f("pk_channel_releases")),
    )
    op.create_table(
        "compliance_counts",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("cve", sa.String(length=500), nullable=False),
        sa.Column("machines", sa.Integer(), nullable=False),
        sa.Column("in_memory", sa.Integer(), nullable=False),
        sa.Column("everywhere", sa.Integer(), nullable=False),
        sa.Column("on_disk", sa.Integer(), nullable=False),
        sa.Column("nowhere", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["day"], ["compliance_days.day"], name=op.f("fk_compliance_counts_day"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("day", "cve", name=op.f("pk_compliance_counts")),
    )
    op.create_table(
        "concerns",
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("issue", sa.String(length=100), nullable=False),
        sa.Column("affected", sa.Boolean(), nullable=True),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("overdue", sa.Boolean(), nullable=False),
        sa.Column("proven", sa.Integer(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("facts_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_concerns_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", "issue", name=op.f("pk_concerns")),
    )
    op.create_index("ix_concerns_issue", "concerns", ["issue"], unique=False)
    op.create_table(
        "exposures",
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.String(length=500), nullable=False),
        sa.Column("opened_at", Moment(), nullable=False),
        sa.Column("brings", sa.String(length=500), nullable=False),
        sa.Column("published_at", Moment(), nullable=True),
        sa.Column("closed_at", Moment(), nullable=True),
        sa.Column("how", sa.String(length=20), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_exposures_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", "subject", "opened_at", name=op.f("pk_exposures")),
    )
    op.create_index(op.f("ix_exposures_brings"), "exposures", ["brings"], unique=False)
    op.create_index(op.f("ix_exposures_closed_at"), "exposures", ["closed_at"], unique=False)
    op.create_index("ix_exposures_subject", "exposures", ["subject"], unique=False)
