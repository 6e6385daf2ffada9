"""Table of figures over the whole fleet, as they were found last."""

from __future__ import annotations

import sqlalchemy as sa

from hotmend.server.database import Moment, metadata

figures = sa.Table(
    "figures",
    metadata,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("took_ms", sa.Integer, nullable=False),
    sa.Column("claimed_until", Moment),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
"""`body`: JSON; `took_ms`: to make it; `claimed_until`: one of several server processes makes it anew until then.
What is made quickly has no row: it is made whenever it is asked for."""
