"""Tables of the signed channels that a server follows: what each offered when it was looked at last."""

from __future__ import annotations

import sqlalchemy as sa

from hotmend.server.database import Json, Moment, metadata

channels = sa.Table(
    "channels",
    metadata,
    sa.Column("channel", sa.String(100), primary_key=True),
    sa.Column("tier", sa.String(20), primary_key=True),
    sa.Column("source", sa.String(1000), nullable=False),
    sa.Column("looked_at", Moment, nullable=False),
    sa.Column("good_at", Moment),
    sa.Column("refused", sa.String(1000), nullable=False, server_default=""),
)
"""`looked_at`: last try; `good_at`: last time that what it says was verified; `refused`: why it was not since."""

releases = sa.Table(
    "channel_releases",
    metadata,
    sa.Column("channel", sa.String(100), primary_key=True),
    sa.Column("tier", sa.String(20), primary_key=True),
    sa.Column("id", sa.String(100), primary_key=True),
    sa.Column("kind", sa.String(30), nullable=False),
    sa.Column("title", sa.String(2000), nullable=False),
    sa.Column("made", Moment, nullable=False),
    sa.Column("classification", sa.String(30), nullable=False),
    sa.Column("urgency", sa.String(20), nullable=False),
    sa.Column("requires", sa.String(100), nullable=False),
    sa.Column("cves", Json, nullable=False),
    sa.Column("packages", Json, nullable=False),
    sa.Column("issues", Json, nullable=False),
    sa.Column("withdrawn", sa.String(2000)),
    sa.ForeignKeyConstraint(["channel", "tier"], ["channels.channel", "channels.tier"], ondelete="CASCADE"),
)
"""`packages`: [name, old version, new version]; `issues`: known ones; `withdrawn`: why, None for one that stands."""
