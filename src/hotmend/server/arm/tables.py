"""The table of long calls. What one of them makes a machine do is an action; here is who asked, and what came of it."""

from __future__ import annotations

import sqlalchemy as sa

from hotmend.server.database import Id, Json, Moment, metadata

KINDS = ("assess", "install", "enable", "disable")
STATES = ("InProgress", "Succeeded", "Failed", "Canceled")

calls = sa.Table(
    "arm_calls",
    metadata,
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("id", Id, nullable=False, unique=True),
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), nullable=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("by", sa.String(200), nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("counts", Json, nullable=False),
    sa.Column("state", sa.String(10), nullable=False, server_default="InProgress"),
    sa.Column("why", sa.String(2000), nullable=False, server_default=""),
    sa.Column("ended_at", Moment),
    sa.CheckConstraint(sa.column("kind").in_(KINDS), name="kind"),
    sa.CheckConstraint(sa.column("state").in_(STATES), name="state"),
    sa.Index("ix_arm_calls_machine_id_number", "machine_id", "number"),
)
"""`id`: of the action, where there is one; `counts`: updates that an installation left out; state, why and end are of
`enable` and `disable` alone: an action has its own."""
