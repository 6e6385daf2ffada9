"""What machines report of known issues: their titles, and the reports of those that spoke to an older server."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022_issues"
down_revision = "0021_seeds"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step.

    A server that knew nothing of issues left them out of a report and kept the hash by which the agent knows it, so that
    a newer one would never ask for what is missing. Without a hash each machine is asked once, when it checks in next.
    Check-ins are spread over their interval, and the reports with them: each costs what one that has changed does.
    """
    op.add_column("concerns", sa.Column("title", sa.String(length=500), server_default="", nullable=False))
    op.execute("UPDATE contacts SET report_hash = '' WHERE report_hash <> ''")
