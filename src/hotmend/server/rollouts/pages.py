"""Rollouts as pages: the list, and one as it runs, with what can be done about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Form, Query
from starlette.responses import Response

from hotmend.server.portal.charts import Bar
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect, seeing
from hotmend.server.problem import Problem, not_found
from hotmend.server.rollouts import progress, service, store
from hotmend.server.rollouts.preview import PLANNED
from hotmend.servicing.actions import State as ActionState
from hotmend.servicing.message import N_, Message
from hotmend.servicing.rollouts import ASKING, Event, State, advance

router = APIRouter(prefix="/rollouts", route_class=PageRoute, include_in_schema=False)

Viewer = Annotated[Visit, Depends(seeing("viewer"))]
Operator = Annotated[Visit, Depends(doing("operator"))]
ROWS: Final = 50
EVENTS_MAX: Final = 10_000

BUTTONS: Final = (
    ("approve", N_("Approve this plan"), Event.APPROVED, "approver"),
    ("start", N_("Start"), Event.STARTED, "operator"),
    ("pause", N_("Pause"), Event.PAUSED, "operator"),
    ("resume", N_("Resume"), Event.RESUMED, "operator"),
    ("stop", N_("Stop"), Event.STOPPED, "operator"),
    ("roll-back", N_("Roll back"), Event.TAKEN_BACK, "operator"),
)
"""Name, text, what it does to a rollout, and who may."""


@router.get("")
def list_page(visit: Viewer, after: Annotated[str, Query(max_length=300)] = "") -> Response:
    """Show rollouts, the last one first."""
    with visit.context.database.read() as connection:
        rows, following = store.rollout_page(connection, after, ROWS)
    return visit.page("rollouts.html.j2", rows=rows, next=following)


@router.get("/{identity}")
def rollout_page(
    visit: Viewer,
    identity: str,
    after: Annotated[str, Query(max_length=50)] = "",
    still: Annotated[str, Query(max_length=10)] = "",
    seen: Annotated[str, Query(max_length=50)] = "",
) -> Response:
    """Show one rollout. The part that changes comes again by itself, unless it is to stand still.

    Args:
        visit: of the page.
        identity: of the rollout.
        after: machine after which the list begins.
        still: it stands still.
        seen: state that the page had when it was opened: its buttons are those of that state.
    """
    with visit.context.database.survey() as connection:
        row = store.rollout(connection, identity)
        if row is None:
            raise not_found("rollout")
        state = State(row["state"])
        states = progress.states_of_groups(connection, identity)
        groups = [
            {
                "row": group,
                "bars": _bars(states.get(group["number"], {}), visit),
                "asked": [
                    gate
                    for kind in ("pre", "post")
                    if state in ASKING
                    and (gate := store.gate(connection, identity, group["number"], kind)) is not None
                    and gate["state"] == "waiting"
                ],
            }
            for group in store.group_rows(connection, identity)
        ]
        approvals = [each.person for each in store.approvals_of(connection, identity) if each.plan == row["plan"]]
        members = progress.member_page(connection, identity, None, after, ROWS)
        events = store.event_rows(connection, identity, 0, EVENTS_MAX)
    buttons = [
        (name, text)
        for name, text, event, role in BUTTONS
        if advance(state, event) is not None and visit.who.has(role) and visit.who.csrf
    ]
    return visit.page(
        "rollout.html.j2",
        rollout=row,
        groups=groups,
        approvals=sorted(set(approvals)),
        members=members,
        next=members[-1]["machine_id"] if len(members) == ROWS else "",
        after=after,
        events=events[: -ROWS - 1 : -1],
        buttons=buttons,
        planned=state in PLANNED,
        live=not state.final,
        still=bool(still),
        other=bool(seen) and seen != state,
        ready=state is State.READY and visit.who.has("operator") and bool(visit.who.csrf),
        may_answer=visit.who.has("operator") and bool(visit.who.csrf),
        why=lambda given: _sentence(given, visit),
    )


@router.post("/{identity}/schedule")
def schedule(visit: Operator, identity: str, at: Annotated[str, Form(max_length=40)] = "") -> Response:
    """Have an approved rollout begin by itself at a moment, in UTC; an empty one: not any more."""
    try:
        moment = datetime.fromisoformat(at).replace(tzinfo=UTC) if at else None
    except ValueError as error:
        raise Problem(422, "not-valid", str(error)) from None
    service.schedule(visit.context, visit.who, identity, moment)
    return redirect(f"/rollouts/{identity}", done="rollout-scheduled" if moment else "rollout-unscheduled")


@router.post("/{identity}/{what}")
def act(
    visit: Operator,
    identity: str,
    what: Literal["approve", "start", "pause", "resume", "stop", "roll-back"],
    reason: Annotated[str, Form(max_length=500)] = "",
    plan: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    """Move a rollout."""
    context, caller, why = visit.context, visit.who, reason.strip()
    match what:
        case "approve":
            if not caller.has("approver"):
                raise Problem(403, "role", "this needs the role approver")
            service.approve(context, caller, identity, plan)
        case "start":
            service.start(context, caller, identity)
        case "pause":
            service.pause(context, caller, identity, why)
        case "resume":
            service.resume(context, caller, identity, why)
        case "stop":
            service.stop(context, caller, identity, why)
        case "roll-back":
            service.roll_back(context, caller, identity, why)
    return redirect(f"/rollouts/{identity}", done=f"rollout-{what}")


@router.post("/{identity}/groups/{number}/events/{kind}")
def answer(
    visit: Operator,
    identity: str,
    number: int,
    kind: Literal["pre", "post"],
    allow: Annotated[Literal["yes", "no"], Form()] = "no",
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Say whether a ring may begin, or may count as passed."""
    service.answer_event(visit.context, visit.who, identity, number, kind, allow == "yes", reason.strip())
    return redirect(f"/rollouts/{identity}", done="rollout-answered")


def _bars(states: dict[ActionState | None, int], visit: Visit) -> list[Bar]:
    words = visit.words
    return [
        Bar(
            words.code(state) if state else words.say("not begun"),
            number,
            words.number(number),
            "" if state is None else "good" if state.good else "bad" if state.bad else "open",
        )
        for state, number in sorted(states.items(), key=lambda each: str(each[0] or ""))
    ]


def _sentence(given: Any, visit: Visit) -> str:
    """Return a cause that is kept as JSON; "" where there is none."""
    return visit.words.write(msgspec.convert(given, Message)) if given else ""
