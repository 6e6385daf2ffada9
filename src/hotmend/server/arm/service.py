"""What Azure's tools ask of a machine: each question is answered by what this server knows and does.

One server is one tenant: its machines are in one subscription and one resource group, whose names are constants.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec
from sqlalchemy.engine import Connection, RowMapping

from hotmend.arc.machine import ArcMachine, Assessed, Installed, Licence, Wanted, Where
from hotmend.arc.routes import ConflictError, Operation
from hotmend.arc.shapes import assessed_json, installed_json
from hotmend.model.errors import InputError
from hotmend.server.arm import choosing, store
from hotmend.server.arm.rules import action_status, enablement, switched
from hotmend.server.audit.store import append
from hotmend.server.context import Context
from hotmend.server.database import new_id
from hotmend.server.identity.access import Principal
from hotmend.server.machines import planning
from hotmend.server.machines import store as machine_store
from hotmend.server.machines.policies import HOTPATCH_OFF
from hotmend.server.maintenance.service import assign_all
from hotmend.servicing.actions import State
from hotmend.servicing.enrollment import PENDING_MAX
from hotmend.wire.api import ActionWanted
from hotmend.wire.report import Report

SUBSCRIPTION: Final = "00000000-0000-0000-0000-000000000000"
GROUP: Final = "hotmend"
LOCATION: Final = "hotmend"
CALLER: Final[ContextVar[Principal]] = ContextVar("caller")
"""Who asks, in the request that is being answered."""
_MISSED: Final = 3
_REBOOTS: Final[dict[str, Literal["never", "if-required", "always"]]] = {
    "Never": "never",
    "IfRequired": "if-required",
    "Always": "always",
}
_REASON: Final = "asked by Azure Resource Manager's routes"


class Machines:
    """The machines of a server, as `hotmend.arc.routes.Backend`.

    Args:
        context: of the server.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def machine(self, where: Where) -> ArcMachine | None:
        """Return a machine by its id, or by its name in any case."""
        return await asyncio.to_thread(self._machine, where)

    async def set_hotpatch(self, where: Where, *, enable: bool) -> Operation:
        """Let a machine take hotpatches by itself, or only say what waits."""
        return await asyncio.to_thread(self._set_hotpatch, CALLER.get(), where, enable)

    async def assess(self, where: Where) -> Operation:
        """Have a machine look what waits."""
        return await asyncio.to_thread(self._assess, CALLER.get(), where)

    async def install(self, where: Where, wanted: Wanted) -> Operation:
        """Have a machine install what is chosen of what it says that waits."""
        return await asyncio.to_thread(self._install, CALLER.get(), where, wanted)

    async def operation(self, subscription: str, name: str) -> Operation | None:
        """Return a long call."""
        return await asyncio.to_thread(self._operation, subscription, name)

    def _machine(self, where: Where) -> ArcMachine | None:
        with self._context.database.write() as connection:  # a switch that has ended is written down
            row = self._row(connection, where)
            return None if row is None else self._shown(connection, row, where)

    def _row(self, connection: Connection, where: Where) -> RowMapping | None:
        if where.subscription != SUBSCRIPTION or where.resource_group.lower() != GROUP:
            return None
        found = store.named(connection, where.name)
        if len(found) > 1:
            raise ConflictError(f"several machines are called {where.name}: name it by its id")
        return found[0] if found else None

    def _here(self, connection: Connection, where: Where) -> RowMapping:
        row = self._row(connection, where)
        if row is None:
            raise InputError(f"there is no machine {where.name} any more")
        locked = machine_store.machine(connection, row["id"], lock=True)
        if locked is None or locked["public_key"] is None:
            raise InputError("the machine has no agent: its facts were uploaded, and nobody there does what is asked")
        if locked["state"] != "active":
            raise InputError(f"the machine is {locked['state']}: {locked['why'] or 'it takes no part'}")
        return locked

    def _shown(self, connection: Connection, row: RowMapping, where: Where) -> ArcMachine:
        late = self._context.clock() - _MISSED * timedelta(seconds=self._context.settings.check_in_seconds)
        there = row["seen_at"] is not None and row["seen_at"] >= late
        status = {"active": "Connected" if there else "Disconnected", "pending": "Disconnected"}
        licence = self._licence(connection, row)
        return ArcMachine(
            where=Where(where.subscription, where.resource_group, row["name"]),
            location=LOCATION,
            status=status.get(row["state"], "Error"),
            os_type=row["platform"],
            agent_version=row["agent"] or "",
            enablement=enablement(licence.feature, row["enrollment"] or ""),
            enable_hotpatching=None if licence.feature is None else licence.feature in ("Enabled", "Enabling"),
            patch_mode="AutomaticByPlatform" if row["mode"] == "automatic" else "Manual",
            assessment_mode="AutomaticByPlatform",
            licence=licence,
            error=row["why"],
        )

    def _licence(self, connection: Connection, row: RowMapping) -> Licence:
        """Return the licence profile: the last switch, and when it was on and off before."""
        asked = [self._settled(connection, each, row) for each in store.last_switches(connection, row["id"])]
        if not asked:
            return Licence()
        last, ended = asked[0], [each for each in asked if each["state"] == "Succeeded"]
        on = next((each["ended_at"] for each in ended if each["kind"] == "enable"), None)
        off = next((each["ended_at"] for each in ended if each["kind"] == "disable"), None)
        feature: Any = {
            ("enable", "InProgress"): "Enabling",
            ("enable", "Succeeded"): "Enabled",
            ("disable", "InProgress"): "Disabling",
            ("disable", "Succeeded"): "Disabled",
        }.get((last["kind"], last["state"]), "Failed")
        gone = off if feature == "Disabled" else None
        return Licence("Enabled", feature, enrolled_at=on, disenrolled_at=gone, error=last["why"])

    def _settled(self, connection: Connection, asked: RowMapping, row: RowMapping) -> dict[str, Any]:
        """Return a switch; one that has ended meanwhile is written down."""
        if asked["state"] != "InProgress":
            return dict(asked)
        now = self._context.clock()
        enable = asked["kind"] == "enable"
        fits = (row["policy"] != HOTPATCH_OFF) == enable
        hashed = store.policy_hash(connection, row["policy"])
        said = row["seen_at"] is not None and row["seen_at"] >= asked["at"]
        report = _report(connection, row["id"])
        lacking = [f"{each.name}: {each.why}" for each in report.prerequisites if each.holds is False] if report else []
        found = switched(
            enable=enable,
            asked_at=asked["at"],
            now=now,
            enrollment=row["enrollment"] or "",
            lacking=lacking,
            held=fits and said and bool(hashed) and row["policy_held"] == hashed,
        )
        if found.status == "InProgress":
            return dict(asked)
        ended = {"state": found.status, "why": found.why[:2000], "ended_at": now}
        store.end_call(connection, asked["id"], ended)
        if enable and found.status == "Failed":
            assign_all(connection)
        return dict(asked) | ended

    def _set_hotpatch(self, caller: Principal, where: Where, enable: bool) -> Operation:
        now = self._context.clock()
        with self._context.database.write() as connection:
            row = self._here(connection, where)
            for each in store.last_switches(connection, row["id"])[:1]:
                if self._settled(connection, each, row)["state"] == "InProgress":
                    raise ConflictError(f"the feature is being switched; that takes {PENDING_MAX} at most")
            call = self._called(connection, caller, row, "enable" if enable else "disable", new_id(), now)
            assign_all(connection)
        return call

    def _assess(self, caller: Principal, where: Where) -> Operation:
        now = self._context.clock()
        with self._context.database.write() as connection:
            row = self._free(connection, where)
            action = planning.plan(connection, now, caller, row["id"], ActionWanted("assess", reason=_REASON))
            return self._called(connection, caller, row, "assess", action, now)

    def _install(self, caller: Principal, where: Where, wanted: Wanted) -> Operation:
        now = self._context.clock()
        with self._context.database.write() as connection:
            row = self._free(connection, where)
            chosen = choosing.choose_updates(connection, row, wanted, now)
            if not chosen.updates:
                raise InputError("nothing that waits on the machine is chosen: assess it, and look what is offered")
            shown = planning.forecast(connection, row, list(chosen.updates), now)
            action = ActionWanted(
                "install",
                list(chosen.updates),
                anytime=True,
                minutes=int(wanted.duration.total_seconds() // 60),
                reason=_REASON,
                forecast=shown.token,
                reboot=_REBOOTS[wanted.reboot],
            )
            identity = planning.plan(connection, now, caller, row["id"], action)
            counts = {"excluded": chosen.excluded, "not_selected": chosen.not_selected}
            return self._called(connection, caller, row, "install", identity, now, counts)

    def _free(self, connection: Connection, where: Where) -> RowMapping:
        row = self._here(connection, where)
        if store.under_way(connection, row["id"]):
            raise ConflictError("another operation on this machine goes on")
        return row

    def _called(
        self,
        connection: Connection,
        caller: Principal,
        row: RowMapping,
        kind: str,
        identity: str,
        now: datetime,
        counts: dict[str, int] | None = None,
    ) -> Operation:
        values = {"id": identity, "machine_id": row["id"], "kind": kind, "by": caller.name, "at": now}
        store.insert_call(connection, {**values, "counts": counts or {}})
        append(connection, now, caller.name, f"arm.{kind}", row["id"], {"call": identity})
        return Operation(identity, "InProgress", now)

    def _operation(self, subscription: str, name: str) -> Operation | None:
        with self._context.database.write() as connection:
            call = store.call(connection, name) if subscription == SUBSCRIPTION else None
            row = None if call is None else machine_store.machine(connection, call["machine_id"])
            if call is None or row is None:
                return None
            if call["kind"] in ("enable", "disable"):
                found = self._settled(connection, call, row)
                error = ("Failed", found["why"]) if found["state"] == "Failed" else None
                return Operation(name, found["state"], found["at"], found["ended_at"], error=error)
            return self._of_action(connection, call, row)

    def _of_action(self, connection: Connection, call: RowMapping, row: RowMapping) -> Operation | None:
        action = machine_store.action(connection, call["id"])
        if action is None:
            return None
        state = State(action["state"])
        status = action_status(state)
        if status == "InProgress":
            return Operation(call["id"], status, call["at"])
        error = None
        if status != "Succeeded":
            code = "".join(word.capitalize() for word in state.value.split("_"))
            error = (code, action["detail"] or f"the machine says {state.value}")
        result = None
        if error is None:
            report = _report(connection, row["id"])
            assessing = call["kind"] == "assess"
            result = _assessed(action, row, report) if assessing else _installed(action, row, report, call["counts"])
        return Operation(call["id"], status, call["at"], action["changed_at"], result, error)


def _report(connection: Connection, machine: str) -> Report | None:
    body = machine_store.report_body(connection, machine)
    return None if body is None else msgspec.json.decode(body, type=Report)


def _assessed(action: RowMapping, row: RowMapping, report: Report | None) -> dict[str, Any]:
    found = Assessed(
        action["id"],
        "Succeeded",
        action["created_at"],
        action["changed_at"],
        bool(row["reboot_due"]),
        choosing.counted(report) if report is not None else {},
    )
    return assessed_json(found, row["platform"])


def _installed(action: RowMapping, row: RowMapping, report: Report | None, left_out: dict[str, int]) -> dict[str, Any]:
    waiting = set(report.waiting) if report is not None else set()
    pending = len(waiting.intersection(action["updates"]))
    warned = action["state"] == State.SUCCEEDED_WITH_WARNINGS
    counts = left_out | {"installed": len(action["updates"]) - pending, "pending": pending}
    found = Installed(
        action["id"],
        "CompletedWithWarnings" if warned else "Succeeded",
        "Required" if row["reboot_due"] else "NotNeeded",
        False,
        counts,
        action["detail"] if warned else "",
    )
    return installed_json(found, row["platform"])
