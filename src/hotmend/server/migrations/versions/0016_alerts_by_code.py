"""Alerts by their codes, and the look at the end of a soak."""

from __future__ import annotations

import json
from typing import Final

import sqlalchemy as sa
from alembic import op

revision = "0016_alerts_by_code"
down_revision = "0015_looks"
branch_labels = None
depends_on = None

_DUE: Final = {"update-waiting", "restart-due", "reboot-due", "fixed-in-memory-old-on-disk"}
_ID: Final = sa.String(length=32)


def upgrade() -> None:
    """Take the step. Of a machine that is being changed it is not known which alerts it had: those it has now."""
    op.create_table(
        "machine_alerts",
        sa.Column("machine_id", _ID, nullable=False),
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_machine_alerts_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", "code", name=op.f("pk_machine_alerts")),
    )
    op.create_table(
        "rollout_member_alerts",
        sa.Column("rollout_id", _ID, nullable=False),
        sa.Column("machine_id", _ID, nullable=False),
        sa.Column("code", sa.String(length=100), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_rollout_member_alerts_machine_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["rollout_id"], ["rollouts.id"], name=op.f("fk_rollout_member_alerts_rollout_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("rollout_id", "machine_id", "code", name=op.f("pk_rollout_member_alerts")),
    )
    _fill(op.get_bind())
    op.drop_column("rollout_members", "alerts")
    op.add_column("rollout_members", sa.Column("look_id", _ID, nullable=True))


def _fill(connection: sa.Connection) -> None:
    reports = sa.table("reports", sa.column("machine_id"), sa.column("body"), sa.column("alerts"))
    alerts = sa.table("machine_alerts", sa.column("machine_id"), sa.column("code"))
    rows = [
        {"machine_id": machine, "code": code}
        for machine, body in connection.execute(
            sa.select(reports.c.machine_id, reports.c.body).where(reports.c.alerts > 0)
        )
        for code in sorted({str(each["code"])[:100] for each in json.loads(body).get("alerts", ())} - _DUE)
    ]
    for start in range(0, len(rows), 500):
        connection.execute(sa.insert(alerts), rows[start : start + 500])
    op.execute(
        "INSERT INTO rollout_member_alerts (rollout_id, machine_id, code)"
        " SELECT m.rollout_id, m.machine_id, a.code FROM rollout_members m"
        " JOIN machine_alerts a ON a.machine_id = m.machine_id WHERE m.alerts > 0"
    )
