"""What administrators do with webhooks. Each is one transaction, with its audit row."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.audit.store import append
from hotmend.server.context import Context
from hotmend.server.database import new_id
from hotmend.server.identity.access import Principal
from hotmend.server.identity.secrets import new_secret
from hotmend.server.problem import Problem, not_found
from hotmend.server.webhooks import notices, store
from hotmend.wire.webhooks import Subject, Webhook, WebhookWanted

SUBJECTS: Final[tuple[Subject, ...]] = ("rollouts", "windows")
_URL_CHARACTERS_MAX: Final = 2000


def add(connection: Connection, now: datetime, caller: Principal, wanted: WebhookWanted) -> Webhook:
    """Have what happens told to a URL, in the caller's transaction; the secret is in this answer alone.

    Raises:
        Problem: that is no URL, or nothing is told.
    """
    try:
        parts = urlsplit(wanted.url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if not host or len(wanted.url) > _URL_CHARACTERS_MAX:
        raise Problem(422, "url", "a URL with http or https is needed, of at most 2000 characters")
    if not wanted.about:
        raise Problem(422, "about", "a webhook is told of rollouts, of windows, or of both")
    identity, secret = new_id(), new_secret("hmw")
    about: dict[str, bool] = {each: each in wanted.about for each in SUBJECTS}
    values = {"id": identity, "url": wanted.url, "secret": secret, "created_by": caller.name, "created_at": now}
    store.insert(connection, {**values, **about, "next_at": now})
    append(connection, now, caller.name, "webhook.add", identity, {"host": host, **about})
    row = store.row(connection, identity)
    assert row is not None  # noqa: S101 - it was just added
    return shown(row, secret)


def remove(context: Context, caller: Principal, identity: str) -> None:
    """Remove a webhook, and what waits for it.

    Raises:
        Problem: there is none.
    """
    with context.database.write() as connection:
        if not store.delete(connection, identity):
            raise not_found("webhook")
        append(connection, context.clock(), caller.name, "webhook.remove", identity, {})


def trial(context: Context, caller: Principal, identity: str) -> Webhook:
    """Have a webhook told an event `test`; deliveries say what came of it.

    Raises:
        Problem: there is none.
    """
    with context.database.write() as connection:
        if store.row(connection, identity) is None:
            raise not_found("webhook")
        notices.trial(connection, context.clock(), identity)
        append(connection, context.clock(), caller.name, "webhook.test", identity, {})
        row = store.row(connection, identity)
        assert row is not None  # noqa: S101 - it was there in this transaction
    return shown(row)


def shown(row: RowMapping, secret: str = "") -> Webhook:
    """Return a webhook as it is answered."""
    return Webhook(
        row["id"],
        row["url"],
        row["created_by"],
        row["created_at"],
        row["waiting"],
        row["failures"],
        row["last"],
        [each for each in SUBJECTS if row[each]],
        secret,
    )
