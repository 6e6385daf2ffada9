"""Registration keys as pages: how machines come in."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Form, Query
from starlette.responses import Response

from hotmend.server.identity import service, store
from hotmend.server.identity.script import enroll_script, windows_script
from hotmend.server.portal.forms import tags_of
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect, seeing
from hotmend.wire.api import KeyWanted

router = APIRouter(prefix="/keys", route_class=PageRoute, include_in_schema=False)

Doing = Annotated[Visit, Depends(doing("operator"))]
ROWS: Final = 50


@router.get("")
def keys_page(
    visit: Annotated[Visit, Depends(seeing("operator"))], after: Annotated[str, Query(max_length=300)] = ""
) -> Response:
    """Show the registration keys, and the form for a new one."""
    with visit.context.database.read() as connection:
        rows, following = store.key_page(connection, after, ROWS)
    return visit.page("keys.html.j2", rows=rows, next=following)


@router.post("")
def add_key(
    visit: Doing,
    name: Annotated[str, Form(max_length=100)] = "",
    tier: Annotated[Literal["canary", "stable"], Form()] = "stable",
    tags: Annotated[str, Form(max_length=20_000)] = "",
    hours: Annotated[int, Form()] = 24,
    uses: Annotated[int, Form()] = 0,
    approval: Annotated[str, Form(max_length=10)] = "",
) -> Response:
    """Make a registration key, and show it with its script this once."""
    wanted = KeyWanted(name.strip(), tier, tags_of(tags), hours, uses, bool(approval))
    made = service.add_key(visit.context, visit.who, wanted)
    context = visit.context
    pasted = context.settings.public_url, made.secret, context.key.public
    scripts = {"linux": enroll_script(*pasted), "windows": windows_script(*pasted)}
    return visit.page("key_made.html.j2", name=wanted.name, scripts=scripts)


@router.post("/{identity}/revoke")
def revoke_key(visit: Doing, identity: str) -> Response:
    """End a registration key."""
    service.revoke_key(visit.context, visit.who, identity)
    return redirect("/keys", done="key-revoked")
