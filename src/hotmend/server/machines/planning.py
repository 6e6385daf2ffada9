"""What a person has one machine do now: with the forecast seen first, once, and audited."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.audit.store import append
from hotmend.server.context import Context
from hotmend.server.identity.access import Principal
from hotmend.server.machines import fleet, store
from hotmend.server.machines.contact import halted, set_state
from hotmend.server.machines.judging import program
from hotmend.server.machines.policies import HOTPATCH_OFF
from hotmend.server.problem import Problem, conflict, not_found, unprocessable
from hotmend.servicing.actions import WAITING, State
from hotmend.servicing.facts_json import facts_decode
from hotmend.servicing.offered import offered_effects
from hotmend.wire.api import ActionWanted, Forecast, UpdateForecast
from hotmend.wire.report import Report

UPDATES_MAX: Final = 200
MINUTES_MAX: Final = 60 * 24 * 31
_NOT_FIRST: Final = (
    "Installing now is not availability-first: no wave goes before it, nothing stops where others suffer,"
    " and machines of one set may be changed at the same time."
)


def forecast(connection: Connection, row: RowMapping, updates: list[str], now: datetime) -> Forecast:
    """Return what installing now would bring to a machine, by its last report.

    Raises:
        Problem: it has not reported yet, or does not say that these wait.
    """
    body = store.report_body(connection, row["id"])
    if body is None:
        raise conflict("no-report", "the machine has not reported yet", "have it assess first")
    report = msgspec.json.decode(body, type=Report)
    unknown = sorted(set(updates) - set(report.waiting))
    if unknown:
        raise unprocessable("not-offered", f"the machine does not say that these wait: {', '.join(unknown[:5])}")
    wanted = list(updates or report.waiting)
    quarantined = {each.update: each.reason for each in report.quarantined}
    told = [_NOT_FIRST]
    told += [f"{each} is in quarantine there: {quarantined[each]}" for each in wanted if each in quarantined]
    if not wanted:
        told.append("Nothing waits: the machine has what is offered.")
    if not report.restarts and wanted:
        told.append(
            "Services are not restarted where all their processes take the new code; what refuses it is due then."
        )
    if why := halted(connection):
        told.append(f"The fleet is halted ({why}): nothing begins until that ends.")
    if report.held:
        told.append(f"The machine is {report.held}.")
    found = _effects(connection, row["id"], wanted, now)
    reboots = {each.reboot for each in found}
    needs = True if True in reboots else None if None in reboots else False
    hashed = hashlib.sha256(msgspec.json.encode([row["id"], body, wanted, found]))
    due = list(report.restarts), list(report.reboot)
    return Forecast(hashed.hexdigest()[:32], row["reported_at"], wanted, *due, told, found, needs)


def _effects(connection: Connection, machine: str, updates: list[str], now: datetime) -> list[UpdateForecast]:
    """Return what each update would do: by the machine's facts where they are known, else by its name.

    Of Debian's packages the kernel alone takes a reboot: all others are code of processes, which hotpatches and
    restarts are for.
    """
    kept = fleet.facts_of(connection, machine)
    facts = facts_decode(kept["body"]) if kept is not None else None
    if facts is None or facts.offered is None:
        return [UpdateForecast(each, "", _is_kernel(each) if "=" in each else None, []) for each in updates]
    offers = [each for each in facts.offered if each.id in updates]
    by_id = {
        offer.id: (offer, effect)
        for offer, effect in zip(offers, offered_effects(facts, program(), offers, now), strict=True)
    }
    found = []
    for each in updates:
        offer, effect = by_id.get(each, (None, None))
        reboot = offer.needs_reboot if offer is not None else None
        if effect is not None and (reboot is None or effect.reboot):
            reboot = effect.reboot
        why = [str(cause.message) for cause in effect.causes] if effect is not None else []
        found.append(UpdateForecast(each, effect.outcome.value if effect is not None else "", reboot, why))
    return found


def _is_kernel(update: str) -> bool:
    return update.startswith("linux-image-")


def plan(connection: Connection, now: datetime, caller: Principal, identity: str, wanted: ActionWanted) -> str:
    """Plan an action on one machine; return its id. It is handed out at the next check-in.

    Raises:
        Problem: no such machine, or not active; the forecast was not seen, or is another one now; or it makes no sense.
    """
    row = store.machine(connection, identity, lock=True)
    if row is None:
        raise not_found("machine")
    if row["state"] != "active":
        raise conflict("not-active", f"the machine is {row['state']}", row["why"])
    if row["public_key"] is None:
        raise conflict("no-agent", "the machine has no agent: its facts were uploaded")
    _check(wanted)
    if wanted.kind == "install" and row["policy"] == HOTPATCH_OFF:
        raise unprocessable("hotpatch-off", "the feature is switched off for this machine", "switch it on first")
    if wanted.kind == "install":
        shown = forecast(connection, row, wanted.updates, now)
        if wanted.forecast != shown.token:
            raise Problem(
                428 if not wanted.forecast else 412,
                "forecast-first",
                "an installation has to show that its forecast was seen",
                f"GET /api/v1/machines/{identity}/forecast, and send its token as `forecast`",
            )
    if wanted.undoes:
        undone = store.action(connection, wanted.undoes)
        if undone is None or (undone["machine_id"], undone["kind"]) != (identity, "install"):
            raise Problem(422, "undoes", "that is no installation of this machine")
    values: dict[str, Any] = {
        "machine_id": identity,
        "kind": wanted.kind,
        "updates": wanted.updates,
        "anytime": wanted.anytime,
        "emergency": wanted.emergency,
        "disk": wanted.disk,
        "reboot": wanted.reboot,
        "undoes": wanted.undoes or None,
        "reason": wanted.reason[:500],
        "created_by": caller.name,
        "created_at": now,
        "due_at": now,
        "until": now + timedelta(minutes=wanted.minutes) if wanted.minutes else None,
        "changed_at": now,
    }
    action = store.insert_action(connection, values)
    detail = {"action": action, "updates": wanted.updates, "emergency": wanted.emergency, "reason": wanted.reason[:500]}
    if wanted.undoes:
        detail["undoes"] = wanted.undoes
    append(connection, now, caller.name, f"action.{wanted.kind}", identity, detail)
    store.add_event(connection, identity, now, "action", f"{wanted.kind} by {caller.name}")
    return action


def _check(wanted: ActionWanted) -> None:
    if wanted.emergency and wanted.kind != "revert":
        raise Problem(422, "emergency", "only a revert is an emergency")
    if wanted.undoes and wanted.kind != "revert":
        raise Problem(422, "undoes", "only a revert names an action")
    if wanted.kind in ("quarantine", "lift") and not wanted.updates:
        raise Problem(422, "updates", f"{wanted.kind} needs the updates")
    if len(wanted.updates) > UPDATES_MAX or any(not 0 < len(each) <= 500 for each in wanted.updates):
        raise Problem(422, "updates", f"at most {UPDATES_MAX} updates, of 1 to 500 characters")
    if not 0 <= wanted.minutes <= MINUTES_MAX:
        raise Problem(422, "minutes", f"minutes: 0 to {MINUTES_MAX}")


def cancel(context: Context, caller: Principal, action: str) -> None:
    """Cancel an action that the machine has not begun.

    Raises:
        Problem: there is none, or it is too late.
    """
    now = context.clock()
    with context.database.write() as connection:
        row = store.action(connection, action, lock=True)
        if row is None:
            raise not_found("action")
        if State(row["state"]) not in WAITING or row["handed_at"] is not None:
            raise conflict("too-late", f"it is {row['state']}, and the machine has been told")
        set_state(connection, action, State.CANCELED, f"by {caller.name}", now)
        append(connection, now, caller.name, "action.cancel", row["machine_id"], {"action": action})
