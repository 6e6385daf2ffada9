"""Compliance over the API: figures, days, exposures, VEX, and signed evidence."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Request
from fastapi import Query as Asked
from starlette.responses import Response, StreamingResponse

from hotmend.reference.vex import cyclonedx_parts, openvex_parts
from hotmend.server.compliance import evidence, figures, grouping, store, vex
from hotmend.server.context import Context, context_of
from hotmend.server.figures.kept import Figure, read
from hotmend.server.identity.access import OPERATOR, VIEWER, Principal
from hotmend.server.machines import fleet
from hotmend.wire.api import Query
from hotmend.wire.compliance import Day, Group, GroupBy, Time, VexForm, Vulnerability

router = APIRouter(prefix="/compliance", tags=["compliance"])
_Viewer = Annotated[Principal, Depends(VIEWER)]
_Operator = Annotated[Principal, Depends(OPERATOR)]
T = TypeVar("T")
_PART_BYTES: Final = 1 << 17
"""Of a file that are sent at a time."""


def _query(
    tag: Annotated[list[str] | None, Asked(description="NAME or NAME=VALUE; may be given several times")] = None,
    release: str | None = None,
    search: str = "",
) -> Query:
    tags = {name: value for name, _, value in (each.partition("=") for each in tag or [])}
    return Query(release=release, tags=tags, search=search)


_Query = Annotated[Query, Depends(_query)]


@router.get("/vulnerabilities")
def list_vulnerabilities(
    request: Request,
    response: Response,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    asked: _Query,
) -> list[Vulnerability]:
    """Return each vulnerability and where its fix is. Of all machines it may be older by as much as `Age` says."""
    if asked == grouping.EVERYBODY:
        return _kept(context_of(request), response, figures.VULNERABILITIES)
    with context_of(request).database.survey() as connection:
        return store.vulnerabilities(connection, asked)


@router.get("/groups/{by}")
def list_groups(
    request: Request,
    response: Response,
    by: GroupBy,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    asked: _Query,
    limit: Annotated[int | None, Asked(ge=1, le=figures.ROWS)] = None,
) -> list[Group]:
    """Return where fixes are, by product, package, tag or machine; with `limit` the most exposed of them alone.

    Of all machines it may be older by as much as `Age` says, but for all of their tags, or for each of them.
    """
    if asked == grouping.EVERYBODY and (limit is not None or by in ("product", "package")):
        return _kept(context_of(request), response, figures.GROUPS[by])[0][:limit]
    with context_of(request).database.survey() as connection:
        return grouping.groups(connection, by, asked, limit)[0]


@router.get("/days")
def list_days(
    request: Request,
    response: Response,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    since: date | None = None,
) -> list[Day]:
    """Return what each day found, of a year unless told otherwise; a day on which no server ran is not there."""
    context = context_of(request)
    if since is None:
        return _kept(context, response, figures.DAYS_PAST)
    with context.database.survey() as connection:
        return store.days(connection, since)


@router.get("/exposures")
def list_exposures(
    request: Request,
    response: Response,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    asked: _Query,
) -> list[Time]:
    """Return how long machines were exposed to what, from the publication of its fix. `Age` as of vulnerabilities."""
    if asked == grouping.EVERYBODY:
        return _kept(context_of(request), response, figures.TIMES)
    with context_of(request).database.survey() as connection:
        return store.times(connection, asked)


def _kept(context: Context, response: Response, figure: Figure[T]) -> T:
    found = read(context, figure)
    response.headers["Age"] = str(max(int((context.clock() - found.at).total_seconds()), 0))
    return found.value


@router.get("/vex", response_model=dict[str, Any])
def get_vex(
    request: Request,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    asked: _Query,
    form: VexForm = "openvex",
) -> Response:
    """Return what machines report of vulnerabilities, as scanners read it."""
    return StreamingResponse(vex_parts(context_of(request), asked, form), media_type="application/json")


def vex_parts(context: Context, asked: Query, form: str) -> Iterator[bytes]:
    """Yield the VEX document about the machines that are meant; the transaction is over when the last part is read."""
    now = context.clock()
    with context.database.survey() as connection:
        found = vex.statements(connection, asked, fleet.silent_since(context.settings, now))
        parts = openvex_parts(found, now, "debian", vex.ROLE) if form == "openvex" else cyclonedx_parts(found, now)
        gathered, size = [], 0
        for part in parts:
            gathered.append(part)
            size += len(part)
            if size >= _PART_BYTES:
                yield b"".join(gathered)
                gathered, size = [], 0
        yield b"".join(gathered)


@router.post("/evidence", response_model=dict[str, Any])
def make_evidence(request: Request, caller: _Operator, asked: _Query) -> Response:
    """Return signed evidence about machines: a DSSE envelope, which has no expiry. It is in the audit record."""
    return Response(evidence.made(context_of(request), caller, asked), media_type="application/json")


@router.get("/evidence-key")
def get_evidence_key(request: Request, caller: _Viewer) -> dict[str, str]:  # noqa: ARG001
    """Return the key that evidence is signed with; it is made when it is asked for first."""
    return {"key": evidence.key(context_of(request)).public}
