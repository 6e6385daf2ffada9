"""What people do with rollouts. Each is one transaction, with its audit row; the rest is `steering`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy.engine import Connection

from hotmend.server.audit.store import append
from hotmend.server.context import Context
from hotmend.server.database import new_id
from hotmend.server.identity.access import Principal
from hotmend.server.maintenance.store import scope
from hotmend.server.problem import Problem, conflict, not_found, unprocessable
from hotmend.server.rollouts import candidates, progress, steering, store
from hotmend.server.rollouts.spec import Spec, cause_json, plan_digest
from hotmend.servicing import rings
from hotmend.servicing.lanes import Lane, approved
from hotmend.servicing.message import Cause, cause
from hotmend.servicing.rollouts import ASKING, TRANSITIONS, Event, GroupState, State, advance
from hotmend.wire.rollouts import Halt

START_AHEAD_MAX: Final = timedelta(days=366)
_SEED: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Shown:
    """What somebody has looked at before a rollout is made.

    Attributes:
        seed: that of the preview: it draws the same machines again. "" for one of its own.
        plan: digest that the preview had; "": whatever comes of it is taken.
    """

    seed: str = ""
    plan: str = ""


NOTHING_SHOWN: Final = Shown()


def seed_of(given: str) -> str:
    """Return the seed that was given, or a new one.

    Raises:
        Problem: it is none.
    """
    if given and not _SEED.fullmatch(given):
        raise Problem(422, "seed", "a seed has 1 to 64 letters, digits, - and _", "take that of the preview, or none")
    return given or new_id()


def create(
    connection: Connection,
    now: datetime,
    caller: Principal,
    name: str,
    lane: Lane,
    spec: Spec,
    shown: Shown = NOTHING_SHOWN,
) -> str:
    """Plan a rollout and have it wait for approval, in the caller's transaction; return its id.

    Raises:
        Problem: the plan makes no sense, such as one without a canary; its `code` is the rule's. Or it is another one
            than was shown, or its seed has drawn one before.
    """
    if lane is Lane.EMERGENCY:
        raise Problem(422, "lane", "an emergency only takes back", "roll back the rollout, or revert on machines")
    identity, seed = new_id(), seed_of(shown.seed)
    if store.seed_used(connection, seed):
        raise conflict("seed-used", "this seed has drawn a rollout already", "preview it anew, or leave the seed out")
    if spec.selection.scope:
        scope(connection, spec.selection.scope, lock=True)
    members = candidates.selected(connection, spec.selection)
    plan = rings.plan(members, spec.rings, seed)
    if plan.causes:
        raise unprocessable(plan.causes[0].code, "; ".join(str(each.message) for each in plan.causes))
    lost = set(spec.selection.machines) - {member.id for member in members}
    if lost:
        raise Problem(422, "machine-unknown", f"not a machine that is active: {', '.join(sorted(lost)[:5])}")
    digest = plan_digest(spec, lane, plan.rings)
    if shown.plan and shown.plan != digest:
        raise Problem(412, "forecast-first", "the preview is another one by now", "look at it again")
    values = {
        "id": identity,
        "seed": seed,
        "name": name,
        "lane": lane.value,
        "state": TRANSITIONS[State.CREATING, Event.PLANNED].value,
        "spec": msgspec.to_builtins(spec),
        "plan": digest,
        "why": {},
        "created_by": caller.name,
        "created_at": now,
        "changed_at": now,
    }
    store.insert_rollout(connection, values)
    store.insert_groups(connection, identity, [ring.name for ring in spec.rings], GroupState.READY.value)
    for number, ids in enumerate(plan.rings):
        progress.insert_members(connection, identity, number, ids)
    store.insert_event(connection, _event(identity, now, caller.name, "planned", None))
    detail = {"name": name, "lane": lane.value, "machines": len(members), "plan": digest, "updates": spec.updates}
    append(connection, now, caller.name, "rollout.create", identity, detail)
    return identity


def _event(identity: str, now: object, who: str, what: str, why: Cause | None) -> dict[str, Any]:
    return {"rollout_id": identity, "at": now, "who": who, "what": what, "why": cause_json(why)}


def approve(context: Context, caller: Principal, identity: str, plan: str) -> State:
    """Keep the caller's yes to a plan; return the rollout's state.

    Raises:
        Problem: it does not wait for approval, or that is not its plan.
    """
    with context.database.write() as connection:
        found = _load(connection, context, identity)
        if found.state is not State.WAITING_FOR_APPROVAL:
            raise conflict("state", f"it does not wait for approval: it is {found.state}")
        if plan != found.row["plan"]:
            raise conflict("plan-changed", "that is not the plan of this rollout", "look at it again")
        store.approve(connection, identity, caller.name, plan, found.now)
        missing = approved(found.lane, plan, found.row["created_by"], store.approvals_of(connection, identity))
        append(connection, found.now, caller.name, "rollout.approve", identity, {"plan": plan})
        found.happened("approval", missing, who=caller.name)
        if missing is None:
            found.move(Event.APPROVED, who=caller.name)
            store.update_groups(connection, identity, {"state": GroupState.SCHEDULED.value})
        return found.state


def start(context: Context, caller: Principal, identity: str) -> State:
    """Let an approved rollout begin."""
    return _act(context, caller, identity, Event.STARTED, "")


def schedule(context: Context, caller: Principal, identity: str, at: datetime | None) -> State:
    """Have an approved rollout begin by itself at a moment; None: not any more.

    Raises:
        Problem: it is not ready, or the moment is past, or further away than a year.
    """
    with context.database.write() as connection:
        found = _load(connection, context, identity)
        if found.state is not State.READY:
            raise conflict("state", f"it cannot be scheduled now: it is {found.state}")
        if at is not None and (at.tzinfo is None or not found.now < at <= found.now + START_AHEAD_MAX):
            raise Problem(422, "start", "a start is a moment with its offset, ahead, and within a year")
        store.update_rollout(connection, identity, {"start_at": at})
        why = cause("to-start", "It begins at {at}.", at=at) if at is not None else None
        found.happened("scheduled" if at is not None else "unscheduled", why, who=caller.name)
        detail = {"at": at.isoformat() if at is not None else None}
        append(connection, found.now, caller.name, "rollout.schedule", identity, detail)
        return found.state


def pause(context: Context, caller: Principal, identity: str, reason: str) -> State:
    """Let nothing new begin. What machines have begun they end."""
    return _act(context, caller, identity, Event.PAUSED, reason)


def resume(context: Context, caller: Principal, identity: str, reason: str) -> State:
    """Go on.

    Raises:
        Problem: it is not paused, or a ring went wrong: then it is stopped or rolled back.
    """
    return _act(context, caller, identity, Event.RESUMED, reason)


def stop(context: Context, caller: Principal, identity: str, reason: str) -> State:
    """End it where it is. What was done stays."""
    return _act(context, caller, identity, Event.STOPPED, reason)


def roll_back(context: Context, caller: Principal, identity: str, reason: str) -> State:
    """Take it back on every machine it may have changed, whatever windows, freezes, slots, halt and brake say."""
    return _act(context, caller, identity, Event.TAKEN_BACK, reason)


def put_halt(context: Context, caller: Principal, reason: str, *, halted: bool) -> Halt:
    """Halt everything, or let it go on: every machine learns of it at its next check-in.

    Nothing new begins anywhere, whoever asked for it; emergency reverts do.
    """
    now = context.clock()
    with context.database.write() as connection:
        values = {"halted": halted, "reason": reason[:500], "by": caller.name, "at": now}
        store.put_halt(connection, values)
        append(connection, now, caller.name, "halt" if halted else "release", "fleet", {"reason": reason})
    return Halt(halted, reason[:500], caller.name, now)


def _act(context: Context, caller: Principal, identity: str, event: Event, reason: str) -> State:
    with context.database.write() as connection:
        found = _load(connection, context, identity)
        if advance(found.state, event) is None:
            raise conflict("state", f"it cannot be {event} now: it is {found.state}")
        if event is Event.RESUMED:
            _check_resumable(connection, found)
            store.forget_denied(connection, identity)
        why = cause("by-hand", "{who}: {reason}", who=caller.name, reason=reason) if reason else None
        if event in (Event.PAUSED, Event.STOPPED, Event.TAKEN_BACK):
            progress.withdraw(connection, identity, found.now, f"the rollout was {event}")
        found.move(event, why, who=caller.name)
        append(connection, found.now, caller.name, f"rollout.{_VERBS[event]}", identity, {"reason": reason})
        return found.state


def answer_event(
    context: Context, caller: Principal, identity: str, number: int, kind: str, allow: bool, reason: str
) -> None:
    """Say whether a group may begin, or may count as passed.

    Raises:
        Problem: nobody was asked, it was said already, or the rollout does not go on.
    """
    with context.database.write() as connection:
        found = _load(connection, context, identity)
        values = {"state": "allowed" if allow else "denied", "by": caller.name, "reason": reason[:500]}
        if found.state not in ASKING or not store.answer(connection, identity, number, kind, values):
            raise conflict("not-asked", "nobody waits for an answer to that")
        why = cause("by-hand", "{who}: {reason}", who=caller.name, reason=reason) if reason else None
        found.happened(f"{kind}-event {values['state']}", why, number, who=caller.name)
        detail = {"group": number, "event": kind, "allow": allow, "reason": reason}
        append(connection, found.now, caller.name, "rollout.event", identity, detail)


_VERBS: Final = {
    Event.STARTED: "start",
    Event.PAUSED: "pause",
    Event.RESUMED: "resume",
    Event.STOPPED: "stop",
    Event.TAKEN_BACK: "roll-back",
}


def _check_resumable(connection: Connection, found: steering.Rollout) -> None:
    wrong = [row["name"] for row in store.group_rows(connection, found.id) if row["state"] == GroupState.ERROR]
    if wrong:
        raise conflict("ring-failed", f"ring {wrong[0]} went wrong", "stop it or roll it back, and make a new one")


def _load(connection: Connection, context: Context, identity: str) -> steering.Rollout:
    found = steering.load(connection, context, identity)
    if found is None:
        raise not_found("rollout")
    return found
