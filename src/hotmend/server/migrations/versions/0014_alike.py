"""What makes machines alike is in their own rows, figures are kept, and what ended badly has an index."""

from __future__ import annotations

from itertools import groupby

import msgspec
import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Moment

revision = "0014_alike"
down_revision = "0013_held"
branch_labels = None
depends_on = None

_BAD = sa.text("state IN ('FAILED', 'ROLLED_BACK', 'TIMED_OUT', 'WINDOW_EXCEEDED')")
_PLACES = {"in_memory": "in-memory", "everywhere": "everywhere", "on_disk": "on-disk", "nowhere": "nowhere"}
_ROWS = 1_000
_machines = sa.table("machines", sa.column("id"), sa.column("labels"), sa.column("clock"))
_tags = sa.table("machine_tags", sa.column("machine_id"), sa.column("name"), sa.column("value"))
_reports = sa.table("reports", *map(sa.column, ("machine_id", "zone", *_PLACES, "cves")))
_findings = sa.table("findings", *map(sa.column, ("machine_id", "cve", "fixed")))


def upgrade() -> None:
    """Take the step."""
    op.add_column("machines", sa.Column("labels", sa.Text(), server_default="{}", nullable=False))
    op.add_column("machines", sa.Column("clock", sa.String(length=100), server_default="", nullable=False))
    for name in (*_PLACES, "cves"):
        op.add_column("reports", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "figures",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.Column("claimed_until", Moment(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_figures")),
    )
    op.create_index("ix_actions_bad", "actions", ["changed_at"], sqlite_where=_BAD, postgresql_where=_BAD)
    _fill(op.get_bind())


def _text(tags: dict[str, str]) -> str:
    return msgspec.json.encode(tags, order="deterministic").decode()


def _fill(connection: sa.Connection) -> None:
    zone = sa.select(_reports.c.zone).where(_reports.c.machine_id == _machines.c.id)
    reported = _machines.c.id.in_(sa.select(_reports.c.machine_id))
    connection.execute(sa.update(_machines).where(reported).values(clock=zone.scalar_subquery()))
    own = _findings.c.machine_id == _reports.c.machine_id
    places = {
        column: sa.select(sa.func.count()).select_from(_findings).where(own, _findings.c.fixed == place)
        for column, place in _PLACES.items()
    }
    old = _findings.c.fixed.in_(("on-disk", "nowhere")) & (_findings.c.cve != "")
    cves = sa.select(sa.func.count(_findings.c.cve.distinct())).where(own, old)
    counted = {name: each.correlate(_reports).scalar_subquery() for name, each in (*places.items(), ("cves", cves))}
    found = _reports.c.machine_id.in_(sa.select(_findings.c.machine_id))
    connection.execute(sa.update(_reports).where(found).values(counted))
    query = sa.select(_tags).order_by(_tags.c.machine_id, _tags.c.name)
    rows = [
        {"of": machine, "text": _text({each.name: each.value for each in its})}
        for machine, its in groupby(connection.execute(query).all(), key=lambda row: row.machine_id)
    ]
    change = sa.update(_machines).where(_machines.c.id == sa.bindparam("of")).values(labels=sa.bindparam("text"))
    for first in range(0, len(rows), _ROWS):
        connection.execute(change, rows[first : first + _ROWS])
