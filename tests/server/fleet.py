"""Machines as rows, and what they report as the server keeps it: for what rests on the database alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from hotmend.server.context import Context
from hotmend.server.database import Database, new_id
from hotmend.server.machines import store
from hotmend.server.machines.reporting import put_alerts
from hotmend.server.machines.tables import action_events, actions, contacts, machines, reports
from hotmend.server.rollouts import steering
from hotmend.server.rollouts.tables import rollouts
from hotmend.servicing.actions import FINAL, State
from hotmend.servicing.rollouts import State as RolloutState
from tests.server.running import Running

ALWAYS = {
    "maintenance": {
        "window": [{"name": "always", "rule": "FREQ=DAILY", "start": "2020-01-01T00:00:00", "minutes": 1440}]
    }
}
_FINAL = [state.value for state in FINAL]
_LOOK = actions.c.kind == "assess"


@dataclass
class Fleet:
    """Machines of one server; `looks`: they do what they are asked for at the end of a soak."""

    server: Running
    ids: list[str] = field(default_factory=list)
    looks: bool = True

    @property
    def context(self) -> Context:
        context: Context = self.server.app.state.context
        return context

    @property
    def database(self) -> Database:
        return self.server.database

    def now(self) -> datetime:
        return self.context.clock()

    def add(self, count: int = 1, *, there: bool = True, zone: str = "UTC", **its: str) -> list[str]:
        """Add machines with tags."""
        now, made = self.now(), [new_id() for _ in range(count)]
        with self.database.write() as connection:
            for each in made:
                row = {"id": each, "name": f"m-{each[:8]}", "state": "active", "platform": "linux", "tier": "stable"}
                row |= {"public_key": each, "host_machine": each, "registered_at": now}  # type: ignore[dict-item]
                connection.execute(sa.insert(machines).values(row))
                seen = now if there else None
                connection.execute(sa.insert(contacts).values(machine_id=each, seen_at=seen))
                connection.execute(sa.insert(reports).values(_report(each, now, zone)))
                connection.execute(sa.update(machines).where(machines.c.id == each).values(clock=zone))
                store.put_tags(connection, each, its)
        self.ids += made
        return made

    def seen(self, ids: Iterable[str] | None = None) -> None:
        """Have machines check in now."""
        with self.database.write() as connection:
            which = contacts.c.machine_id.in_(self.ids if ids is None else list(ids))
            connection.execute(sa.update(contacts).where(which).values(seen_at=self.now()))

    def alerts(self, machine: str, *codes: str) -> None:
        with self.database.write() as connection:
            which = reports.c.machine_id == machine
            connection.execute(sa.update(reports).where(which).values(alerts=len(codes)))
            put_alerts(connection, machine, codes)

    def look(self, at: datetime | None = None) -> int:
        """Have machines do what they are asked for at the end of a soak; return how many did.

        Args:
            at: when they looked; None: now.
        """
        with self.database.write() as connection:
            asked = sa.select(actions.c.id, actions.c.machine_id).where(_LOOK, actions.c.state.not_in(_FINAL))
            found = connection.execute(asked.with_for_update()).all()
            which = actions.c.id.in_([row.id for row in found])
            values = {"state": State.SUCCEEDED.value, "changed_at": self.now(), "handed_at": self.now()}
            connection.execute(sa.update(actions).where(which).values(values))
            its = contacts.c.machine_id.in_([row.machine_id for row in found])
            connection.execute(sa.update(contacts).where(its).values(looked_at=at or self.now()))
        return len(found)

    def zone(self, machine: str, zone: str) -> None:
        with self.database.write() as connection:
            connection.execute(sa.update(reports).where(reports.c.machine_id == machine).values(zone=zone))

    def due(self) -> dict[str, str]:
        """Tell machines what is due, as a check-in does, and return action by machine."""
        with self.database.write() as connection:
            query = sa.select(actions.c.id, actions.c.machine_id).where(~_LOOK, actions.c.state.not_in(_FINAL))
            found = {row.machine_id: row.id for row in connection.execute(query.with_for_update())}
            which = actions.c.id.in_(list(found.values())) & actions.c.handed_at.is_(None)
            connection.execute(sa.update(actions).where(which).values(handed_at=self.now()))
        return found

    def report(self, action: str, state: State) -> None:
        """Have a machine report a state."""
        with self.database.write() as connection:
            values = {"state": state.value, "changed_at": self.now()}
            connection.execute(sa.update(actions).where(actions.c.id == action).values(values))
            rollout = connection.scalar(sa.select(actions.c.rollout_id).where(actions.c.id == action))
            if rollout:
                steering.reported(connection, self.context, rollout, state)

    def finish(self, state: State = State.SUCCEEDED) -> int:
        """Have all machines do what is due; return how many did."""
        found = self.due()
        for action in found.values():
            self.report(action, state)
        return len(found)

    def later(self, **ahead: float) -> None:
        """Let time pass, with all machines there."""
        self.server.clock.ahead += timedelta(**ahead)
        self.seen()
        steered(self.server)

    def step(self, rollout: str, times: int = 1) -> RolloutState:
        """Steer a rollout."""
        for _ in range(times):
            state = steering.step(self.context, rollout).state
            if self.looks and self.look():
                state = steering.step(self.context, rollout).state
        return state

    def states(self, rollout: str) -> list[str]:
        return [group["state"] for group in self.server.get(f"/api/v1/rollouts/{rollout}")["groups"]]

    def events(self, action: str) -> list[str]:
        with self.database.read() as connection:
            query = sa.select(action_events.c.state).where(action_events.c.action_id == action)
            return list(connection.scalars(query.order_by(action_events.c.number)))


def _report(machine: str, now: datetime, zone: str) -> Mapping[str, Any]:
    return {
        "machine_id": machine,
        "at": now,
        "hash": "0" * 64,
        "body": b"{}",
        "release": "Debian 12",
        "level": "",
        "line": "on",
        "enrollment": "ENABLED",
        "mode": "automatic",
        "zone": zone,
        "waiting": 0,
        "restarts_due": 0,
        "reboot_due": False,
        "restarts_avoided": 0,
        "reboots_avoided": 0,
        "alerts": 0,
    }


def steered(server: Running) -> None:
    """Let rollouts have been steered until now, while a test's clock went ahead."""
    with server.database.write() as connection:
        which = rollouts.c.steered_at.is_not(None)
        connection.execute(sa.update(rollouts).where(which).values(steered_at=server.clock()))


