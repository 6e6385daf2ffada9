"""Many check-ins in one transaction: what they say is on the disk before any of them is answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.context import Context
from hotmend.server.database import Moment
from hotmend.server.machines import policies
from hotmend.server.machines.judging import take_facts
from hotmend.server.machines.quick_key import QuickKey
from hotmend.server.machines.reporting import put_report
from hotmend.server.machines.rules import Heard, heard
from hotmend.server.machines.tables import IS_OPEN, action_events, actions, brake, contacts, events, machines
from hotmend.server.maintenance.events import words, zones_of
from hotmend.server.maintenance.slots import Given, hand_out
from hotmend.server.problem import Problem
from hotmend.server.rollouts import progress, steering
from hotmend.server.rollouts import store as rollout_store
from hotmend.servicing.actions import WAITING, State, may_follow
from hotmend.wire import version
from hotmend.wire.messages import CHECK_IN_PATH, ORDERS_MAX, Answer, CheckIn, Kind, Order
from hotmend.wire.policy import Policy
from hotmend.wire.signing import Signed, request_verified

_TOLD: Final = {
    Heard.CLOCK: Problem(401, "clock", "the clocks of machine and server are more than five minutes apart"),
    Heard.REPLAY: Problem(409, "replayed", "this request, or a later one, was heard before"),
}
SUSPECT: Final = {
    Heard.TWO_HOSTS: "two hosts sign with this machine's key",
    Heard.OTHER_HARDWARE: "the key is on another host than the one that was taken in",
}
_LONG_AGO: Final = 10 * 365 * 86400.0
_SECOND: Final = 1.0
"""A signature's moment is in whole seconds."""
LOOKS_MISSED: Final = 3
"""A machine that has missed so many looks is not looked at any more, as its own alert says."""
_HEARD: Final = 2
"""After so many check-ins a machine has seen that it is not to begin something."""
_AWAY: Final = "the server was away: nothing begins until machines have said what became of what was under way"
_UNKNOWN: Final = Problem(401, "not-this-machine", "not signed by a machine of this server")


@dataclass(frozen=True, slots=True)
class Received:
    """A check-in as it came: who signed it, what it says, and its bytes."""

    signed: Signed
    message: CheckIn
    body: bytes


Result = Answer | Problem


def take(context: Context, batch: Sequence[Received]) -> list[Result]:
    """Take check-ins of different machines, and return the answer to each, in order."""
    now = context.clock()
    with context.database.write() as connection:
        rows = _rows(connection, [each.signed.key for each in batch])
        judged = [_judge(each, rows.get(each.signed.key), now) for each in batch]
        good = [each for each, found in zip(batch, judged, strict=True) if found is Heard.GOOD]
        for each, found in zip(batch, judged, strict=True):
            if isinstance(found, Heard) and found in SUSPECT and rows[each.signed.key]["state"] == "active":
                suspect(connection, each.signed.key, SUSPECT[found], now)
        spoken = [each for each in good if version.spoken(each.message.wire)]
        told = _Told(context, connection, now, rows)
        told.prepare(spoken)
        _update(connection, context.database.is_sqlite, good, rows, now)  # who is not spoken with was there as well
        answers: list[Result] = []
        for each, found in zip(batch, judged, strict=True):
            if found is Heard.GOOD and not version.spoken(each.message.wire):
                answers.append(not_spoken(each.message.wire))
            elif found is Heard.GOOD:
                answers.append(told.answer(each))
                context.keys.put(each.signed.key, _key(rows[each.signed.key]["public_key"]))
            elif isinstance(found, Problem):
                answers.append(found)
            elif found in SUSPECT:
                answers.append(Problem(409, "suspect", SUSPECT[found], "enrol the other host with a key of its own"))
            else:
                answers.append(_TOLD[found])
        return answers


def not_spoken(wire: int) -> Problem:
    """Return what an agent of a version is told that this server does not speak with."""
    return Problem(426, "wire-version", *version.refusal(wire), {"Upgrade": f"hotmend-wire/{version.NEWEST}"})


