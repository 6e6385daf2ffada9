"""The audit record as a page."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from hotmend.server.audit import store
from hotmend.server.paging import cursor_number
from hotmend.server.portal.visit import PageRoute, Visit, seeing

router = APIRouter(prefix="/audit", route_class=PageRoute, include_in_schema=False)

ROWS: Final = 50
Asking = Annotated[str, Query(max_length=200)]


@router.get("")
def audit_page(
    visit: Annotated[Visit, Depends(seeing("operator"))],
    subject: Asking = "",
    action: Asking = "",
    after: Asking = "",
    verify: Asking = "",
) -> Response:
    """Show what was done, newest first; who may, can have the whole record read back."""
    with visit.context.database.read() as connection:
        rows = store.page(connection, cursor_number(after), ROWS + 1, subject.strip(), action.strip())
        verdict = store.verify(connection) if verify and visit.who.has("admin") else None
    following = str(rows[ROWS - 1]["number"]) if len(rows) > ROWS else ""
    return visit.page(
        "audit.html.j2", rows=rows[:ROWS], next=following, subject=subject, action=action, verdict=verdict
    )