def wanted(name: str = "october", **fields: Any) -> dict[str, Any]:
    """Return a rollout of two rings: machines tagged `canary`, and the rest."""
    given: dict[str, Any] = {
        "name": name,
        "updates": ["openssl=3.0.17-1~deb12u3"],
        "rings": [{"name": "canary", "tag": "canary"}, {"name": "rest"}],
        "lane": "zero-day",
        "budget": 5,
        "thresholds": {"soak_minutes": 10, "silence_minutes": 60},
    }
    return given | fields


def begun(server: Running, **fields: Any) -> str:
    """Create a rollout, have it approved by as many as it takes, and start it."""
    return started(server, server.post("/api/v1/rollouts", wanted(**fields), role="operator"))


def started(server: Running, made: Mapping[str, Any]) -> str:
    """Have a rollout approved by as many as it takes, and start it."""
    yes = {"plan": made["plan"]}
    for role in ("approver", "admin"):  # two people
        if server.get(f"/api/v1/rollouts/{made['id']}")["state"] == "WAITING_FOR_APPROVAL":
            server.post(f"/api/v1/rollouts/{made['id']}/approve", yes, role=role, status=200)
    server.post(f"/api/v1/rollouts/{made['id']}/start", role="operator", status=200)
    return str(made["id"])