_ROWS: Final = (
    sa.select(
        machines.c.id,
        machines.c.state,
        machines.c.public_key,
        machines.c.host_hardware,
        machines.c.policy,
        contacts.c.counter,
        contacts.c.signed_at,
        contacts.c.boot,
        contacts.c.report_hash,
        contacts.c.looked_at,
        contacts.c.look_by,
    )
    .join(contacts, contacts.c.machine_id == machines.c.id)
    .where(machines.c.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(machines.c.id)  # in one order, so that servers wait for each other and never in a ring
    .with_for_update(of=contacts)
)
_DUE: Final = (
    sa.select(actions)
    .where(
        actions.c.machine_id.in_(sa.bindparam("ids", expanding=True)),
        IS_OPEN,
        actions.c.due_at <= sa.bindparam("now", type_=Moment()),
    )
    .order_by(actions.c.emergency.desc(), actions.c.due_at, actions.c.id)
    .with_for_update()
)
"""Made once, as the one before: a batch has the same few statements, and building them costs more than asking them."""


def _rows(connection: Connection, identities: Sequence[str]) -> dict[str, RowMapping]:
    return {row["id"]: row for row in connection.execute(_ROWS, {"ids": list(identities)}).mappings()}


def _judge(each: Received, row: RowMapping | None, now: datetime) -> Heard | Problem:
    if row is None or row["public_key"] is None:
        return _UNKNOWN
    if not request_verified(each.signed, _key(row["public_key"]), "POST", CHECK_IN_PATH, each.body):
        return _UNKNOWN
    return heard(
        each.signed,
        now.timestamp(),
        counter=row["counter"],
        signed_at=row["signed_at"],
        hardware=(row["host_hardware"], each.message.host.hardware),
    )


@lru_cache(maxsize=200_000)
def _key(text: str) -> QuickKey:
    return QuickKey(text)


def suspect(connection: Connection, identity: str, why: str, now: datetime) -> None:
    """Tell a machine nothing more until somebody has approved it."""
    values = {"state": "suspect", "why": why, "version": machines.c.version + 1}
    connection.execute(sa.update(machines).where(machines.c.id == identity).values(values))
    connection.execute(sa.insert(events).values(machine_id=identity, at=now, kind="suspect", detail=why))


_UPDATE_MANY: Final = sa.text(
    "UPDATE contacts SET counter = v.counter, signed_at = v.signed_at, seen_at = :now, boot = v.boot, agent = v.agent,"
    " policy = v.policy, wire = v.wire, looked_at = v.looked_at, look_by = v.look_by"
    " FROM unnest(CAST(:ids AS text[]), CAST(:counters AS bigint[]), CAST(:signed AS bigint[]),"
    " CAST(:boots AS text[]), CAST(:agents AS text[]), CAST(:policies AS text[]), CAST(:wires AS integer[]),"
    " CAST(:looked AS timestamptz[]), CAST(:look_by AS timestamptz[]))"
    " AS v(id, counter, signed_at, boot, agent, policy, wire, looked_at, look_by) WHERE contacts.machine_id = v.id"
)
_UPDATE_ONE: Final = (
    sa.update(contacts)
    .where(contacts.c.machine_id == sa.bindparam("b_id"))
    .values(
        counter=sa.bindparam("b_counter"),
        signed_at=sa.bindparam("b_signed"),
        seen_at=sa.bindparam("b_now"),
        boot=sa.bindparam("b_boot"),
        agent=sa.bindparam("b_agent"),
        policy=sa.bindparam("b_policy"),
        wire=sa.bindparam("b_wire"),
        looked_at=sa.bindparam("b_looked"),
        look_by=sa.bindparam("b_look_by"),
    )
)


def _update(
    connection: Connection, sqlite: bool, good: Sequence[Received], rows: dict[str, RowMapping], now: datetime
) -> None:
    if not good:
        return
    looks = [_look(each, rows[each.signed.key], now) for each in good]
    if not sqlite:
        values = {
            "now": now,
            "ids": [each.signed.key for each in good],
            "counters": [each.signed.counter for each in good],
            "signed": [each.signed.created for each in good],
            "boots": [each.message.host.boot for each in good],
            "agents": [each.message.agent[:100] for each in good],
            "policies": [each.message.policy for each in good],
            "wires": [each.message.wire for each in good],
            "looked": [at for at, _ in looks],
            "look_by": [by for _, by in looks],
        }
        connection.execute(_UPDATE_MANY, values)
        return
    values_of = [
        {
            "b_id": each.signed.key,
            "b_counter": each.signed.counter,
            "b_signed": each.signed.created,
            "b_now": now,
            "b_boot": each.message.host.boot,
            "b_agent": each.message.agent[:100],
            "b_policy": each.message.policy,
            "b_wire": each.message.wire,
            "b_looked": at,
            "b_look_by": by,
        }
        for each, (at, by) in zip(good, looks, strict=True)
    ]
    connection.execute(_UPDATE_ONE, values_of)


def _look(each: Received, row: RowMapping, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return when a machine was last looked at, of which the report is here, and when the next look is overdue.

    The machine's clock says how long ago that was when it signed; whether it is right does not matter. A look that is
    to come has a clock that went back: it says nothing.
    """
    message = each.message
    if message.looked_at is None:
        return None, None
    ago = min(each.signed.created - message.looked_at.timestamp(), _LONG_AGO)
    is_here = message.report is not None or message.report_hash == row["report_hash"]
    if not is_here or ago < -_SECOND:
        return row["looked_at"], row["look_by"]
    at = now - timedelta(seconds=max(0.0, ago))
    minutes = message.look_minutes
    return at, None if minutes is None else at + LOOKS_MISSED * timedelta(minutes=minutes)


class _Told:
    """What the machines of one batch are told."""

    def __init__(self, context: Context, connection: Connection, now: datetime, rows: dict[str, RowMapping]) -> None:
        self._context, self._connection, self._now, self._rows = context, connection, now, rows
        self._orders: dict[str, list[Order]] = defaultdict(list)
        self._policies: dict[str, policies.Current] = {}
        self._slots: dict[str, Given] = {}
        self._words: dict[str, datetime] = {}
        self._halted = ""
        self._held: set[str] = set()

    def prepare(self, good: Sequence[Received]) -> None:
        """Take down what the machines say, and look up what is due."""
        self._reached(good)
        for each in good:
            report = each.message.report
            if report is not None:
                put_report(self._connection, each.signed.key, report, self._now, each.message.report_hash)
                if report.facts:
                    take_facts(self._connection, each.signed.key, report.facts, self._now)
        self._halted = halted(self._connection)
        active = [each.signed.key for each in good if self._rows[each.signed.key]["state"] == "active"]
        self._due(active)
        asking = {each.signed.key: each.message.slot for each in good if each.message.slot is not None}
        wanting = {identity: self._rows[identity]["policy"] for identity in active if asking.get(identity)}
        if asking:
            self._slots = hand_out(self._connection, self._now, wanting, asking.keys() - wanting.keys(), self._lost)
        for name in {self._rows[identity]["policy"] for identity in active}:
            self._policies[name] = policies.current(
                self._connection, name, self._context.key, self._context.settings, self._now
            )
        self._ask(active)

    def _lost(self, machine: str) -> None:
        """Count a machine as failed in its rollouts that did not come back in the time of its restart slot."""
        steering.not_returned(self._connection, self._context, machine)

    def answer(self, each: Received) -> Answer:
        """Return what one machine is told."""
        row = self._rows[each.signed.key]
        message = each.message
        approved = row["state"] == "active"
        policy = self._policies.get(row["policy"]) if approved else None
        slot = self._slots.get(each.signed.key)
        return Answer(
            machine=each.signed.key,
            counter=each.signed.counter,
            at=self._now,
            next_seconds=self._context.settings.check_in_seconds,
            halted=self._halted or (_AWAY if each.signed.key in self._held else ""),
            want_report=message.report is None and message.report_hash not in ("", row["report_hash"]),
            approved=approved,
            policy=policy.signed if policy is not None and policy.hash != message.policy else None,
            policy_hash=policy.hash if policy is not None else "",
            orders=tuple(self._orders.get(each.signed.key, ())),
            slot_until=slot.until if slot is not None else None,
            slot_why=slot.why if slot is not None else "",
            window_until=self._words.get(each.signed.key),
            confirmed=tuple(dict.fromkeys(reached.action for reached in message.reached)),
            wire_oldest=version.OLDEST,
            wire_newest=version.NEWEST,
        )

    def _ask(self, active: Sequence[str]) -> None:
        """Ask about windows that stay closed without a word, by configuration and zone."""
        for name in sorted(self._policies):  # in one order, so that servers wait for each other and never in a ring
            if self._policies[name].events:
                ids = [each for each in active if self._rows[each]["policy"] == name]
                zones = zones_of(self._connection, ids)
                policy = msgspec.json.decode(self._policies[name].signed.body, type=Policy)
                found = words(self._connection, self._now, name, policy, set(zones.values()))
                self._words |= {each: found[zone] for each, zone in zones.items() if zone in found}

    def _reached(self, good: Iterable[Received]) -> None:
        """Take down the states that actions came to: forward only, of the machine's own actions."""
        told = {(reached.action, each.signed.key): each for each in good for reached in each.message.reached}
        if not told:
            return
        query = sa.select(actions.c.id, actions.c.machine_id, actions.c.state, actions.c.rollout_id)
        rows = {
            row["id"]: row
            for row in self._connection.execute(
                query.where(actions.c.id.in_({action for action, _ in told})).order_by(actions.c.id).with_for_update()
            ).mappings()
        }
        for identity, row in rows.items():
            each = told.get((identity, row["machine_id"]))
            if each is None:
                continue
            state = before = State(row["state"])
            for reached in each.message.reached:
                new = reached.known
                if reached.action == identity and new is not None and may_follow(state, new):
                    set_state(self._connection, identity, new, reached.detail, self._now)
                    state = new
            # What is said again, as where its answer was lost, was judged when it was said first.
            if row["rollout_id"] is not None and state.bad and state is not before:
                steering.reported(self._connection, self._context, row["rollout_id"], state)

    def _due(self, active: Sequence[str]) -> None:
        if not active:
            return
        new: list[str] = []
        # Locked: an action that is taken back at the same moment is either told or taken back, and never both.
        rows = self._connection.execute(_DUE, {"ids": list(active), "now": self._now}).mappings().all()
        ids = {row["rollout_id"] for row in rows if _not_begun(row)} - {None}
        held = rollout_store.held(self._connection, ids)
        in_grace = steering.in_grace(self._connection, self._context, ids, self._now)
        for row in rows:
            if row["rollout_id"] in in_grace and _not_begun(row):
                self._in_grace(row)
                continue
            late = row["until"] is not None and row["until"] <= self._now
            if late and State(row["state"]) in WAITING:
                if row["handed_at"] is None and row["rollout_id"] is None:  # else its rollout takes it back
                    set_state(self._connection, row["id"], State.TIMED_OUT, "it was not begun in time", self._now)
                continue
            if self._halted and not row["emergency"]:
                continue
            if row["rollout_id"] in held and _not_begun(row):
                self._dropped(row)
                continue
            if len(self._orders[row["machine_id"]]) == ORDERS_MAX:
                continue  # the next letters have it
            if row["detail"] == progress.DROPPED:
                progress.drop(self._connection, row["id"], self._now, again=True)
            self._orders[row["machine_id"]].append(_order(row))
            if row["handed_at"] is None:
                new.append(row["id"])
        if new:
            handed = sa.update(actions).where(actions.c.id.in_(new)).values(handed_at=self._now)
            self._connection.execute(handed)

    def _in_grace(self, row: RowMapping) -> None:
        """Name an action that its machine is not to begin now.

        One that has ended it, of which a restored server knows nothing, says so again. Others begin nothing, and have
        not been told of it: it can be taken back still.
        """
        if len(self._orders[row["machine_id"]]) < ORDERS_MAX:
            self._orders[row["machine_id"]].append(_order(row))
            self._held.add(row["machine_id"])

    def _dropped(self, row: RowMapping) -> None:
        """Let a machine forget what it was told; where it has heard that and still not begun, the action is taken back.

        A machine does what its last letter asks for, and looks at that before each order. One that has checked in for
        longer than it takes to see a letter, and says nothing of the action, has not begun it and never will.
        """
        if row["handed_at"] is None:
            return
        if row["detail"] != progress.DROPPED:
            progress.drop(self._connection, row["id"], self._now)
        elif self._now - row["changed_at"] >= _HEARD * timedelta(seconds=self._context.settings.check_in_seconds):
            progress.take_back(self._connection, row["id"])
            set_state(self._connection, row["id"], State.CANCELED, "taken back before it was begun", self._now)


def _not_begun(row: RowMapping) -> bool:
    return not row["emergency"] and State(row["state"]) in WAITING


def _order(row: RowMapping) -> Order:
    """Return what a machine is told. A revert that names an action and no updates has a word of its own: see `Kind`."""
    kind = Kind(row["kind"])
    return Order(
        id=row["id"],
        kind=Kind.UNDO if kind is Kind.REVERT and row["undoes"] and not row["updates"] else kind,
        updates=tuple(row["updates"]),
        anytime=row["anytime"],
        emergency=row["emergency"],
        disk=row["disk"],
        reboot=row["reboot"],
        until=row["until"],
        reason=row["reason"],
        undoes=row["undoes"],
    )


def halted(connection: Connection) -> str:
    """Return why nothing new begins anywhere; "" where it may."""
    row = connection.execute(sa.select(brake.c.halted, brake.c.reason)).one_or_none()
    return (row.reason or "halted") if row is not None and row.halted else ""


def set_state(connection: Connection, action: str, state: State, detail: str, now: datetime) -> None:
    """Put an action into a state, with its event. Whether it may be in it is the caller's to know."""
    values: dict[str, Any] = {"state": state.value, "detail": detail[:2000], "changed_at": now}
    connection.execute(sa.update(actions).where(actions.c.id == action).values(values))
    number = sa.select(sa.func.coalesce(sa.func.max(action_events.c.number), 0) + 1).where(
        action_events.c.action_id == action
    )
    connection.execute(
        sa.insert(action_events).values(
            action_id=action, number=number.scalar_subquery(), at=now, state=state.value, detail=detail[:2000]
        )
    )
