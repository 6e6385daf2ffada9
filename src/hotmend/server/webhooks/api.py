"""The API of webhooks."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response

from hotmend.server.audit.store import append
from hotmend.server.context import context_of
from hotmend.server.database import new_id
from hotmend.server.identity.access import ADMIN, Principal
from hotmend.server.identity.secrets import new_secret
from hotmend.server.problem import Problem, not_found
from hotmend.server.webhooks import store
from hotmend.wire.webhooks import Webhook, WebhookWanted

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
_Admin = Annotated[Principal, Depends(ADMIN)]
_URL_CHARACTERS_MAX: Final = 2000


@router.get("")
def list_webhooks(request: Request, caller: _Admin) -> list[Webhook]:  # noqa: ARG001 - asked for its role
    """Return all webhooks, without their secrets."""
    with context_of(request).database.read() as connection:
        found = store.rows(connection)
    return [
        Webhook(
            row["id"],
            row["url"],
            row["created_by"],
            row["created_at"],
            row["waiting"],
            row["failures"],
            row["last"],
        )
        for row in found
    ]


@router.post("", status_code=201)
def add_webhook(request: Request, wanted: WebhookWanted, caller: _Admin) -> Webhook:
    """Have what happens to rollouts told to a URL. The secret that signs it is in this answer alone."""
    parts = urlsplit(wanted.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or len(wanted.url) > _URL_CHARACTERS_MAX:
        raise Problem(422, "url", "a URL with http or https is needed, of at most 2000 characters")
    context = context_of(request)
    now, identity, secret = context.clock(), new_id(), new_secret("hmw")
    values = {"id": identity, "url": wanted.url, "secret": secret, "created_by": caller.name, "created_at": now}
    with context.database.write() as connection:
        store.insert(connection, {**values, "next_at": now})
        append(connection, now, caller.name, "webhook.add", identity, {"host": parts.hostname})
    return Webhook(identity, wanted.url, caller.name, now, 0, 0, "", secret)


@router.delete("/{identity}", status_code=204)
def delete_webhook(request: Request, identity: str, caller: _Admin) -> Response:
    """Remove a webhook, and what waits for it."""
    context = context_of(request)
    with context.database.write() as connection:
        if not store.delete(connection, identity):
            raise not_found("webhook")
        append(connection, context.clock(), caller.name, "webhook.remove", identity, {})
    return Response(status_code=204)
