"""Tables of maintenance configurations, freezes and assignments. What machines are told is made of them: `policies`."""

from __future__ import annotations

import sqlalchemy as sa

from hotmend.server.database import Id, Json, Moment, metadata

configurations = sa.Table(
    "configurations",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("content", Json, nullable=False),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("changed_by", sa.String(200), nullable=False),
    sa.Column("changed_at", Moment, nullable=False),
)

freezes = sa.Table(
    "freezes",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("first", sa.Date, nullable=False),
    sa.Column("last", sa.Date, nullable=False),
    sa.Column("yearly", sa.Boolean, nullable=False),
    sa.CheckConstraint(sa.column("first") <= sa.column("last"), name="order"),
)
"""Days on which nothing is installed anywhere."""

assignments = sa.Table(
    "assignments",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("configuration", sa.String(100), sa.ForeignKey("configurations.name"), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False, unique=True),
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE")),
    sa.Column("scope", sa.String(100)),
    sa.Column("tag_name", sa.String(100), nullable=False, server_default=""),
    sa.Column("tag_value", sa.String(200), nullable=False, server_default=""),
)
"""Of those that fit a machine the one of the highest priority counts; of none, the policy `default`."""

slots = sa.Table(
    "restart_slots",
    metadata,
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("pool", sa.String(100), nullable=False, index=True),
    sa.Column("taken_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
)
"""Machines that restart something now; `pool`: the configuration whose slots they are."""

window_events = sa.Table(
    "window_events",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column(
        "configuration", sa.String(100), sa.ForeignKey("configurations.name", ondelete="CASCADE"), nullable=False
    ),
    sa.Column("starts_at", Moment, nullable=False),
    sa.Column("ends_at", Moment, nullable=False),
    sa.Column("asked_at", Moment, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("by", sa.String(200), nullable=False, server_default=""),
    sa.Column("reason", sa.String(500), nullable=False, server_default=""),
    sa.Column("closed_at", Moment, index=True),
    sa.Column("outcome", Json),
    sa.UniqueConstraint("configuration", "starts_at"),
)
"""Windows that stay closed without a word: one row for all machines whose window begins at this moment.

`closed_at`: it was over then, and so was what had begun in it; `outcome`: what came of that.
"""
