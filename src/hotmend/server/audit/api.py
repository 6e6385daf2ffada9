"""Reading the audit record."""

from __future__ import annotations

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request

from hotmend.server.audit import store, watching
from hotmend.server.context import context_of
from hotmend.server.identity.access import ADMIN, OPERATOR, Principal
from hotmend.server.paging import cursor_number
from hotmend.wire.api import AuditPage, AuditRow, AuditVerdict

router = APIRouter(prefix="/audit", tags=["audit"])


@router.get("")
def list_audit(
    request: Request,
    caller: Annotated[Principal, Depends(OPERATOR)],  # noqa: ARG001 - asked for its role
    cursor: str = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    subject: str = "",
    action: str = "",
) -> AuditPage:
    """Return what was done, newest first."""
    with context_of(request).database.read() as connection:
        rows = store.page(connection, cursor_number(cursor), limit, subject, action)
    items = [
        AuditRow(
            row["number"],
            row["at"],
            row["actor"],
            row["action"],
            row["subject"],
            msgspec.json.decode(row["detail"]),
            row["hash"],
        )
        for row in rows
    ]
    return AuditPage(items, str(items[-1].number) if len(items) == limit else "")


@router.get("/verify")
def verify_audit(request: Request, caller: Annotated[Principal, Depends(ADMIN)]) -> AuditVerdict:  # noqa: ARG001
    """Read the whole record and say whether it is as it was written."""
    with context_of(request).database.read() as connection:
        found = store.verify(connection)
    return AuditVerdict(not found.wrong, found.rows, found.head, found.wrong)


@router.post("/accept")
def accept_audit(request: Request, caller: Annotated[Principal, Depends(ADMIN)]) -> AuditVerdict:
    """Read the whole record; where it follows from itself, what was found wrong before is over."""
    found = watching.accept(context_of(request), caller.name)
    return AuditVerdict(not found.wrong, found.rows, found.head, found.wrong)
