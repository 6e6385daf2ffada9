"""The API of rollouts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.context import Context, context_of
from hotmend.server.database import Within
from hotmend.server.identity.access import APPROVER, OPERATOR, VIEWER, Principal
from hotmend.server.once import HEADER, once
from hotmend.server.paging import cursor_number
from hotmend.server.problem import Problem, not_found
from hotmend.server.rollouts import preview, progress, service, store
from hotmend.server.rollouts.spec import asked
from hotmend.wire.rollouts import (
    EventAnswer,
    EventPage,
    Group,
    Halt,
    MemberPage,
    Reason,
    RingPreview,
    Rollout,
    RolloutEvent,
    RolloutMember,
    RolloutPage,
    RolloutPreview,
    RolloutState,
    RolloutWanted,
    StartAt,
    Yes,
)

router = APIRouter(tags=["rollouts"])
GROUPS_MAX: Final = 10_000
"""No rollout has so many."""
_Limit = Annotated[int, Query(ge=1, le=1000)]
Match = Annotated[str, Header(alias="If-Match")]


@router.post("/rollouts/preview")
def preview_rollout(
    request: Request,
    wanted: RolloutWanted,
    caller: Annotated[Principal, Depends(VIEWER)],  # noqa: ARG001 - asked for its role
) -> RolloutPreview:
    """Say what a rollout would do now; nothing is done. Its seed draws the same machines when the rollout is made."""
    return _preview(preview.preview(context_of(request), *asked(wanted), wanted.seed))


@router.post("/rollouts", status_code=201)
def create_rollout(
    request: Request,
    response: Response,
    wanted: RolloutWanted,
    caller: Annotated[Principal, Depends(OPERATOR)],
    key: Annotated[str, Header(alias=HEADER)] = "",
) -> Rollout:
    """Plan a rollout. It waits for approval. The same request with the same Idempotency-Key plans it once.

    With the seed of a preview it has the machines that were shown; with its plan too, it is that plan or none.
    """
    if not 1 <= len(wanted.name) <= 200:
        raise Problem(422, "name", "a name has 1 to 200 characters")
    context, (lane, spec) = context_of(request), asked(wanted)
    shown = service.Shown(wanted.seed, wanted.plan)
    done = once(
        context,
        caller,
        key,
        {"path": "rollouts", "wanted": asdict(wanted)},
        lambda connection, now: service.create(connection, now, caller, wanted.name, lane, spec, shown),
    )
    identity = msgspec.json.decode(done, type=str)
    with context.database.read() as connection:
        made = _whole(connection, identity)
    response.headers["Location"] = f"/api/v1/rollouts/{identity}"
    response.headers["ETag"] = _etag(made)
    return made


@router.get("/rollouts")
def list_rollouts(
    request: Request,
    caller: Annotated[Principal, Depends(VIEWER)],  # noqa: ARG001
    cursor: str = "",
    limit: _Limit = 100,
) -> RolloutPage:
    """Return rollouts, newest first, without their groups."""
    with context_of(request).database.read() as connection:
        rows, following = store.rollout_page(connection, cursor, limit)
    return RolloutPage([_rollout(row) for row in rows], following)


@router.get(
    "/rollouts/{identity}",
    response_model=Rollout,
    responses={304: {"description": "It is as it was when `If-None-Match` was given."}},
)
def get_rollout(
    request: Request,
    identity: str,
    caller: Annotated[Principal, Depends(VIEWER)],  # noqa: ARG001
    if_none_match: Annotated[str, Header(alias="If-None-Match")] = "",
) -> Response:
    """Return a rollout with its groups."""
    with context_of(request).database.survey() as connection:
        found = _whole(connection, identity)
    tag = _etag(found)
    if if_none_match == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(msgspec.json.encode(found), headers={"ETag": tag}, media_type="application/json")


@router.get("/rollouts/{identity}/preview")
def preview_planned_rollout(
    request: Request,
    identity: str,
    caller: Annotated[Principal, Depends(VIEWER)],  # noqa: ARG001
) -> RolloutPreview:
    """Say what a rollout that has not begun would do now, with the machines of its plan: for whoever approves it."""
    return _preview(preview.planned(context_of(request), identity))


@router.get("/rollouts/{identity}/machines")
def list_rollout_machines(
    request: Request,
    identity: str,
    caller: Annotated[Principal, Depends(VIEWER)],  # noqa: ARG001
    group: Annotated[int | None, Query(ge=0, le=GROUPS_MAX)] = None,
    cursor: str = "",
    limit: _Limit = 100,
) -> MemberPage:
    """Return the machines of a rollout and where each stands."""
    with context_of(request).database.read() as connection:
        if store.rollout(connection, identity) is None:
            raise not_found("rollout")
        rows = progress.member_page(connection, identity, group, cursor, limit)
    items = [
        RolloutMember(
            row["machine_id"],
            row["name"],
            row["number"],
            row["late"],
            row["held"],
            row["action_id"],
            row["state"],
            row["detail"] or "",
            row["handed_at"],
            row["changed_at"],
            row["seen_at"],
        )
        for row in rows
    ]
    return MemberPage(items, items[-1].machine if len(items) == limit else "")


@router.get("/rollouts/{identity}/events")
def list_rollout_events(
    request: Request,
    identity: str,
    caller: Annotated[Principal, Depends(VIEWER)],  # noqa: ARG001
    cursor: str = "",
    limit: _Limit = 100,
) -> EventPage:
    """Return what happened to a rollout, oldest first; the cursor goes on where this ended, and more may come then.

    It is never "": who asks with it again later has what happened meanwhile.
    """
    after = cursor_number(cursor) or 0
    with context_of(request).database.read() as connection:
        if store.rollout(connection, identity) is None:
            raise not_found("rollout")
        rows = store.event_rows(connection, identity, after, limit)
    items = [
        RolloutEvent(row["id"], row["at"], row["who"], row["what"], row["group_number"], row["why"]) for row in rows
    ]
    return EventPage(items, str(items[-1].number if items else after))


@router.post("/rollouts/{identity}/approve")
def approve_rollout(
    request: Request, identity: str, yes: Yes, caller: Annotated[Principal, Depends(APPROVER)], if_match: Match = ""
) -> RolloutState:
    """Say yes to the plan of a rollout."""
    with _seen_by(request, identity, if_match) as context:
        return RolloutState(service.approve(context, caller, identity, yes.plan).value)


@router.post("/rollouts/{identity}/start")
def start_rollout(
    request: Request, identity: str, caller: Annotated[Principal, Depends(OPERATOR)], if_match: Match = ""
) -> RolloutState:
    """Let an approved rollout begin."""
    with _seen_by(request, identity, if_match) as context:
        return RolloutState(service.start(context, caller, identity).value)


@router.post("/rollouts/{identity}/schedule")
def schedule_rollout(
    request: Request,
    identity: str,
    wanted: StartAt,
    caller: Annotated[Principal, Depends(OPERATOR)],
    if_match: Match = "",
) -> RolloutState:
    """Have an approved rollout begin by itself at a moment, or not any more."""
    with _seen_by(request, identity, if_match) as context:
        return RolloutState(service.schedule(context, caller, identity, wanted.at).value)


@router.post("/rollouts/{identity}/pause")
def pause_rollout(
    request: Request,
    identity: str,
    reason: Reason,
    caller: Annotated[Principal, Depends(OPERATOR)],
    if_match: Match = "",
) -> RolloutState:
    """Let nothing new begin."""
    with _seen_by(request, identity, if_match) as context:
        return RolloutState(service.pause(context, caller, identity, reason.reason).value)


@router.post("/rollouts/{identity}/resume")
def resume_rollout(
    request: Request,
    identity: str,
    reason: Reason,
    caller: Annotated[Principal, Depends(OPERATOR)],
    if_match: Match = "",
) -> RolloutState:
    """Go on with a paused rollout."""
    with _seen_by(request, identity, if_match) as context:
        return RolloutState(service.resume(context, caller, identity, reason.reason).value)


@router.post("/rollouts/{identity}/stop")
def stop_rollout(
    request: Request,
    identity: str,
    reason: Reason,
    caller: Annotated[Principal, Depends(OPERATOR)],
    if_match: Match = "",
) -> RolloutState:
    """End a rollout where it is."""
    with _seen_by(request, identity, if_match) as context:
        return RolloutState(service.stop(context, caller, identity, reason.reason).value)


@router.post("/rollouts/{identity}/roll-back")
def roll_back_rollout(
    request: Request,
    identity: str,
    reason: Reason,
    caller: Annotated[Principal, Depends(OPERATOR)],
    if_match: Match = "",
) -> RolloutState:
    """Take a rollout back on every machine that it may have changed: an emergency revert."""
    with _seen_by(request, identity, if_match) as context:
        return RolloutState(service.roll_back(context, caller, identity, reason.reason).value)


@router.post("/rollouts/{identity}/groups/{number}/events/{kind}", status_code=204)
def answer_event(
    request: Request,
    identity: str,
    number: Annotated[int, Path(ge=0, le=GROUPS_MAX)],
    kind: Literal["pre", "post"],
    answer: EventAnswer,
    caller: Annotated[Principal, Depends(OPERATOR)],
) -> Response:
    """Say whether a ring may begin (pre), or may count as passed (post)."""
    service.answer_event(context_of(request), caller, identity, number, kind, answer.allow, answer.reason)
    return Response(status_code=204)


@router.get("/halt")
def get_halt(request: Request, caller: Annotated[Principal, Depends(VIEWER)]) -> Halt:  # noqa: ARG001
    """Say whether everything is halted."""
    with context_of(request).database.read() as connection:
        row = store.halt(connection)
    return Halt(halted=False) if row is None else Halt(row["halted"], row["reason"], row["by"], row["at"])


@router.post("/halt")
def halt(request: Request, reason: Reason, caller: Annotated[Principal, Depends(OPERATOR)]) -> Halt:
    """Let nothing new begin on any machine."""
    return service.put_halt(context_of(request), caller, reason.reason, halted=True)


@router.post("/release")
def release_halt(request: Request, reason: Reason, caller: Annotated[Principal, Depends(OPERATOR)]) -> Halt:
    """Let rollouts and actions go on."""
    return service.put_halt(context_of(request), caller, reason.reason, halted=False)


def _preview(found: preview.Preview) -> RolloutPreview:
    shown = [
        RingPreview(ring.name, ring.machines, ring.off, ring.waves, ring.held_now, list(ring.first))
        for ring in found.rings
    ]
    causes = [dict(each) for each in found.causes]
    return RolloutPreview(
        causes, found.machines, shown, found.hours_min, found.approvals, seed=found.seed, plan=found.plan
    )


def _whole(connection: Connection, identity: str) -> Rollout:
    row = store.rollout(connection, identity)
    if row is None:
        raise not_found("rollout")
    found = _rollout(row)
    groups = []
    states = progress.states_of_groups(connection, identity)
    for group in store.group_rows(connection, identity):
        counts = states.get(group["number"], {})
        groups.append(
            Group(
                group["number"],
                group["name"],
                group["state"],
                group["why"],
                group["began_at"],
                group["quiet_since"],
                group["ended_at"],
                {"" if state is None else state.value: count for state, count in counts.items()},
            )
        )
    people = sorted({each.person for each in store.approvals_of(connection, identity) if each.plan == row["plan"]})
    reverts = {state.value: count for state, count in progress.reverts(connection, identity).items()}
    return replace(found, approvals=people, groups=groups, reverts=reverts)


def _rollout(row: RowMapping) -> Rollout:
    return Rollout(
        row["id"],
        row["name"],
        row["lane"],
        row["state"],
        row["plan"],
        row["failed_at"],
        row["why"],
        row["spec"],
        row["created_by"],
        row["created_at"],
        row["changed_at"],
        row["version"],
        start_at=row["start_at"],
    )


def _etag(found: Rollout) -> str:
    """Return what a rollout is known by: its version, and all that is shown, which changes by what machines say."""
    return f'"{found.version}-{hashlib.sha256(msgspec.json.encode(found)).hexdigest()[:16]}"'


@contextmanager
def _seen_by(request: Request, identity: str, match: str) -> Iterator[Context]:
    """Give the context in which a rollout is changed: with `If-Match`, one where it is as the caller saw it.

    What machines have said since is no change of it.

    Raises:
        Problem: there is no such rollout, or somebody has changed it.
    """
    context = context_of(request)
    if not match or match == "*":
        yield context
        return
    version = match.strip('"').partition("-")[0]
    with context.database.write() as connection:
        row = store.locked(connection, identity)
        if row is None:
            raise not_found("rollout")
        if version != str(row["version"]):
            raise Problem(412, "changed", "somebody has changed it meanwhile", "read it again")
        yield replace(context, database=Within(context.database, connection))
