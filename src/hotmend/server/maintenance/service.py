"""What is done with maintenance. A configuration is signed as a policy, with the freezes for everybody in it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.model.errors import InputError
from hotmend.server.arm.store import switched_off
from hotmend.server.audit.store import append
from hotmend.server.context import Context
from hotmend.server.database import new_id
from hotmend.server.identity.access import Principal
from hotmend.server.machines import policies
from hotmend.server.machines.store import machine
from hotmend.server.maintenance import events, rules, store
from hotmend.server.problem import Problem, conflict, not_found
from hotmend.servicing.maintenance import Freeze, Policy, intervals, policy_check
from hotmend.wire.maintenance import (
    AssignmentWanted,
    ConfigurationWanted,
    FreezeWanted,
    MachineMaintenance,
    WindowAnswer,
    WindowShown,
)

DEFAULT: Final = policies.DEFAULT
SLOTS_MAX: Final = 100_000
SLOT_MINUTES_MIN: Final = 10
"""An agent begins nothing in the last five."""
SLOT_MINUTES_MAX: Final = 24 * 60
EVENT_MINUTES_MAX: Final = 7 * 24 * 60
_AHEAD: Final = timedelta(days=92)
_SHOWN: Final = 20


def put_configuration(
    context: Context, caller: Principal, name: str, wanted: ConfigurationWanted, version: int | None
) -> None:
    """Make or change a configuration; machines that have it get it at their next check-in.

    Raises:
        Problem: a window, freeze or zone that makes no sense, it is not the version that the caller saw, or it lets
            machines do more than before and the caller is no approver.
    """
    if not 1 <= len(name) <= 100 or name.startswith("."):
        raise Problem(422, "name", "a name has 1 to 100 characters, and does not begin with a dot")
    if not 0 <= wanted.slots <= SLOTS_MAX or not SLOT_MINUTES_MIN <= wanted.slot_minutes <= SLOT_MINUTES_MAX:
        raise Problem(422, "slots", f"0 to {SLOTS_MAX} slots, of {SLOT_MINUTES_MIN} to {SLOT_MINUTES_MAX} minutes")
    if not 0 <= wanted.event_minutes <= EVENT_MINUTES_MAX:
        raise Problem(422, "event-minutes", f"a window is asked about 0 to {EVENT_MINUTES_MAX} minutes before it opens")
    now = context.clock()
    with context.database.write() as connection:
        before = store.configuration(connection, name, lock=True)
        if version is not None and (before is None or before["version"] != version):
            raise Problem(412, "changed", "somebody has changed it meanwhile", "read it again")
        _may_widen(caller, rules.widened(_wanted(before), wanted))
        content = msgspec.to_builtins(asdict(wanted))
        values = {"content": content, "changed_by": caller.name, "changed_at": now}
        store.put_configuration(connection, name, values, new=before is None)
        _sign(connection, context, name, wanted, now)
        append(connection, now, caller.name, "maintenance.configuration", name, content)


def delete_configuration(context: Context, caller: Principal, name: str) -> None:
    """Remove a configuration that is assigned to nobody.

    Raises:
        Problem: there is none, or it is assigned.
    """
    with context.database.write() as connection:
        before = store.configuration(connection, name, lock=True)
        if before is None:
            raise not_found("configuration")
        if name == DEFAULT:
            _may_widen(caller, rules.widened(_wanted(before), ConfigurationWanted()))
        if store.assignment_rows(connection, name):
            raise conflict("assigned", "it is assigned", "remove its assignments first")
        store.delete_configuration(connection, name)
        assign_all(connection)
        append(connection, context.clock(), caller.name, "maintenance.remove", name, {})


def put_freeze(context: Context, caller: Principal, name: str, wanted: FreezeWanted) -> None:
    """Freeze days for everybody.

    Raises:
        Problem: it ends before it begins, leaves no day, or frees days that were frozen and the caller is no approver.
    """
    freeze = Freeze(name, wanted.first, wanted.last, wanted.yearly)
    if wanted.last < wanted.first or freeze.always or not 1 <= len(name) <= 100:
        raise Problem(
            422, "freeze", "a freeze has a name, ends on its first day or later, and every year leaves days free"
        )
    with context.database.write() as connection:
        before = {each: freeze for each, freeze in _freezes(connection).items() if each == name}
        _may_widen(caller, ("freezes",) if rules.thawed(before, {name: wanted}) else ())
        store.put_freeze(connection, name, asdict(wanted))
        _sign_all(connection, context)
        detail = msgspec.to_builtins(asdict(wanted))
        append(connection, context.clock(), caller.name, "maintenance.freeze", name, detail)


def delete_freeze(context: Context, caller: Principal, name: str) -> None:
    """End a freeze for everybody.

    Raises:
        Problem: there is none, or the caller is no approver.
    """
    _may_widen(caller, ("freezes",))
    with context.database.write() as connection:
        if not store.delete_freeze(connection, name):
            raise not_found("freeze")
        _sign_all(connection, context)
        append(connection, context.clock(), caller.name, "maintenance.thaw", name, {})


def add_assignment(context: Context, caller: Principal, wanted: AssignmentWanted) -> str:
    """Give machines a configuration; return the id of the assignment.

    Raises:
        Problem: it names nobody, or more than one way; no such configuration, machine or scope; the priority is taken;
            it lets machines do more than they might have been and the caller is no approver.
    """
    given = [wanted.machine is not None, wanted.scope is not None, bool(wanted.tag)]
    if sum(given) != 1:
        raise Problem(422, "assignment", "an assignment is for one of: a machine, a scope, a tag")
    identity = new_id()
    try:
        with context.database.write() as connection:
            given_to = store.configuration(connection, wanted.configuration)
            if given_to is None:
                raise not_found("configuration")
            for other in _others(connection, wanted.configuration):
                _may_widen(caller, rules.widened(other, _wanted(given_to)))
            if wanted.machine is not None and machine(connection, wanted.machine) is None:
                raise not_found("machine")
            if wanted.scope is not None and store.scope(connection, wanted.scope, lock=True) is None:
                raise not_found("scope")
            values = {
                "id": identity,
                "configuration": wanted.configuration,
                "priority": wanted.priority,
                "machine_id": wanted.machine,
                "scope": wanted.scope,
                "tag_name": wanted.tag,
                "tag_value": wanted.value,
            }
            store.insert_assignment(connection, values)
            assign_all(connection)
            append(connection, context.clock(), caller.name, "maintenance.assign", wanted.configuration, asdict(wanted))
    except sa.exc.IntegrityError:
        raise conflict("priority-taken", f"another assignment has priority {wanted.priority}") from None
    return identity


def delete_assignment(context: Context, caller: Principal, identity: str) -> None:
    """Take an assignment back.

    Raises:
        Problem: there is none, or machines might do more without it and the caller is no approver.
    """
    with context.database.write() as connection:
        name = store.delete_assignment(connection, identity)
        if name is None:
            raise not_found("assignment")
        for other in _others(connection, name):
            _may_widen(caller, rules.widened(_wanted(store.configuration(connection, name)), other))
        assign_all(connection)
        append(connection, context.clock(), caller.name, "maintenance.unassign", identity, {})


def assign_all(connection: Connection) -> int:
    """Give each machine the policy of the assignment that counts; return how many have another one now.

    Tags and scopes change by themselves: servers do this again and again. Each machine is written once at most.
    """
    taken = switched_off()
    changed = store.assign(connection, policies.HOTPATCH_OFF, taken)
    for row in store.assignment_rows(connection):
        fit = store.fits(connection, row)
        changed += store.assign(connection, row["configuration"], fit & ~taken)
        taken |= fit
    return changed + store.assign(connection, DEFAULT, ~taken)


def free_slot(context: Context, caller: Principal, identity: str) -> None:
    """Free the slot of a machine that will not give it back.

    Raises:
        Problem: it has none.
    """
    with context.database.write() as connection:
        if not store.delete_slot(connection, identity):
            raise not_found("slot")
        append(connection, context.clock(), caller.name, "maintenance.free-slot", identity, {})


def answer_event(context: Context, caller: Principal, identity: str, wanted: WindowAnswer) -> RowMapping:
    """Say whether machines may begin in a window, and return it; while it is not over the word can be changed.

    Raises:
        Problem: nobody asked about such a window, or it is over.
    """
    now = context.clock()
    if len(wanted.reason) > 500:
        raise Problem(422, "reason", "a reason has at most 500 characters")
    with context.database.write() as connection:
        row = events.row(connection, identity)
        if row is None:
            raise not_found("window")
        if row["ends_at"] <= now:
            raise conflict("window-over", "the window is over")
        state = "allowed" if wanted.allow else "denied"
        row = events.answer(connection, identity, state, caller.name, wanted.reason)
        detail = {"starts_at": row["starts_at"].isoformat(), "state": state, "reason": wanted.reason}
        append(connection, now, caller.name, "maintenance.window", row["configuration"], detail)
    return row


def of_machine(context: Context, identity: str) -> MachineMaintenance:
    """Return what holds for a machine, with its next windows.

    Raises:
        Problem: there is no such machine.
    """
    now = context.clock()
    with context.database.write() as connection:  # a policy that has aged is signed anew
        row = machine(connection, identity)
        if row is None:
            raise not_found("machine")
        signed = policies.current(connection, row["policy"], context.key, context.settings, now).signed
    content = msgspec.json.decode(signed.body)
    policy = msgspec.convert(content.get("maintenance", {}), Policy, strict=False)
    name = content.get("zone") or row["zone"] or ""
    try:
        found = intervals(policy, ZoneInfo(name), now, now + _AHEAD) if name else ()
    except (ZoneInfoNotFoundError, ValueError, OSError):
        name, found = "", ()
    shown = [WindowShown(each.name, each.start, each.end) for each in found[:_SHOWN]]
    return MachineMaintenance(row["policy"], name, bool(shown) and shown[0].start <= now < shown[0].end, shown)


def _may_widen(caller: Principal, fields: tuple[str, ...]) -> None:
    """Leave to approvers what lets machines do more: nobody looks at it once more, and no canary goes first.

    Raises:
        Problem: the caller is none.
    """
    if fields and not caller.has("approver"):
        told = ", ".join(fields)
        raise Problem(403, "widens", f"machines may do more by this ({told}): it needs the role approver")


def _wanted(row: RowMapping | None) -> ConfigurationWanted:
    """Return what a configuration says; one that is not there says what machines without any may do."""
    return ConfigurationWanted() if row is None else msgspec.convert(row["content"], ConfigurationWanted)


def _others(connection: Connection, name: str) -> list[ConfigurationWanted]:
    """Return what machines may have beside this configuration: scopes and tags say which, and change by themselves."""
    rows = [row for row in store.configuration_rows(connection) if row["name"] != name]
    missing = name != DEFAULT and all(row["name"] != DEFAULT for row in rows)
    return [_wanted(row) for row in rows] + ([ConfigurationWanted()] if missing else [])


def _freezes(connection: Connection) -> dict[str, FreezeWanted]:
    return {
        row["name"]: FreezeWanted(row["first"], row["last"], row["yearly"]) for row in store.freeze_rows(connection)
    }


def _sign_all(connection: Connection, context: Context) -> None:
    now = context.clock()
    for row in store.configuration_rows(connection):
        _sign(connection, context, row["name"], msgspec.convert(row["content"], ConfigurationWanted), now)
    if store.configuration(connection, DEFAULT) is None:
        _sign(connection, context, DEFAULT, ConfigurationWanted(), now)


def _sign(connection: Connection, context: Context, name: str, wanted: ConfigurationWanted, now: datetime) -> None:
    """Make the policy of a configuration, with the freezes for everybody.

    Raises:
        Problem: it makes no sense.
    """
    every = [*wanted.freezes.items(), *_freezes(connection).items()]
    freezes = [{"name": each, **asdict(freeze)} for each, freeze in every]
    maintenance: dict[str, Any] = {
        "freeze": freezes,
        "include": wanted.include,
        "exclude": wanted.exclude,
        "reboot": "never" if wanted.reboot == "never" else "if-required",
    }
    if wanted.windows:
        maintenance["window"] = [asdict(window) for window in wanted.windows]
    if wanted.classifications:
        maintenance["classifications"] = wanted.classifications
    content = {
        "mode": wanted.mode,
        "maintenance": msgspec.to_builtins(maintenance),
        "zone": wanted.zone,
        "restart": wanted.restart,
        "reboot": wanted.reboot,
        "slots": wanted.slots > 0,
        "events": wanted.event_minutes > 0,
    }
    try:
        policy_check(msgspec.convert(content["maintenance"], Policy), name)
        if wanted.zone:
            ZoneInfo(wanted.zone)
        policies.put(connection, name, content, context.key, context.settings, now)
    except (InputError, msgspec.ValidationError, ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Problem(422, "not-valid", f"{name}: {error}") from None
