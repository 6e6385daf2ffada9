"""Tables of compliance over time: what each day found, and from when to when a machine was exposed to what."""

from __future__ import annotations

import sqlalchemy as sa

from hotmend.server.database import Id, Moment, metadata

exposures = sa.Table(
    "exposures",
    metadata,
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("subject", sa.String(500), primary_key=True),
    sa.Column("opened_at", Moment, primary_key=True),
    sa.Column("brings", sa.String(500), nullable=False, index=True),
    sa.Column("published_at", Moment),
    sa.Column("closed_at", Moment, index=True),
    sa.Column("how", sa.String(20), nullable=False, server_default=""),
    sa.Index("ix_exposures_subject", "subject"),
)
"""`subject`: a vulnerability, or an update that names none; `opened_at`, `closed_at`: of the reports that said so;
`published_at`: where whoever reported it knew; `how`: where the fix was at its end, or `gone` where the machine spoke
of it no more."""

days = sa.Table(
    "compliance_days",
    metadata,
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("machines", sa.Integer, nullable=False),
    sa.Column("silent", sa.Integer, nullable=False),
    sa.Column("exposed", sa.Integer, nullable=False),
)
"""One row for each day on which a server looked, and when it did; `silent`: not heard of; `exposed`: with old code."""

counts = sa.Table(
    "compliance_counts",
    metadata,
    sa.Column("day", sa.Date, sa.ForeignKey("compliance_days.day", ondelete="CASCADE"), primary_key=True),
    sa.Column("cve", sa.String(500), primary_key=True),
    sa.Column("machines", sa.Integer, nullable=False),
    sa.Column("in_memory", sa.Integer, nullable=False),
    sa.Column("everywhere", sa.Integer, nullable=False),
    sa.Column("on_disk", sa.Integer, nullable=False),
    sa.Column("nowhere", sa.Integer, nullable=False),
)
"""Of one day and vulnerability ("": updates that name none): machines with old code, and images by where the fix is."""

evidence_key = sa.Table(
    "evidence_key",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seed", sa.String(64), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.CheckConstraint("id = 1", name="one"),
)

concerns = sa.Table(
    "concerns",
    metadata,
    sa.Column("machine_id", Id, sa.ForeignKey("machines.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("issue", sa.String(100), primary_key=True),
    sa.Column("affected", sa.Boolean),
    sa.Column("done", sa.Boolean, nullable=False),
    sa.Column("overdue", sa.Boolean, nullable=False),
    sa.Column("proven", sa.Integer, nullable=False),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("facts_at", Moment, nullable=False),
    sa.Column("title", sa.String(500), nullable=False, server_default=""),
    sa.Index("ix_concerns_issue", "issue"),
)
"""How a known issue concerns a machine, on a day: by the rules and the facts of a moment, or, where `issue` is
RELEASE/NUMBER of a channel, by the report of a moment; `proven` of `steps` of the workaround that has come furthest.
`title`: in the words of that report; "" for an issue of the rules."""
