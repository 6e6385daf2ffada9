"""Machines, their actions, and dynamic scopes over the API."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Request
from fastapi import Query as Asked
from sqlalchemy.engine import Connection, RowMapping
from starlette.responses import Response

from hotmend.server.context import Context, context_of
from hotmend.server.identity.access import APPROVER, OPERATOR, VIEWER, Principal
from hotmend.server.machines import planning, query, scopes, service, store, uploads
from hotmend.server.machines.tables import machines
from hotmend.server.once import once, once_within
from hotmend.server.paging import cursor_number
from hotmend.server.problem import Problem, made, not_found
from hotmend.wire.api import (
    Action,
    ActionPage,
    ActionStep,
    ActionWanted,
    Forecast,
    Machine,
    MachineDetail,
    MachineEvent,
    MachineEventPage,
    MachinePage,
    MachineState,
    Query,
    Scope,
    ScopePage,
    ScopeWanted,
    Tags,
    TierName,
)

router = APIRouter(tags=["machines"])

Viewer = Annotated[Principal, Depends(VIEWER)]
Operator = Annotated[Principal, Depends(OPERATOR)]
Approver = Annotated[Principal, Depends(APPROVER)]
Key = Annotated[str, Header(alias="Idempotency-Key")]
Match = Annotated[str, Header(alias="If-Match")]
_SHOWN = tuple(name for name in Machine.__dataclass_fields__ if name != "tags")


def _query(
    state: MachineState | None = None,
    line: str | None = None,
    enrollment: str | None = None,
    platform: str | None = None,
    tier: TierName | None = None,
    release: str | None = None,
    tag: Annotated[list[str] | None, Asked(description="NAME or NAME=VALUE; may be given several times")] = None,
    search: str = "",
    cve: str = "",
    waiting: bool | None = None,
    restarts_due: bool | None = None,
    reboot_due: bool | None = None,
    alerts: bool | None = None,
) -> Query:
    tags = {name: value for name, _, value in (each.partition("=") for each in tag or [])}
    return Query(
        state, line, enrollment, platform, tier, release, tags, search, cve, waiting, restarts_due, reboot_due, alerts
    )


@router.get("/machines")
def list_machines(
    request: Request,
    caller: Viewer,  # noqa: ARG001 - asked for its role
    asked: Annotated[Query, Depends(_query)],
    scope: str = "",
    cursor: str = "",
    limit: Annotated[int, Asked(ge=1, le=500)] = 100,
) -> MachinePage:
    """Return the machines that match, by name."""
    with context_of(request).database.survey() as connection:
        within = [machines.c.id.in_(query.ids(scopes.asked(connection, scope)))] if scope else []
        listing = store.listing().where(*query.conditions(asked), *within)
        total = connection.execute(query.count(asked).where(*within)).scalar_one()
        page = listing.where(query.after(cursor)) if cursor else listing
        ordered = page.order_by(machines.c.name, machines.c.id).limit(limit + 1)
        rows = list(connection.execute(ordered).mappings())
        items = _machines(connection, rows[:limit])
    more = query.cursor_of(items[-1].name, items[-1].id) if len(rows) > limit else ""
    return MachinePage(items, more, total)


@router.get(
    "/machines/{identity}",
    response_model=MachineDetail,
    responses={304: {"description": "It is as it was when `If-None-Match` was given."}},
)
def get_machine(
    request: Request,
    caller: Viewer,  # noqa: ARG001 - asked for its role
    identity: str,
    if_none_match: Annotated[str, Header(alias="If-None-Match")] = "",
) -> Response:
    """Return one machine with its report."""
    with context_of(request).database.read() as connection:
        row = _row(connection, identity)
        tag = _etag(row)
        if if_none_match == tag:
            return Response(status_code=304, headers={"ETag": tag})
        body = store.report_body(connection, identity)
        found = [
            {name: value for name, value in finding.items() if name not in ("machine_id", "number")}
            for finding in store.findings_of(connection, identity)
        ]
        shown = MachineDetail(
            _machines(connection, [row])[0], msgspec.json.decode(body) if body is not None else None, found
        )
    return _json(msgspec.json.encode(shown), headers={"ETag": tag})


@router.get("/machines/{identity}/events")
def list_events(
    request: Request,
    caller: Viewer,  # noqa: ARG001 - asked for its role
    identity: str,
    cursor: str = "",
    limit: Annotated[int, Asked(ge=1, le=500)] = 100,
) -> MachineEventPage:
    """Return what happened to a machine, newest first."""
    with context_of(request).database.read() as connection:
        _row(connection, identity)
        rows = store.events_of(connection, identity, cursor_number(cursor), limit)
    items = [MachineEvent(row["id"], row["at"], row["kind"], row["detail"]) for row in rows]
    return MachineEventPage(items, str(items[-1].id) if len(items) == limit else "")


@router.put("/machines/{identity}/tags")
def put_tags(request: Request, caller: Operator, identity: str, wanted: Tags, if_match: Match = "") -> Tags:
    """Give a machine these tags and no other."""
    service.put_tags(context_of(request), caller, identity, wanted.tags, _version(if_match))
    return wanted


@router.post("/machines/{identity}/approve", response_model=MachineDetail)
def approve(request: Request, caller: Approver, identity: str, if_match: Match = "") -> Response:
    """Let a machine take part that waits for approval, or that was suspect."""
    service.approve(context_of(request), caller, identity, _version(if_match))
    return get_machine(request, caller, identity)


@router.delete("/machines/{identity}", status_code=204)
def offboard(request: Request, caller: Approver, identity: str, if_match: Match = "") -> Response:
    """Let a machine go: its key is worth nothing any more. What it has installed stays; its history stays here."""
    service.offboard(context_of(request), caller, identity, _version(if_match))
    return Response(status_code=204)


@router.get("/machines/{identity}/forecast")
def get_forecast(
    request: Request,
    caller: Viewer,  # noqa: ARG001 - asked for its role
    identity: str,
    update: Annotated[list[str] | None, Asked()] = None,
) -> Forecast:
    """Return what installing now would bring: all that waits, or these updates."""
    context = context_of(request)
    with context.database.read() as connection:
        return planning.forecast(connection, _row(connection, identity), update or [], context.clock())


@router.get("/machines/{identity}/actions")
def list_actions(
    request: Request,
    caller: Viewer,  # noqa: ARG001 - asked for its role
    identity: str,
    cursor: str = "",
    limit: Annotated[int, Asked(ge=1, le=500)] = 100,
) -> ActionPage:
    """Return a machine's actions, newest first."""
    with context_of(request).database.read() as connection:
        _row(connection, identity)
        rows, following = store.action_page(connection, identity, cursor, limit)
    return ActionPage([_action(row) for row in rows], following)


