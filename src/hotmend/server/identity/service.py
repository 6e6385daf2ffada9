"""What is done with users, tokens, sessions and registration keys. Each is one transaction, with its audit row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from hotmend.server.audit.store import append
from hotmend.server.context import Context
from hotmend.server.database import Database
from hotmend.server.identity import store
from hotmend.server.identity.access import Principal
from hotmend.server.identity.secrets import PASSWORD_CHARACTERS, new_secret, password_hash, password_is, secret_hash
from hotmend.server.problem import Problem, conflict, not_found
from hotmend.wire.api import KeyWanted, TokenWanted, UserChange, UserWanted
from hotmend.wire.keys import SigningKey

SETUP_LIFE: Final = timedelta(hours=24)
SESSION_LIFE: Final = timedelta(hours=12)
TAGS_MAX: Final = 50
_NAME: Final = re.compile(r"[\w][\w .@+-]{0,99}")
_TAG: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Made:
    """Something with a secret that is given out once."""

    id: str
    secret: str


def ensure_server_key(database: Database, now: datetime) -> SigningKey:
    """Return the server's key; it is made by the first process that asks."""
    with database.read() as connection:
        seed = store.server_seed(connection)
    if seed is None:
        try:
            with database.write() as connection:
                seed = store.server_seed(connection)
                if seed is None:
                    seed = SigningKey.generate().seed.hex()
                    store.insert_server_seed(connection, seed, now)
        except IntegrityError:  # another process was first
            with database.read() as connection:
                seed = store.server_seed(connection)
    return SigningKey(bytes.fromhex(str(seed)))


def begin_setup(database: Database, now: datetime) -> str | None:
    """Return a new token for the first administrator; None where there are users already."""
    with database.write() as connection:
        if store.count_users(connection):
            return None
        secret = new_secret("hms")
        store.put_setup(connection, secret_hash(secret), now + SETUP_LIFE)
    return secret


def set_up(context: Context, token: str, name: str, password: str) -> Made:
    """Make the first administrator, with an API token.

    Raises:
        Problem: the token is not the one that was printed, or there are users already.
    """
    now = context.clock()
    _checked(name, password)
    with context.database.write() as connection:
        if store.count_users(connection):
            raise conflict("set-up", "this server has users already")
        if not store.take_setup(connection, secret_hash(token), now):
            raise Problem(403, "setup-token", "not the token that this server printed at its start")
        identity = store.insert_user(connection, now, name, "admin", password_hash(password) if password else "")
        secret = new_secret("hm")
        values = {"user_id": identity, "name": "first", "role": "admin", "hash": secret_hash(secret), "created_at": now}
        token_id = store.insert_token(connection, values)
        append(connection, now, name, "user.first", identity, {"name": name, "role": "admin"})
    return Made(token_id, secret)


def add_user(context: Context, caller: Principal, wanted: UserWanted) -> str:
    """Add a user; return its id.

    Raises:
        Problem: the name is taken, or no name.
    """
    now = context.clock()
    _checked(wanted.name, wanted.password)
    hashed = password_hash(wanted.password) if wanted.password else ""
    try:
        with context.database.write() as connection:
            identity = store.insert_user(connection, now, wanted.name, wanted.role, hashed)
            detail = {"name": wanted.name, "role": wanted.role}
            append(connection, now, caller.name, "user.add", identity, detail)
    except IntegrityError:
        raise conflict("name-taken", f"there is a user {wanted.name} already") from None
    return identity


def change_user(context: Context, caller: Principal, identity: str, change: UserChange) -> RowMapping:
    """Change a user. Its sessions end.

    Raises:
        Problem: there is none, or nobody would be left who may do this.
    """
    now = context.clock()
    with context.database.write() as connection:
        store.lock_admins(connection)  # before who is one is read
        found = store.user(connection, identity)
        if found is None:
            raise not_found("user")
        values: dict[str, object] = {}
        if change.role is not None:
            values["role"] = change.role
        if change.disabled is not None:
            values["disabled_at"] = now if change.disabled else None
        if change.password is not None:
            _checked(found["name"], change.password)
            values["password"] = password_hash(change.password)
        lost = values.get("role", "admin") != "admin" or values.get("disabled_at") is not None
        if found["role"] == "admin" and lost and not store.other_admins(connection, identity):
            raise conflict("last-admin", "nobody would be left to administer this server")
        if values:
            store.update_user(connection, identity, values)
            store.delete_sessions(connection, identity)
            told = {"role": change.role, "disabled": change.disabled, "password": change.password is not None}
            append(connection, now, caller.name, "user.change", identity, told)
        changed = store.user(connection, identity)
    if changed is None:
        raise not_found("user")
    return changed


def add_token(context: Context, caller: Principal, wanted: TokenWanted) -> Made:
    """Make an API token for the caller. One that a token makes ends with that token at the latest.

    Raises:
        Problem: it asks for more than the caller may do.
    """
    now = context.clock()
    _checked(wanted.name)
    if not caller.has(wanted.role):
        raise Problem(403, "role", f"a token of role {wanted.role} is more than {caller.role}")
    if not 0 <= wanted.days <= 3660:
        raise Problem(422, "days", "days: 0 to 3660")
    if wanted.feeds and wanted.role != "viewer":
        raise Problem(422, "role", "a token for feeds has the role viewer")
    secret = new_secret("hmf" if wanted.feeds else "hm")
    wished = now + timedelta(days=wanted.days) if wanted.days else None
    values = {
        "user_id": caller.id,
        "feeds": wanted.feeds,
        "name": wanted.name,
        "role": wanted.role,
        "hash": secret_hash(secret),
        "created_at": now,
        "expires_at": min((each for each in (wished, caller.until) if each is not None), default=None),
        "parent_id": caller.token or None,
    }
    with context.database.write() as connection:
        if caller.token and not store.token_is_good(connection, caller.token):
            raise Problem(401, "not-authenticated", "the token of this request was revoked meanwhile")
        identity = store.insert_token(connection, values)
        detail = {"name": wanted.name, "role": wanted.role, "feeds": wanted.feeds, "parent": caller.token}
        append(connection, now, caller.name, "token.add", identity, detail)
    return Made(identity, secret)


