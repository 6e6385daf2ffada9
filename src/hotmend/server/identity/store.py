"""Rows of users, tokens, sessions and registration keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.database import new_id
from hotmend.server.identity.tables import registration_keys, server_keys, sessions, setup, tokens, users
from hotmend.server.paging import page


def count_users(connection: Connection) -> int:
    """Return how many users there are."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(users)).scalar_one())


def insert_user(connection: Connection, now: datetime, name: str, role: str, password: str) -> str:
    """Add a user; return its id."""
    identity = new_id()
    connection.execute(sa.insert(users).values(id=identity, name=name, role=role, password=password, created_at=now))
    return identity


def user_named(connection: Connection, name: str) -> RowMapping | None:
    """Return a user by its name."""
    return connection.execute(sa.select(users).where(users.c.name == name)).mappings().one_or_none()


def user(connection: Connection, identity: str) -> RowMapping | None:
    """Return a user by its id."""
    return connection.execute(sa.select(users).where(users.c.id == identity)).mappings().one_or_none()


def user_page(connection: Connection, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return users by name, and the cursor of those behind them."""
    return page(connection, sa.select(users), ((users.c.name, False),), cursor, limit)


def update_user(connection: Connection, identity: str, values: dict[str, Any]) -> None:
    """Change a user."""
    connection.execute(sa.update(users).where(users.c.id == identity).values(values))


def lock_admins(connection: Connection) -> None:
    """Keep every other from lowering or disabling an administrator until this transaction ends.

    Two administrators that lower each other would both find the other one there. On SQLite a transaction that writes is
    alone already.
    """
    query = sa.select(users.c.id).where(users.c.role == "admin", users.c.disabled_at.is_(None)).order_by(users.c.id)
    connection.execute(query.with_for_update())


def other_admins(connection: Connection, identity: str) -> int:
    """Return how many other administrators are not disabled."""
    query = sa.select(sa.func.count()).select_from(users)
    query = query.where(users.c.role == "admin", users.c.disabled_at.is_(None), users.c.id != identity)
    return int(connection.execute(query).scalar_one())


def insert_token(connection: Connection, values: dict[str, Any]) -> str:
    """Add a token; return its id."""
    identity = new_id()
    connection.execute(sa.insert(tokens).values(id=identity, **values))
    return identity


def token_user(connection: Connection, hashed: str, now: datetime, *, feeds: bool = False) -> RowMapping | None:
    """Return token and user that a secret belongs to: not expired, revoked or disabled; one for feeds, or any other."""
    query = (
        sa.select(
            users.c.id,
            users.c.name,
            users.c.role.label("user_role"),
            tokens.c.role,
            tokens.c.expires_at,
            tokens.c.id.label("token"),
        )
        .where(tokens.c.feeds.is_(feeds))
        .join(tokens, tokens.c.user_id == users.c.id)
        .where(tokens.c.hash == hashed, tokens.c.revoked_at.is_(None), users.c.disabled_at.is_(None))
        .where(sa.or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now))
    )
    return connection.execute(query).mappings().one_or_none()


def token(connection: Connection, identity: str) -> RowMapping:
    """Return a token that is there."""
    return connection.execute(_tokens().where(tokens.c.id == identity)).mappings().one()


def token_page(connection: Connection, user_id: str | None, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return tokens of a user, or of all, newest first, and the cursor of those behind them."""
    query = _tokens() if user_id is None else _tokens().where(tokens.c.user_id == user_id)
    return page(connection, query, ((tokens.c.created_at, True), (tokens.c.id, False)), cursor, limit)


def _tokens() -> sa.Select[Any]:
    return sa.select(tokens, users.c.name.label("user")).join(users, tokens.c.user_id == users.c.id)


def token_is_good(connection: Connection, identity: str) -> bool:
    """Say whether a token is not revoked, and keep it so until this transaction ends."""
    query = sa.select(tokens.c.id).where(tokens.c.id == identity, tokens.c.revoked_at.is_(None))
    return connection.execute(query.with_for_update(read=True)).scalar_one_or_none() is not None


def revoke_token(connection: Connection, identity: str, now: datetime, user_id: str | None) -> str | None:
    """End a token and those that it made; return whose it was, None where there is none."""
    query = sa.update(tokens).where(tokens.c.id == identity, tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    if user_id is not None:
        query = query.where(tokens.c.user_id == user_id)
    owner: str | None = connection.execute(query.returning(tokens.c.user_id)).scalar_one_or_none()
    ended = [] if owner is None else [identity]
    while ended:  # one generation at a time: whoever makes one now has waited for its parent, and finds it revoked
        children = sa.update(tokens).where(tokens.c.parent_id.in_(ended), tokens.c.revoked_at.is_(None))
        ended = list(connection.execute(children.values(revoked_at=now).returning(tokens.c.id)).scalars())
    return owner


def insert_session(connection: Connection, values: dict[str, Any]) -> None:
    """Add a session; those that are over are removed."""
    connection.execute(sa.delete(sessions).where(sessions.c.expires_at <= values["created_at"]))
    connection.execute(sa.insert(sessions).values(values))


def session_user(connection: Connection, hashed: str, now: datetime) -> RowMapping | None:
    """Return session and user that a cookie belongs to."""
    query = (
        sa.select(
            users.c.id,
            users.c.name,
            users.c.role,
            sessions.c.csrf,
            sessions.c.token_id,
            tokens.c.expires_at.label("until"),
        )
        .join(sessions, sessions.c.user_id == users.c.id)
        .outerjoin(tokens, tokens.c.id == sessions.c.token_id)
        .where(sessions.c.hash == hashed, sessions.c.expires_at > now, users.c.disabled_at.is_(None))
        .where(tokens.c.revoked_at.is_(None))
    )
    return connection.execute(query).mappings().one_or_none()


def delete_session(connection: Connection, hashed: str) -> None:
    """End a session."""
    connection.execute(sa.delete(sessions).where(sessions.c.hash == hashed))


def delete_sessions(connection: Connection, user_id: str) -> None:
    """End all sessions of a user."""
    connection.execute(sa.delete(sessions).where(sessions.c.user_id == user_id))


def put_setup(connection: Connection, hashed: str, expires_at: datetime) -> None:
    """Keep the token of the first administrator; an earlier one is void."""
    connection.execute(sa.delete(setup))
    connection.execute(sa.insert(setup).values(id=1, hash=hashed, expires_at=expires_at))


def take_setup(connection: Connection, hashed: str, now: datetime) -> bool:
    """Use the token up; return whether it was the one."""
    query = sa.delete(setup).where(setup.c.hash == hashed, setup.c.expires_at > now)
    return bool(connection.execute(query).rowcount)


def server_seed(connection: Connection) -> str | None:
    """Return the seed of the server's key; None where it has none yet."""
    return connection.execute(sa.select(server_keys.c.seed)).scalar_one_or_none()


def insert_server_seed(connection: Connection, seed: str, now: datetime) -> None:
    """Keep the server's key."""
    connection.execute(sa.insert(server_keys).values(id=1, seed=seed, created_at=now))


def insert_key(connection: Connection, values: dict[str, Any]) -> str:
    """Add a registration key; return its id."""
    identity = new_id()
    connection.execute(sa.insert(registration_keys).values(id=identity, **values))
    return identity


def key(connection: Connection, identity: str) -> RowMapping:
    """Return a registration key that is there."""
    return connection.execute(sa.select(registration_keys).where(registration_keys.c.id == identity)).mappings().one()


def key_page(connection: Connection, cursor: str, limit: int) -> tuple[list[RowMapping], str]:
    """Return registration keys, newest first, and the cursor of those behind them."""
    order = (registration_keys.c.created_at, True), (registration_keys.c.id, False)
    return page(connection, sa.select(registration_keys), order, cursor, limit)


def revoke_key(connection: Connection, identity: str, now: datetime) -> bool:
    """End a registration key; return whether there was one."""
    query = sa.update(registration_keys).where(registration_keys.c.id == identity)
    query = query.where(registration_keys.c.revoked_at.is_(None)).values(revoked_at=now)
    return bool(connection.execute(query).rowcount)


def use_key(connection: Connection, hashed: str, now: datetime) -> RowMapping | None:
    """Use a registration key once; None where it is unknown, over, revoked or used up. Two at once count as two."""
    key = registration_keys
    query = (
        sa.update(key)
        .where(key.c.hash == hashed, key.c.revoked_at.is_(None))
        .where(sa.or_(key.c.expires_at.is_(None), key.c.expires_at > now))
        .where(sa.or_(key.c.uses_max.is_(None), key.c.uses < key.c.uses_max))
        .values(uses=key.c.uses + 1)
    )
    if not connection.execute(query).rowcount:
        return None
    return connection.execute(sa.select(key).where(key.c.hash == hashed)).mappings().one()
