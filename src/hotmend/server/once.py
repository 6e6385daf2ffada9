"""Requests that are sent twice and done once: the header Idempotency-Key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from hotmend.server.context import Context
from hotmend.server.database import Within
from hotmend.server.identity.access import Principal
from hotmend.server.identity.tables import idempotency
from hotmend.server.problem import Problem

HEADER: Final = "Idempotency-Key"
KEY_CHARACTERS_MAX: Final = 200
LIFE: Final = timedelta(days=1)


def once(
    context: Context,
    caller: Principal,
    key: str,
    request: object,
    do: Callable[[Connection, datetime], Any],
    kept: Callable[[Any], Any] | None = None,
) -> bytes:
    """Do something in one transaction, and give its answer again where the same caller sends the same key again.

    Args:
        context: the server.
        caller: whose key it is.
        key: "" is no key: it is done each time.
        request: what is asked for, as JSON can have it; without what is secret and can be guessed.
        do: does it, and returns what is answered.
        kept: what of the answer is kept and given again: no secret is. None: all of it.

    Returns:
        JSON of the answer.

    Raises:
        Problem: the key was used for another request.
    """
    if len(key) > KEY_CHARACTERS_MAX:
        raise Problem(400, "idempotency-key", f"{HEADER} has at most {KEY_CHARACTERS_MAX} characters")
    now = context.clock()
    hashed = hashlib.sha256(msgspec.json.encode(request, order="deterministic")).hexdigest()
    try:
        with context.database.write() as connection:
            if key:
                forget(connection, now)
                if (before := _before(connection, caller, key, hashed)) is not None:
                    return before
                # First: the same that comes at the same time waits here until this one is done.
                values = {"user_id": caller.id, "key": key, "request": hashed, "status": 200, "answer": b""}
                connection.execute(sa.insert(idempotency).values(**values, created_at=now))
            found = do(connection, now)
            if key:
                answer = msgspec.json.encode(kept(found) if kept is not None else found)
                connection.execute(_own(sa.update(idempotency), caller, key).values(answer=answer))
            return msgspec.json.encode(found)
    except IntegrityError:
        with context.database.read() as connection:  # the same was sent at the same time, and came first
            before = _before(connection, caller, key, hashed) if key else None
        if before is None:
            raise
        return before


def once_within(
    context: Context,
    caller: Principal,
    key: str,
    request: object,
    do: Callable[[Context], Any],
    kept: Callable[[Any], Any] | None = None,
) -> bytes:
    """Do as `once` what begins transactions of its own: they are parts of the one."""

    def within(connection: Connection, now: datetime) -> Any:  # noqa: ARG001 - as `once` calls it
        return do(replace(context, database=Within(context.database, connection)))

    return once(context, caller, key, request, within, kept)


def _before(connection: Connection, caller: Principal, key: str, hashed: str) -> bytes | None:
    query = _own(sa.select(idempotency.c.request, idempotency.c.answer), caller, key)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if row.request != hashed:
        raise Problem(422, "idempotency-key", "this key was sent with another request", "take a new key for each")
    return bytes(row.answer)


def _own(query: Any, caller: Principal, key: str) -> Any:
    return query.where(idempotency.c.user_id == caller.id, idempotency.c.key == key)


def _old(now: datetime) -> sa.ColumnElement[bool]:
    return idempotency.c.created_at <= now - LIFE


def forget(connection: Connection, now: datetime) -> int:
    """Remove what is too old; return how many."""
    return connection.execute(sa.delete(idempotency).where(_old(now))).rowcount
