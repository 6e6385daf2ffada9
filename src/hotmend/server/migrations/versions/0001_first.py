"""The first schema: users and keys, machines and what they say and do, the audit record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from hotmend.server.database import Json, Moment

revision = "0001_first"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Take the step."""
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("actor", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_action"), "audit", ["action"], unique=False)
    op.create_index(op.f("ix_audit_subject"), "audit", ["subject"], unique=False)
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_audit_head_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "brake",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("halted", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_brake_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_brake")),
    )
    op.create_table(
        "idempotency",
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_at"), "idempotency", ["created_at"], unique=False)
    op.create_table(
        "policies",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("content", Json, nullable=False),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("issued_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_policies")),
    )
    op.create_table(
        "registration_keys",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=20), nullable=False),
        sa.Column("tags", Json, nullable=False),
        sa.Column("approval", sa.Boolean(), nullable=False),
        sa.Column("uses_max", sa.Integer(), nullable=True),
        sa.Column("uses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_by", sa.String(length=100), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=True),
        sa.Column("revoked_at", Moment(), nullable=True),
        sa.CheckConstraint("uses_max IS NULL OR uses <= uses_max", name=op.f("ck_registration_keys_uses")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registration_keys")),
        sa.UniqueConstraint("hash", name=op.f("uq_registration_keys_hash")),
    )
    op.create_table(
        "scopes",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("query", Json, nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scopes")),
        sa.UniqueConstraint("name", name=op.f("uq_scopes_name")),
    )
    op.create_table(
        "server_keys",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seed", sa.String(length=64), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_server_keys_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_server_keys")),
    )
    op.create_table(
        "setup",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_setup_one")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_setup")),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("password", sa.String(length=200), server_default="", nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("disabled_at", Moment(), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'approver', 'admin')", name=op.f("ck_users_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "machines",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=253), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("why", sa.String(length=500), server_default="", nullable=False),
        sa.Column("platform", sa.String(length=20), nullable=False),
        sa.Column("tier", sa.String(length=20), nullable=False),
        sa.Column("public_key", sa.String(length=64), nullable=True),
        sa.Column("host_machine", sa.String(length=64), nullable=False),
        sa.Column("host_hardware", sa.String(length=64), server_default="", nullable=False),
        sa.Column("registration_key_id", sa.String(length=32), nullable=True),
        sa.Column("registered_at", Moment(), nullable=False),
        sa.Column("approved_at", Moment(), nullable=True),
        sa.Column("left_at", Moment(), nullable=True),
        sa.Column("policy", sa.String(length=100), server_default="default", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.CheckConstraint("state IN ('pending', 'active', 'suspect', 'left')", name=op.f("ck_machines_state")),
        sa.ForeignKeyConstraint(
            ["registration_key_id"], ["registration_keys.id"], name=op.f("fk_machines_registration_key_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_machines")),
        sa.UniqueConstraint("public_key", name=op.f("uq_machines_public_key")),
    )
    op.create_index(op.f("ix_machines_host_machine"), "machines", ["host_machine"], unique=False)
    op.create_index(op.f("ix_machines_name"), "machines", ["name"], unique=False)
    op.create_index(op.f("ix_machines_state"), "machines", ["state"], unique=False)
    op.create_table(
        "sessions",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_sessions")),
    )
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=True),
        sa.Column("revoked_at", Moment(), nullable=True),
        sa.CheckConstraint("role IN ('viewer', 'operator', 'approver', 'admin')", name=op.f("ck_tokens_role")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_tokens_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
    )
    op.create_index(op.f("ix_tokens_user_id"), "tokens", ["user_id"], unique=False)
    op.create_table(
        "actions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("updates", Json, nullable=False),
        sa.Column("anytime", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("emergency", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("disk", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("reason", sa.String(length=500), server_default="", nullable=False),
        sa.Column("state", sa.String(length=30), server_default="SCHEDULED", nullable=False),
        sa.Column("detail", sa.String(length=2000), server_default="", nullable=False),
        sa.Column("rollout_id", sa.String(length=32), nullable=True),
        sa.Column("group_id", sa.String(length=32), nullable=True),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("due_at", Moment(), nullable=False),
        sa.Column("until", Moment(), nullable=True),
        sa.Column("handed_at", Moment(), nullable=True),
        sa.Column("changed_at", Moment(), nullable=False),
        sa.CheckConstraint(
            "state IN ('SCHEDULED', 'WAITING_WINDOW', 'PRECHECK', 'PRE_EVENT', 'DOWNLOADING', 'VERIFYING', 'APPLYING', 'HEALTH_CHECK', 'WAITING_SLOT', 'RESTARTING', 'RECOVERING', 'POST_EVENT', 'SUCCEEDED', 'SUCCEEDED_WITH_WARNINGS', 'FAILED', 'ROLLED_BACK', 'CANCELED', 'TIMED_OUT', 'WINDOW_EXCEEDED', 'BLOCKED', 'NOT_APPLICABLE', 'ALREADY_INSTALLED')",
            name=op.f("ck_actions_state"),
        ),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_actions_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_actions")),
    )
    op.create_index(
        "ix_actions_open",
        "actions",
        ["machine_id", "due_at"],
        unique=False,
        sqlite_where=sa.text(
            "state NOT IN ('ALREADY_INSTALLED', 'BLOCKED', 'CANCELED', 'FAILED', 'NOT_APPLICABLE', 'ROLLED_BACK', 'SUCCEEDED', 'SUCCEEDED_WITH_WARNINGS', 'TIMED_OUT', 'WINDOW_EXCEEDED')"
        ),
        postgresql_where=sa.text(
            "state NOT IN ('ALREADY_INSTALLED', 'BLOCKED', 'CANCELED', 'FAILED', 'NOT_APPLICABLE', 'ROLLED_BACK', 'SUCCEEDED', 'SUCCEEDED_WITH_WARNINGS', 'TIMED_OUT', 'WINDOW_EXCEEDED')"
        ),
    )
    op.create_index(op.f("ix_actions_rollout_id"), "actions", ["rollout_id"], unique=False)
    op.create_table(
        "contacts",
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("counter", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("signed_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seen_at", Moment(), nullable=True),
        sa.Column("boot", sa.String(length=64), server_default="", nullable=False),
        sa.Column("agent", sa.String(length=100), server_default="", nullable=False),
        sa.Column("report_hash", sa.String(length=64), server_default="", nullable=False),
        sa.Column("policy", sa.String(length=64), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_contacts_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_contacts")),
        postgresql_with={"fillfactor": 70},
    )
    op.create_table(
        "facts",
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["machine_id"], ["machines.id"], name=op.f("fk_facts_machine_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_facts")),
    )
    op.create_table(
        "findings",
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cve", sa.String(length=500), nullable=False),
        sa.Column("fixed", sa.String(length=20), nullable=False),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("comm", sa.String(length=500), nullable=False),
        sa.Column("unit", sa.String(length=500), nullable=False),
        sa.Column("image", sa.String(length=500), nullable=False),
        sa.Column("brings", sa.String(length=500), nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_findings_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", "number", name=op.f("pk_findings")),
    )
    op.create_index(op.f("ix_findings_cve"), "findings", ["cve"], unique=False)
    op.create_table(
        "machine_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.String(length=2000), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_machine_events_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_machine_events")),
    )
    op.create_index("ix_machine_events_machine_id_id", "machine_events", ["machine_id", "id"], unique=False)
    op.create_table(
        "machine_tags",
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_machine_tags_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", "name", name=op.f("pk_machine_tags")),
    )
    op.create_index("ix_machine_tags_name_value", "machine_tags", ["name", "value"], unique=False)
    op.create_table(
        "reports",
        sa.Column("machine_id", sa.String(length=32), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("release", sa.String(length=200), nullable=False),
        sa.Column("level", sa.String(length=200), nullable=False),
        sa.Column("line", sa.String(length=20), nullable=False),
        sa.Column("enrollment", sa.String(length=40), nullable=False),
        sa.Column("mode", sa.String(length=20), nullable=False),
        sa.Column("zone", sa.String(length=100), server_default="", nullable=False),
        sa.Column("waiting", sa.Integer(), nullable=False),
        sa.Column("restarts_due", sa.Integer(), nullable=False),
        sa.Column("reboot_due", sa.Boolean(), nullable=False),
        sa.Column("restarts_avoided", sa.BigInteger(), nullable=False),
        sa.Column("reboots_avoided", sa.BigInteger(), nullable=False),
        sa.Column("alerts", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["machine_id"], ["machines.id"], name=op.f("fk_reports_machine_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("machine_id", name=op.f("pk_reports")),
    )
    op.create_index(op.f("ix_reports_enrollment"), "reports", ["enrollment"], unique=False)
    op.create_index(op.f("ix_reports_line"), "reports", ["line"], unique=False)
    op.create_index(op.f("ix_reports_release"), "reports", ["release"], unique=False)
    op.create_table(
        "action_events",
        sa.Column("action_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("state", sa.String(length=30), nullable=False),
        sa.Column("detail", sa.String(length=2000), nullable=False),
        sa.ForeignKeyConstraint(
            ["action_id"], ["actions.id"], name=op.f("fk_action_events_action_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("action_id", "number", name=op.f("pk_action_events")),
    )
