"""The API of webhooks."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.engine import RowMapping

from hotmend.server.audit.store import append
from hotmend.server.context import context_of
from hotmend.server.database import new_id
from hotmend.server.identity.access import ADMIN, Principal
from hotmend.server.identity.secrets import new_secret
from hotmend.server.problem import Problem, not_found
from hotmend.server.webhooks import notices, store
from hotmend.wire.webhooks import Delivery, Subject, Webhook, WebhookWanted

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
_Admin = Annotated[Principal, Depends(ADMIN)]
_URL_CHARACTERS_MAX: Final = 2000


_SUBJECTS: Final[tuple[Subject, ...]] = ("rollouts", "windows")


@router.get("")
def list_webhooks(request: Request, caller: _Admin) -> list[Webhook]:  # noqa: ARG001 - asked for its role
    """Return all webhooks, without their secrets."""
    with context_of(request).database.read() as connection:
        return [_shown(row) for row in store.rows(connection)]


@router.post("", status_code=201)
def add_webhook(request: Request, wanted: WebhookWanted, caller: _Admin) -> Webhook:
    """Have what happens told to a URL. The secret that signs it is in this answer alone."""
    parts = urlsplit(wanted.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or len(wanted.url) > _URL_CHARACTERS_MAX:
        raise Problem(422, "url", "a URL with http or https is needed, of at most 2000 characters")
    if not wanted.about:
        raise Problem(422, "about", "a webhook is told of rollouts, of windows, or of both")
    context = context_of(request)
    now, identity, secret = context.clock(), new_id(), new_secret("hmw")
    about: dict[str, bool] = {each: each in wanted.about for each in _SUBJECTS}
    values = {"id": identity, "url": wanted.url, "secret": secret, "created_by": caller.name, "created_at": now}
    with context.database.write() as connection:
        store.insert(connection, {**values, **about, "next_at": now})
        append(connection, now, caller.name, "webhook.add", identity, {"host": parts.hostname, **about})
        (row,) = store.rows(connection, identity)
    return _shown(row, secret)


@router.delete("/{identity}", status_code=204)
def delete_webhook(request: Request, identity: str, caller: _Admin) -> Response:
    """Remove a webhook, and what waits for it."""
    context = context_of(request)
    with context.database.write() as connection:
        if not store.delete(connection, identity):
            raise not_found("webhook")
        append(connection, context.clock(), caller.name, "webhook.remove", identity, {})
    return Response(status_code=204)


@router.post("/{identity}/test", status_code=202)
def test_webhook(request: Request, identity: str, caller: _Admin) -> Webhook:
    """Have a webhook told an event `test`; deliveries say what came of it."""
    context = context_of(request)
    with context.database.write() as connection:
        if not store.rows(connection, identity):
            raise not_found("webhook")
        notices.trial(connection, context.clock(), identity)
        append(connection, context.clock(), caller.name, "webhook.test", identity, {})
        (row,) = store.rows(connection, identity)
    return _shown(row)


@router.get("/{identity}/deliveries")
def list_deliveries(request: Request, identity: str, caller: _Admin) -> list[Delivery]:  # noqa: ARG001
    """Return the last requests to a webhook, newest first."""
    with context_of(request).database.read() as connection:
        if not store.rows(connection, identity):
            raise not_found("webhook")
        found = store.delivery_rows(connection, identity)
    return [Delivery(row["at"], row["events"], row["taken"], row["outcome"]) for row in found]


def _shown(row: RowMapping, secret: str = "") -> Webhook:
    return Webhook(
        row["id"],
        row["url"],
        row["created_by"],
        row["created_at"],
        row["waiting"],
        row["failures"],
        row["last"],
        [each for each in _SUBJECTS if row[each]],
        secret,
    )