@router.post("/machines/{identity}/actions", status_code=202, response_model=Action)
def plan_action(request: Request, caller: Operator, identity: str, wanted: ActionWanted, key: Key = "") -> Response:
    """Have a machine do something now: it is told at its next check-in. With Idempotency-Key it is planned once."""
    context = context_of(request)

    def do(connection: Connection, now: Any) -> Action:
        action = planning.plan(connection, now, caller, identity, wanted)
        return _shown(connection, action)

    return _json(once(context, caller, key, [identity, asdict(wanted)], do), 202)


@router.get("/actions/{identity}")
def get_action(request: Request, caller: Viewer, identity: str) -> Action:  # noqa: ARG001 - asked for its role
    """Return an action with its steps."""
    with context_of(request).database.read() as connection:
        return _shown(connection, identity)


@router.post("/actions/{identity}/cancel")
def cancel_action(request: Request, caller: Operator, identity: str) -> Action:
    """Cancel an action that the machine has not been told of."""
    context = context_of(request)
    planning.cancel(context, caller, identity)
    with context.database.read() as connection:
        return _shown(connection, identity)


@router.put("/facts/{name}", response_model=MachineDetail)
async def put_facts(request: Request, caller: Operator, name: str) -> Response:
    """Keep the facts of a machine without an agent (docs/facts.md), as `hotmend windows facts` writes them."""
    from starlette.concurrency import run_in_threadpool

    body = await request.body()
    identity = await run_in_threadpool(uploads.upload, context_of(request), caller, name, body)
    return await run_in_threadpool(get_machine, request, caller, identity)


