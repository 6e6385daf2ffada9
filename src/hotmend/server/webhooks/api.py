"""The API of webhooks."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from hotmend.server.context import context_of
from hotmend.server.identity.access import ADMIN, Principal
from hotmend.server.once import HEADER, once
from hotmend.server.problem import not_found
from hotmend.server.webhooks import service, store
from hotmend.wire.webhooks import Delivery, Webhook, WebhookPage, WebhookWanted

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
_Admin = Annotated[Principal, Depends(ADMIN)]


@router.get("")
def list_webhooks(
    request: Request,
    caller: _Admin,  # noqa: ARG001 - asked for its role
    cursor: str = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> WebhookPage:
    """Return webhooks, oldest first, without their secrets."""
    with context_of(request).database.read() as connection:
        rows, following = store.webhook_page(connection, cursor, limit)
    return WebhookPage([service.shown(row) for row in rows], following)


@router.post("", status_code=201)
def add_webhook(
    request: Request,
    wanted: WebhookWanted,
    caller: _Admin,
    key: Annotated[str, Header(alias=HEADER)] = "",
) -> Webhook:
    """Have what happens told to a URL. The secret that signs it is in this answer alone.

    The same request with the same Idempotency-Key adds it once; the secret is not given again.
    """
    answer = once(
        context_of(request),
        caller,
        key,
        {"path": "webhooks", "wanted": asdict(wanted)},
        lambda connection, now: service.add(connection, now, caller, wanted),
        lambda made: replace(made, secret=""),
    )
    return msgspec.json.decode(answer, type=Webhook)


@router.delete("/{identity}", status_code=204)
def delete_webhook(request: Request, identity: str, caller: _Admin) -> Response:
    """Remove a webhook, and what waits for it."""
    service.remove(context_of(request), caller, identity)
    return Response(status_code=204)


@router.post("/{identity}/test", status_code=202)
def test_webhook(request: Request, identity: str, caller: _Admin) -> Webhook:
    """Have a webhook told an event `test`; deliveries say what came of it."""
    return service.trial(context_of(request), caller, identity)


@router.get("/{identity}/deliveries")
def list_deliveries(request: Request, identity: str, caller: _Admin) -> list[Delivery]:  # noqa: ARG001
    """Return the last requests to a webhook, newest first."""
    with context_of(request).database.read() as connection:
        if store.row(connection, identity) is None:
            raise not_found("webhook")
        found = store.delivery_rows(connection, identity)
    return [Delivery(row["at"], row["events"], row["taken"], row["outcome"]) for row in found]