def revoke_token(context: Context, caller: Principal, identity: str) -> None:
    """End a token, and those that it made: one's own, or any for an administrator.

    Raises:
        Problem: there is none.
    """
    now = context.clock()
    with context.database.write() as connection:
        owner = store.revoke_token(connection, identity, now, None if caller.has("admin") else caller.id)
        if owner is None:
            raise not_found("token")
        store.delete_sessions(connection, owner)  # one may have begun with it
        append(connection, now, caller.name, "token.revoke", identity, {})


def begin_session(context: Context, name: str, password: str) -> Made | None:
    """Return a new session: its cookie, and as `id` its CSRF token; None where name or password are wrong."""
    now = context.clock()
    with context.database.read() as connection:
        found = store.user_named(connection, name)
    right = password_is(password[: PASSWORD_CHARACTERS.stop], found["password"] if found else "")
    if not right or found is None or found["disabled_at"] is not None:
        return None
    with context.database.write() as connection:
        return _session(connection, found["id"], name, now)


def begin_token_session(context: Context, token: str) -> Made | None:
    """Return a new session for who has a token, as `begin_session`; None where it is not good.

    A session may do what its user may: a token for less does not begin one.
    """
    now = context.clock()
    with context.database.write() as connection:
        row = store.token_user(connection, secret_hash(token), now)
        if row is None or row["role"] != row["user_role"]:
            return None
        return _session(connection, row["id"], row["name"], now, row["token"], row["expires_at"])


def _session(
    connection: Connection,
    identity: str,
    name: str,
    now: datetime,
    token: str | None = None,
    until: datetime | None = None,
) -> Made:
    secret, csrf = new_secret("hmc"), new_secret("hmf")
    values = {
        "hash": secret_hash(secret),
        "user_id": identity,
        "csrf": csrf,
        "created_at": now,
        "expires_at": min(now + SESSION_LIFE, until or now + SESSION_LIFE),
        "token_id": token,
    }
    store.insert_session(connection, values)
    append(connection, now, name, "session.begin", identity, {})
    return Made(csrf, secret)


def refused_session(context: Context, name: str, address: str) -> None:
    """Write down that somebody was not let in; of the name only one that is there: others may be passwords.

    At most so many each minute as refusals: nobody fills the record, and holds up those who write into it.
    """
    if context.refusals.wait_seconds("sign-ins written down"):
        return
    now = context.clock()
    with context.database.write() as connection:
        found = store.user_named(connection, name)
        actor, subject = (found["name"], found["id"]) if found is not None else ("?", "")
        append(connection, now, actor, "session.refused", subject, {"address": address})


def end_session(context: Context, caller: Principal, cookie: str) -> None:
    """End a session."""
    with context.database.write() as connection:
        store.delete_session(connection, secret_hash(cookie))
        append(connection, context.clock(), caller.name, "session.end", caller.id, {})


def add_key(context: Context, caller: Principal, wanted: KeyWanted) -> Made:
    """Make a registration key.

    Raises:
        Problem: a name, tag or number that is none.
    """
    now = context.clock()
    _checked(wanted.name)
    check_tags(wanted.tags)
    if not 0 <= wanted.hours <= 24 * 3660 or not 0 <= wanted.uses <= 10_000_000:
        raise Problem(422, "not-valid", "hours: 0 to 87840, uses: 0 to 10000000")
    secret = new_secret("hmk")
    values = {
        "name": wanted.name,
        "hash": secret_hash(secret),
        "tier": wanted.tier,
        "tags": wanted.tags,
        "approval": wanted.approval,
        "uses_max": wanted.uses or None,
        "created_by": caller.name,
        "created_at": now,
        "expires_at": now + timedelta(hours=wanted.hours) if wanted.hours else None,
    }
    with context.database.write() as connection:
        identity = store.insert_key(connection, values)
        detail = {"name": wanted.name, "tier": wanted.tier, "uses": wanted.uses, "approval": wanted.approval}
        append(connection, now, caller.name, "key.add", identity, detail)
    return Made(identity, secret)


def revoke_key(context: Context, caller: Principal, identity: str) -> None:
    """End a registration key. Machines that came with it stay.

    Raises:
        Problem: there is none.
    """
    now = context.clock()
    with context.database.write() as connection:
        if not store.revoke_key(connection, identity, now):
            raise not_found("registration key")
        append(connection, now, caller.name, "key.revoke", identity, {})


def check_tags(tags: dict[str, str]) -> None:
    """Refuse tags that are none.

    Raises:
        Problem: too many, a name with other letters, or a value that is too long.
    """
    if len(tags) > TAGS_MAX:
        raise Problem(422, "tags", f"at most {TAGS_MAX} tags")
    for name, value in tags.items():
        if not _TAG.fullmatch(name) or len(value) > 200:
            raise Problem(
                422, "tags", f"not a tag: {name[:100]}", "small letters, digits, . _ -; values to 200 characters"
            )


def _checked(name: str, password: str = "") -> None:
    if not _NAME.fullmatch(name):
        raise Problem(422, "name", "a name has 1 to 100 letters, digits, blanks and . @ + - _")
    if password and len(password) not in PASSWORD_CHARACTERS:
        raise Problem(422, "password", "a password has 12 to 200 characters")
