"""Compliance over the API: figures, days, exposures, VEX, and signed evidence."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi import Query as Asked
from starlette.responses import Response

from hotmend.reference.vex import cyclonedx, openvex
from hotmend.server.compliance import evidence, store, vex
from hotmend.server.context import Context, context_of
from hotmend.server.identity.access import OPERATOR, VIEWER, Principal
from hotmend.server.machines import fleet
from hotmend.wire.api import Query
from hotmend.wire.compliance import Day, Group, GroupBy, Time, VexForm, Vulnerability

router = APIRouter(prefix="/compliance", tags=["compliance"])
_Viewer = Annotated[Principal, Depends(VIEWER)]
_Operator = Annotated[Principal, Depends(OPERATOR)]
_YEAR = timedelta(days=366)


def _query(
    tag: Annotated[list[str] | None, Asked(description="NAME or NAME=VALUE; may be given several times")] = None,
    release: str | None = None,
    search: str = "",
) -> Query:
    tags = {name: value for name, _, value in (each.partition("=") for each in tag or [])}
    return Query(release=release, tags=tags, search=search)


_Query = Annotated[Query, Depends(_query)]


@router.get("/vulnerabilities")
def list_vulnerabilities(request: Request, caller: _Viewer, asked: _Query) -> list[Vulnerability]:  # noqa: ARG001
    """Return each vulnerability and where its fix is."""
    with context_of(request).database.read() as connection:
        return store.vulnerabilities(connection, asked)


@router.get("/groups/{by}")
def list_groups(
    request: Request,
    by: GroupBy,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    asked: _Query,
) -> list[Group]:
    """Return where fixes are, by product, package, tag or machine."""
    with context_of(request).database.read() as connection:
        return store.groups(connection, by, asked)[0]


@router.get("/days")
def list_days(request: Request, caller: _Viewer, since: date | None = None) -> list[Day]:  # noqa: ARG001
    """Return what each day found; a day on which no server ran is not there."""
    context = context_of(request)
    with context.database.read() as connection:
        return store.days(connection, since or (context.clock() - _YEAR).date())


@router.get("/exposures")
def list_exposures(request: Request, caller: _Viewer, asked: _Query) -> list[Time]:  # noqa: ARG001
    """Return how long machines were exposed to what, from the publication of its fix."""
    with context_of(request).database.read() as connection:
        return store.times(connection, asked)


@router.get("/vex", response_model=dict[str, Any])
def get_vex(
    request: Request,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    asked: _Query,
    form: VexForm = "openvex",
) -> Response:
    """Return what machines report of vulnerabilities, as scanners read it."""
    return Response(vex_document(context_of(request), asked, form), media_type="application/json")


def vex_document(context: Context, asked: Query, form: str) -> bytes:
    """Return the VEX document about the machines that are meant."""
    now = context.clock()
    with context.database.read() as connection:
        found = vex.statements(connection, asked, fleet.silent_since(context.settings, now))
        return openvex(found, now, role=vex.ROLE) if form == "openvex" else cyclonedx(found, now)


@router.post("/evidence", response_model=dict[str, Any])
def make_evidence(request: Request, caller: _Operator, asked: _Query) -> Response:
    """Return signed evidence about machines: a DSSE envelope, which has no expiry. It is in the audit record."""
    return Response(evidence.made(context_of(request), caller, asked), media_type="application/json")


@router.get("/evidence-key")
def get_evidence_key(request: Request, caller: _Viewer) -> dict[str, str]:  # noqa: ARG001
    """Return the key that evidence is signed with; it is made when it is asked for first."""
    return {"key": evidence.key(context_of(request)).public}
