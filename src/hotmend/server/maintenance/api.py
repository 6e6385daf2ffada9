"""The API of maintenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy.engine import RowMapping

from hotmend.server.context import Context, context_of
from hotmend.server.identity.access import OPERATOR, VIEWER, Principal
from hotmend.server.maintenance import events, service, slots, store
from hotmend.server.once import HEADER, once_within
from hotmend.server.problem import Problem, made, not_found
from hotmend.wire.maintenance import (
    Assignment,
    AssignmentPage,
    AssignmentWanted,
    Configuration,
    ConfigurationPage,
    ConfigurationWanted,
    FreezePage,
    FreezeWanted,
    MachineMaintenance,
    NamedFreeze,
    SlotPage,
    SlotTaken,
    WindowAnswer,
    WindowEvent,
    WindowEventPage,
    WindowOutcome,
)

router = APIRouter(prefix="/maintenance", tags=["maintenance"])
_Viewer = Annotated[Principal, Depends(VIEWER)]
_Operator = Annotated[Principal, Depends(OPERATOR)]
_Limit = Annotated[int, Query(ge=1, le=500)]


@router.get("/configurations")
def list_configurations(
    request: Request,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    cursor: str = "",
    limit: _Limit = 100,
) -> ConfigurationPage:
    """Return configurations by name."""
    with context_of(request).database.read() as connection:
        counts = store.machine_counts(connection)
        rows, following = store.configuration_page(connection, cursor, limit)
    return ConfigurationPage([_configuration(row, counts) for row in rows], following)


def _configuration(row: RowMapping, counts: Mapping[str, int]) -> Configuration:
    return Configuration(
        row["name"],
        msgspec.convert(row["content"], ConfigurationWanted),
        row["version"],
        row["changed_by"],
        row["changed_at"],
        counts.get(row["name"], 0),
    )


@router.get("/configurations/{name}")
def get_configuration(
    request: Request,
    response: Response,
    name: str,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
) -> Configuration:
    """Return a configuration."""
    with context_of(request).database.read() as connection:
        row = store.configuration(connection, name)
        if row is None:
            raise not_found("configuration")
        found = _configuration(row, store.machine_counts(connection))
    response.headers["ETag"] = f'"{found.version}"'
    return found


@router.put("/configurations/{name}")
def put_configuration(
    request: Request,
    response: Response,
    name: str,
    wanted: ConfigurationWanted,
    caller: _Operator,
    if_match: Annotated[str, Header()] = "",
) -> Configuration:
    """Make or change a configuration. The one with the name `default` is for machines without another."""
    service.put_configuration(context_of(request), caller, name, wanted, _version(if_match))
    return get_configuration(request, response, name, caller)


@router.delete("/configurations/{name}", status_code=204)
def delete_configuration(request: Request, name: str, caller: _Operator) -> Response:
    """Remove a configuration that is assigned to nobody."""
    service.delete_configuration(context_of(request), caller, name)
    return Response(status_code=204)


@router.get("/freezes")
def list_freezes(
    request: Request,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    cursor: str = "",
    limit: _Limit = 100,
) -> FreezePage:
    """Return the freezes for everybody by name."""
    with context_of(request).database.read() as connection:
        rows, following = store.freeze_page(connection, cursor, limit)
    return FreezePage([NamedFreeze(row["name"], row["first"], row["last"], row["yearly"]) for row in rows], following)


@router.put("/freezes/{name}", status_code=204)
def put_freeze(request: Request, name: str, wanted: FreezeWanted, caller: _Operator) -> Response:
    """Freeze days for everybody."""
    service.put_freeze(context_of(request), caller, name, wanted)
    return Response(status_code=204)


@router.delete("/freezes/{name}", status_code=204)
def delete_freeze(request: Request, name: str, caller: _Operator) -> Response:
    """End a freeze for everybody."""
    service.delete_freeze(context_of(request), caller, name)
    return Response(status_code=204)


@router.get("/assignments")
def list_assignments(
    request: Request,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    cursor: str = "",
    limit: _Limit = 100,
) -> AssignmentPage:
    """Return assignments, the one that counts first."""
    with context_of(request).database.read() as connection:
        rows, following = store.assignment_page(connection, cursor, limit)
    return AssignmentPage([_assignment(row) for row in rows], following)


def _assignment(row: RowMapping) -> Assignment:
    return Assignment(
        row["id"],
        row["configuration"],
        row["priority"],
        row["machine_id"],
        row["scope"],
        row["tag_name"],
        row["tag_value"],
    )


@router.post("/assignments", status_code=201, response_model=Assignment)
def add_assignment(
    request: Request,
    wanted: AssignmentWanted,
    caller: _Operator,
    key: Annotated[str, Header(alias=HEADER)] = "",
) -> Response:
    """Give machines a configuration; those that come to a scope or tag later get it, too. With Idempotency-Key once."""

    def do(context: Context) -> Assignment:
        identity = service.add_assignment(context, caller, wanted)
        with context.database.read() as connection:
            return _assignment(store.assignment(connection, identity))

    return made(once_within(context_of(request), caller, key, ["assignments", asdict(wanted)], do))


@router.delete("/assignments/{identity}", status_code=204)
def delete_assignment(request: Request, identity: str, caller: _Operator) -> Response:
    """Take an assignment back."""
    service.delete_assignment(context_of(request), caller, identity)
    return Response(status_code=204)


@router.get("/slots")
def list_slots(
    request: Request,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    cursor: str = "",
    limit: _Limit = 100,
) -> SlotPage:
    """Return the restart slots that are taken, by configuration."""
    with context_of(request).database.read() as connection:
        rows, following = slots.taken_page(connection, cursor, limit)
    found = [SlotTaken(row["pool"], row["machine_id"], row["name"], row["taken_at"], row["expires_at"]) for row in rows]
    return SlotPage(found, following)


@router.delete("/slots/{machine}", status_code=204)
def free_slot(request: Request, machine: str, caller: _Operator) -> Response:
    """Free the slot of a machine that will not give it back."""
    service.free_slot(context_of(request), caller, machine)
    return Response(status_code=204)


@router.get("/windows")
def list_window_events(
    request: Request,
    caller: _Viewer,  # noqa: ARG001 - asked for its role
    cursor: str = "",
    limit: _Limit = 100,
) -> WindowEventPage:
    """Return windows that were asked about, the latest first."""
    with context_of(request).database.read() as connection:
        rows, following = events.asked_page(connection, cursor, limit)
    return WindowEventPage([_event(row) for row in rows], following)


@router.post("/windows/{identity}/answer")
def answer_window(request: Request, identity: str, wanted: WindowAnswer, caller: _Operator) -> WindowEvent:
    """Say whether machines may begin in a window that was asked about."""
    return _event(service.answer_event(context_of(request), caller, identity, wanted))


@router.get("/machines/{identity}")
def get_machine_maintenance(request: Request, identity: str, caller: _Viewer) -> MachineMaintenance:  # noqa: ARG001
    """Return what holds for a machine, with its next windows."""
    return service.of_machine(context_of(request), identity)


def _event(row: RowMapping) -> WindowEvent:
    return WindowEvent(
        row["id"],
        row["configuration"],
        row["starts_at"],
        row["ends_at"],
        row["asked_at"],
        row["state"],
        row["by"],
        row["reason"],
        row["closed_at"],
        None if row["closed_at"] is None else msgspec.convert(row["outcome"], WindowOutcome),
    )


def _version(match: str) -> int | None:
    if not match:
        return None
    text = match.strip().removeprefix("W/").strip('"')
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Problem(412, "changed", "not a version of a configuration", "read it again")
    return int(text)