@router.get("/scopes")
def list_scopes(
    request: Request,
    caller: Viewer,  # noqa: ARG001 - asked for its role
    cursor: str = "",
    limit: Annotated[int, Asked(ge=1, le=500)] = 100,
) -> ScopePage:
    """Return dynamic scopes by name."""
    return ScopePage(*scopes.some(context_of(request), cursor, limit))


@router.post("/scopes", status_code=201, response_model=Scope)
def add_scope(request: Request, caller: Operator, wanted: ScopeWanted, key: Key = "") -> Response:
    """Save a query under a name: machines belong to it as long as they match. With Idempotency-Key once."""

    def do(context: Context) -> Scope:
        return scopes.add(context, caller, wanted)

    return made(once_within(context_of(request), caller, key, ["scopes", asdict(wanted)], do))


@router.delete("/scopes/{name}", status_code=204)
def remove_scope(request: Request, caller: Operator, name: str) -> Response:
    """Forget a scope. Machines stay as they are."""
    scopes.remove(context_of(request), caller, name)
    return Response(status_code=204)


def _row(connection: Connection, identity: str) -> RowMapping:
    row = store.machine(connection, identity)
    if row is None:
        raise not_found("machine")
    return row


def _machines(connection: Connection, rows: Iterable[RowMapping]) -> list[Machine]:
    rows = list(rows)
    tags = store.tags_of(connection, [row["id"] for row in rows])
    return [Machine(tags=tags[row["id"]], **{name: _plain(name, row[name]) for name in _SHOWN}) for row in rows]


_EMPTY: dict[str, Any] = {"waiting": 0, "restarts_due": 0, "restarts_avoided": 0, "reboots_avoided": 0, "alerts": 0}


def _plain(name: str, value: Any) -> Any:
    """Return a column's value; what comes from a report that is not there yet is "", 0 or False."""
    if value is not None or name in ("seen_at", "looked_at", "reported_at"):
        return value
    return False if name == "reboot_due" else _EMPTY.get(name, "")


def _shown(connection: Connection, identity: str) -> Action:
    row = store.action(connection, identity)
    if row is None:
        raise not_found("action")
    steps = [ActionStep(e["at"], e["state"], e["detail"]) for e in store.action_events_of(connection, identity)]
    return _action(row, steps)


def _action(row: RowMapping, steps: Iterable[ActionStep] = ()) -> Action:
    return Action(
        row["id"],
        row["machine_id"],
        row["kind"],
        row["updates"],
        row["state"],
        row["detail"],
        row["anytime"],
        row["emergency"],
        row["reason"],
        row["rollout_id"],
        row["created_by"],
        row["created_at"],
        row["due_at"],
        row["until"],
        row["handed_at"],
        list(steps),
        row["undoes"],
    )


def _etag(row: RowMapping) -> str:
    said = row["reported_at"].timestamp() if row["reported_at"] is not None else 0
    seen = row["seen_at"].timestamp() if row["seen_at"] is not None else 0
    return f'"{row["version"]}-{said:.6f}-{seen:.6f}"'


def _version(match: str) -> int | None:
    """Return the version that a caller has seen; None where it does not say.

    Raises:
        Problem: not an ETag of ours.
    """
    if not match or match == "*":
        return None
    first = match.strip('"').partition("-")[0]
    if not first.isascii() or not first.isdigit() or len(first) > 9:
        raise Problem(412, "changed", "not an ETag of this machine", "read it again")
    return int(first)


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, "application/json")
