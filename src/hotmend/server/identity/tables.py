"""Tables of users, tokens, sessions, registration keys and the server's own key. Secrets are kept as hashes."""

from __future__ import annotations

import sqlalchemy as sa

from hotmend.server.database import Id, Json, Moment, metadata

ROLES = ("viewer", "operator", "approver", "admin")

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, unique=True),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("password", sa.String(200), nullable=False, server_default=""),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("disabled_at", Moment),
    sa.CheckConstraint(sa.column("role").in_(ROLES), name="role"),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("user_id", Id, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment),
    sa.Column("revoked_at", Moment),
    sa.Column("feeds", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("parent_id", Id, index=True),
    sa.CheckConstraint(sa.column("role").in_(ROLES), name="role"),
)
"""`feeds`: it is good for feeds, and for nothing else. `parent_id`: the token that made it, directly or by a session:
it ends with that one."""

sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("user_id", Id, sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("csrf", sa.String(64), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Column("token_id", Id),
)
"""`token_id`: of the token that it began with; none where it began with a password."""

setup = sa.Table(
    "setup",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.CheckConstraint("id = 1", name="one"),
)

registration_keys = sa.Table(
    "registration_keys",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("tier", sa.String(20), nullable=False),
    sa.Column("tags", Json, nullable=False),
    sa.Column("approval", sa.Boolean, nullable=False),
    sa.Column("uses_max", sa.Integer),
    sa.Column("uses", sa.Integer, nullable=False, server_default="0"),
    sa.Column("created_by", sa.String(100), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment),
    sa.Column("revoked_at", Moment),
    sa.CheckConstraint("uses_max IS NULL OR uses <= uses_max", name="uses"),
)

server_keys = sa.Table(
    "server_keys",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seed", sa.String(64), nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.CheckConstraint("id = 1", name="one"),
)

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("user_id", Id, primary_key=True),
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("request", sa.String(64), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    sa.Column("created_at", Moment, nullable=False, index=True),
)
