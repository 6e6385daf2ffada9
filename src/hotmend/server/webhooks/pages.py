"""Webhooks as a page: who is told what, and what came of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Form, Query
from starlette.responses import Response

from hotmend.server.database import new_id
from hotmend.server.once import once
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect, seeing
from hotmend.server.webhooks import service, store
from hotmend.servicing.message import N_
from hotmend.wire.webhooks import Subject, Webhook, WebhookWanted

router = APIRouter(prefix="/webhooks", route_class=PageRoute, include_in_schema=False)

Doing = Annotated[Visit, Depends(doing("admin"))]
ROWS: Final = 20
DELIVERIES_SHOWN: Final = 10
ABOUT: Final[tuple[tuple[str, tuple[Subject, ...], str], ...]] = (
    ("all", ("rollouts", "windows"), N_("rollouts and maintenance windows")),
    ("rollouts", ("rollouts",), N_("rollouts")),
    ("windows", ("windows",), N_("maintenance windows")),
)
"""Short name, of what is told, and text."""


@router.get("")
def webhooks_page(
    visit: Annotated[Visit, Depends(seeing("admin"))], after: Annotated[str, Query(max_length=300)] = ""
) -> Response:
    """Show webhooks with their last requests."""
    with visit.context.database.read() as connection:
        found, following = store.webhook_page(connection, after, ROWS)
        rows = [(service.shown(row), store.delivery_rows(connection, row["id"])[:DELIVERIES_SHOWN]) for row in found]
    say = visit.words.say
    texts = {told: say(text) for _, told, text in ABOUT}
    return visit.page(
        "webhooks.html.j2",
        rows=[(hook, texts[tuple(hook.about)], last) for hook, last in rows],
        choices=[(short, say(text)) for short, _, text in ABOUT],
        key=new_id(),
        next=following,
    )


@router.post("")
def add(
    visit: Doing,
    url: Annotated[str, Form(max_length=3000)] = "",
    about: Annotated[Literal["all", "rollouts", "windows"], Form()] = "all",
    key: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Add a webhook, and show its secret this once."""
    told = next(told for short, told, _ in ABOUT if short == about)
    wanted, who = WebhookWanted(url.strip(), list(told)), visit.who
    answer = once(
        visit.context,
        who,
        f"page {key}" if key else "",
        {"path": "webhooks", "url": wanted.url, "about": about},
        lambda connection, now: service.add(connection, now, who, wanted),
        lambda made: replace(made, secret=""),
    )
    made = msgspec.json.decode(answer, type=Webhook)
    if not made.secret:  # the same form once more
        return redirect("/webhooks", done="webhook")
    return visit.page("webhook_made.html.j2", url=made.url, secret=made.secret)


@router.post("/{identity}/test")
def trial(visit: Doing, identity: str) -> Response:
    """Have a webhook told that it is tried."""
    service.trial(visit.context, visit.who, identity)
    return redirect("/webhooks", done="webhook-test")


@router.post("/{identity}/remove")
def remove(visit: Doing, identity: str) -> Response:
    """Remove a webhook, and what waits for it."""
    service.remove(visit.context, visit.who, identity)
    return redirect("/webhooks", done="webhook-removed")
