"""One step of a rollout: look at what machines have reported, and do what the rules say. Each is one transaction.

A step rests on nothing but the database, so it may be taken by any process, at any time and any number of times: the
rollout's row is locked, and what was done already is there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.context import Context
from hotmend.server.maintenance.events import allowed
from hotmend.server.rollouts import candidates, progress, store, waiting
from hotmend.server.rollouts.spec import Spec, cause_json
from hotmend.server.rollouts.windows import Windows
from hotmend.servicing import holds, starting
from hotmend.servicing.actions import State as ActionState
from hotmend.servicing.gates import Judgement, Tally, Verdict, judge
from hotmend.servicing.lanes import RULES, Lane
from hotmend.servicing.message import Cause, cause
from hotmend.servicing.rings import Member, late_ring, natural_ring
from hotmend.servicing.rollouts import Event, GroupEvent, GroupState, State, advance, group_advance

SERVER: Final = "server"
"""Who does what nobody asked for."""
_MISSED: Final = 3
"""A machine that has missed so many check-ins is off."""
_PAGE: Final = 1000
"""So many waiting machines are looked at together."""
_SAID_EVERY: Final = timedelta(seconds=20)
"""That somebody steers is written down so often."""
_GRACE: Final = 7
"""For so many check-ins no silence is judged after nobody steered. After an outage agents wait up to 4.4 times as long
as usual, and it takes another check-in until they say the end again that a restored server has lost."""
_UNTOLD: Final = timedelta(minutes=30)
"""An action that its machine was not told of after so long is taken back: the machine went off just then."""

_ANY_TIME: Final = datetime.fromtimestamp(0, UTC)
_REVERT_AGAIN: Final = timedelta(minutes=5)
"""After so long a revert that failed is tried again."""
NOT_TAKEN_BACK: Final = "not-taken-back"
"""Code of the cause of a rollout that ended with machines which were to be taken back and are not."""


@dataclass(frozen=True, slots=True)
class Step:
    """What came of a step.

    Attributes:
        state: of the rollout afterwards.
        moved: something was done; there may be more to do at once.
    """

    state: State
    moved: bool


@dataclass(slots=True)
class Rollout:
    """A rollout that this transaction has locked."""

    connection: Connection
    context: Context
    now: datetime
    row: RowMapping
    spec: Spec
    lane: Lane
    state: State
    failed_at: datetime | None
    moved: bool = False

    @property
    def id(self) -> str:
        """Of the rollout."""
        return str(self.row["id"])

    @property
    def seen_after(self) -> datetime:
        """Machines that were not heard of since are off."""
        return self.now - _MISSED * timedelta(seconds=self.context.settings.check_in_seconds)

    @property
    def away(self) -> bool:
        """Whether nobody has steered for so long that what machines do not say proves nothing."""
        steered = self.row["steered_at"]
        return self.state in store.JUDGED and steered is not None and steered < steered_before(self.context, self.now)

    @property
    def in_grace(self) -> bool:
        """Whether no silence is judged, and nothing begins. What machines report counts as always."""
        until = self.row["grace_until"]
        return self.away or (until is not None and self.now < until)

    def happened(self, what: str, why: Cause | None = None, group: int | None = None, who: str = SERVER) -> None:
        """Write down what happened."""
        values = {"rollout_id": self.id, "at": self.now, "who": who, "what": what, "group_number": group}
        store.insert_event(self.connection, {**values, "why": cause_json(why)})
        self.moved = True

    def move(self, event: Event, why: Cause | None = None, who: str = SERVER) -> None:
        """Move the rollout, where its table has that."""
        after = advance(self.state, event)
        if after is None:
            return
        self.state = after
        values: dict[str, Any] = {"state": after.value, "changed_at": self.now, "why": cause_json(why)}
        store.update_rollout(self.connection, self.id, values)
        self.happened(event.value, why, who=who)

    def move_group(
        self, number: int, state: GroupState, event: GroupEvent, why: Cause | None = None, **more: object
    ) -> None:
        """Move a group, where its table has that, and keep more of it."""
        after = group_advance(state, event)
        if after is None:
            return
        values = {"state": after.value, "why": cause_json(why), **more}
        store.update_group(self.connection, self.id, number, values)
        self.happened(f"group {event.value}", why, number)

    def brake(self, why: Cause) -> None:
        """From now on nothing begins; what no machine was told of is taken back."""
        if self.failed_at is None:
            self.failed_at = self.now
            store.update_rollout(self.connection, self.id, {"failed_at": self.now})
            self.happened("brake", why)
        progress.withdraw(self.connection, self.id, self.now, "the brake is on")


def steered_before(context: Context, now: datetime) -> datetime:
    """Return the moment before which a rollout that runs was steered last where nobody steers it."""
    return now - _SAID_EVERY - _MISSED * timedelta(seconds=context.settings.check_in_seconds)


def in_grace(connection: Connection, context: Context, ids: Collection[str], now: datetime) -> set[str]:
    """Return those of some rollouts in which nothing begins, as nobody steered them for a while."""
    return store.in_grace(connection, ids, now, steered_before(context, now))


def load(connection: Connection, context: Context, identity: str) -> Rollout | None:
    """Lock a rollout and return it; None: there is none."""
    row = store.locked(connection, identity)
    if row is None:
        return None
    spec = msgspec.convert(row["spec"], Spec)
    return Rollout(
        connection, context, context.clock(), row, spec, Lane(row["lane"]), State(row["state"]), row["failed_at"]
    )


def reported(connection: Connection, context: Context, rollout: str, state: ActionState) -> None:
    """Engage the brake when an action of a rollout has ended badly, in the transaction that keeps the report."""
    if not state.bad:
        return
    found = load(connection, context, rollout)
    if found is not None and not found.state.final:
        found.brake(cause("failure-reported", "A machine reported {state}.", state=state.value))


def has_left(connection: Connection, context: Context, rollout: str) -> None:
    """Engage the brake of a rollout that a machine has begun which leaves: it will not say what came of it."""
    found = load(connection, context, rollout)
    if found is not None and not found.state.final:
        found.brake(cause("machine-left", "A machine that had begun has left, and has not said what came of it."))


def not_returned(connection: Connection, context: Context, machine: str) -> None:
    """Engage the brake of each rollout that changed a machine which did not come back from its restart.

    What is open of it there has timed out; of an action that ended before the restart the gate sees that it is silent.
    Where the server was away, it may have been there long ago: the gate sees whether it is, after the grace.
    """
    why = cause("slot-not-returned", "A machine did not come back in the time of its restart slot.")
    for rollout in progress.rollouts_of(connection, machine):
        found = load(connection, context, rollout)
        if found is not None and not found.state.final and not found.in_grace:
            progress.fail(connection, found.id, machine, found.now, "it did not come back from its restart")
            found.brake(why)


def step(context: Context, identity: str, *, join: bool = True) -> Step:
    """Take one step.

    Args:
        context: of the process.
        identity: of the rollout.
        join: look for machines that come late, too.

    Raises:
        SQLAlchemyError: the database did not answer; nothing was done.
    """
    with context.database.write() as connection:
        found = load(connection, context, identity)
        if found is None:
            return Step(State.STOPPED, moved=False)
        steered = found.row["steered_at"]
        if found.away:
            _give_grace(found)
        if steered is None or found.now - steered >= _SAID_EVERY:
            store.put_steered(connection, identity, found.now)
        match found.state:
            case State.READY:
                _start_in_time(found)
            case State.STARTING:
                found.move(Event.BEGAN)
            case State.RUNNING:
                _run(found, join=join)
            case State.PAUSED:
                _keep_time(found)
            case State.STOPPING:
                _settle(found)
            case State.ROLLING_BACK:
                _take_back(found)
        return Step(found.state, found.moved)


def _give_grace(found: Rollout) -> None:
    """Judge no silence for a while: machines could not say anything, or what they said is lost with a backup's age."""
    until = found.now + _GRACE * timedelta(seconds=found.context.settings.check_in_seconds)
    store.put_grace(found.connection, found.id, until)
    progress.give_time(found.connection, found.id, found.now, until, until + _UNTOLD)
    why = cause(
        "grace",
        "Nobody has steered for a while: until {until} no silence is judged, and nothing begins.",
        until=until,
    )
    found.happened("grace", why)


def _start_in_time(found: Rollout) -> None:
    """Begin a rollout whose time has come; one that was late, as with no server there, begins at once."""
    at = found.row["start_at"]
    if at is not None and found.now >= at:
        store.update_rollout(found.connection, found.id, {"start_at": None})
        found.move(Event.STARTED, cause("scheduled-start", "It was to begin at {at}.", at=at))


def _keep_time(found: Rollout) -> None:
    """End what says nothing for too long."""
    if found.in_grace:
        return
    answer = timedelta(minutes=found.spec.answer_minutes)
    if progress.time_out(found.connection, found.id, found.now, found.now - answer):
        minutes = found.spec.answer_minutes
        found.brake(cause("action-silent", "A machine that had begun says nothing for {n} minutes.", n=minutes))


def _run(found: Rollout, *, join: bool) -> None:
    if found.in_grace:
        _watch(found)
        return
    _keep_time(found)
    progress.withdraw(found.connection, found.id, found.now, "the machine was not there in time", expired=True)
    rows = store.group_rows(found.connection, found.id)
    current = next((row for row in rows if row["state"] in (GroupState.RUNNING, GroupState.SOAKING)), None)
    if current is None:
        _next_group(found, rows)
        return
    if join:
        _join(found, rows, current)
    waits = _waits(found, current) if current["state"] == GroupState.RUNNING else _NOBODY
    tally = _tally(found, current, waits.machines)
    judgement = judge(tally, found.spec.thresholds, current["quiet_since"], found.now, canary=current["number"] == 0)
    match judgement.verdict:
        case Verdict.STOP:
            _stop(found, current, judgement)
        case Verdict.SOAK:
            _end(found, current, tally, judgement)
        case Verdict.LOOK:
            _end(found, current, tally, judgement)
            _look(found, current)
        case Verdict.OPEN:
            _end(found, current, tally, judgement)
            if _allowed(found, current["number"], "post", found.spec.post_event_minutes):
                soaking = GroupState.SOAKING
                found.move_group(current["number"], soaking, GroupEvent.PASSED, judgement.cause, ended_at=found.now)
        case Verdict.WAIT if current["state"] == GroupState.RUNNING:
            _go_on(found, current, tally, judgement, waits)


def _watch(found: Rollout) -> None:
    """Let failures stop a rollout in its grace, and nothing else happen."""
    rows = store.group_rows(found.connection, found.id)
    current = next((row for row in rows if row["state"] in (GroupState.RUNNING, GroupState.SOAKING)), None)
    if current is None:
        return
    tally = _tally(found, current, 0)
    judgement = judge(tally, found.spec.thresholds, None, found.now, canary=current["number"] == 0)
    if tally.failed > found.spec.thresholds.errors_max:
        _stop(found, current, judgement)
    elif tally.failed > current["judged"] and found.failed_at is None:
        found.brake(judgement.cause)


def _next_group(found: Rollout, rows: list[RowMapping]) -> None:
    """Begin the next ring; where none is left, all have passed."""
    following = next((row for row in rows if row["state"] == GroupState.SCHEDULED), None)
    if following is None:
        found.move(Event.COMPLETED, cause("rollout-done", "All rings have passed."))
    elif not store.halted(found.connection) and _allowed(
        found, following["number"], "pre", found.spec.pre_event_minutes
    ):
        found.move_group(following["number"], GroupState.SCHEDULED, GroupEvent.BEGAN, began_at=found.now)


def _allowed(found: Rollout, number: int, kind: str, minutes: int) -> bool:
    """Ask those outside before or after a group; a no, and silence, pause the rollout."""
    if not minutes:
        return True
    gate = store.gate(found.connection, found.id, number, kind)
    if gate is None:
        store.ask(found.connection, found.id, number, kind, found.now + timedelta(minutes=minutes))
        found.happened(f"{kind}-event", cause("asked", "Allowed or not: {n} minutes to say so.", n=minutes), number)
        return False
    if gate["state"] == "waiting" and found.now >= gate["until"]:
        silent = {"state": "denied", "by": SERVER, "reason": "no answer in time"}
        store.answer(found.connection, found.id, number, kind, silent)
        gate = {**gate, **silent}  # type: ignore[assignment]
    if gate["state"] == "denied":
        text = "The {kind}-event of the ring was denied by {who}: {reason}"
        why = cause("event-denied", text, kind=kind, who=gate["by"], reason=gate["reason"])
        found.move(Event.PAUSED, why)
    return bool(gate["state"] == "allowed")


def _end(found: Rollout, group: RowMapping, tally: Tally, judgement: Judgement) -> None:
    """All of a ring has ended: its soak counts from now."""
    state = GroupState(group["state"])
    if state is GroupState.RUNNING:
        found.move_group(group["number"], state, GroupEvent.ENDED, judgement.cause, quiet_since=found.now)
    _judged(found, group, tally, judgement.cause)


def _look(found: Rollout, group: RowMapping) -> None:
    """Have the machines of a ring look at themselves: whatever the pace of their own turns, the soak ends with a look.

    Nothing is changed by it, so that it goes on where everything is halted, and outside windows.
    """
    ids = progress.unasked(found.connection, found.id, group["number"])
    if not ids:
        return
    until = found.now + timedelta(minutes=found.spec.thresholds.silence_minutes)
    action = {**_action(found), "kind": "assess", "updates": [], "emergency": True, "until": until}
    reason = f"rollout {found.row['name']}: the end of the soak"
    progress.ask(found.connection, found.id, ids, {**action, "reason": reason})
    why = cause("looks", "{count} machines are asked to look at themselves.", count=len(ids))
    found.happened("looks", why, group["number"])


def _go_on(found: Rollout, group: RowMapping, tally: Tally, judgement: Judgement, waits: _Waits) -> None:
    if tally.failed > group["judged"] and found.failed_at is None:
        found.brake(judgement.cause)
    if not tally.busy:
        _judged(found, group, tally, judgement.cause)
    _begin(found, group, tally.busy, waits)


def _judged(found: Rollout, group: RowMapping, tally: Tally, why: Cause) -> None:
    """Release the brake: all that had begun has ended, and there are not more failures than allowed."""
    if found.failed_at is not None:
        store.update_group(found.connection, found.id, group["number"], {"judged": tally.failed})
        found.failed_at = None
        store.update_rollout(found.connection, found.id, {"failed_at": None})
        found.happened("brake released", why)


def _stop(found: Rollout, group: RowMapping, judgement: Judgement) -> None:
    found.brake(judgement.cause)
    state = GroupState(group["state"])
    found.move_group(group["number"], state, GroupEvent.FAILED, judgement.cause, ended_at=found.now)
    found.move(Event.PAUSED, judgement.cause)


@dataclass(frozen=True, slots=True)
class _Waits:
    """Machines of a ring that have not begun.

    Attributes:
        machines: how many the ring waits for.
        clocks: what the windows of those rest on that no window holds; None: windows do not matter.
    """

    machines: int
    clocks: frozenset[waiting.Clock] | None


_NOBODY: Final = _Waits(0, frozenset())


def _waits(found: Rollout, group: RowMapping) -> _Waits:
    """Ask once for all machines with the same windows whether these hold them, and keep it."""
    ring = _ring(found, group)
    counts = ring.clocks()
    if not RULES[found.lane].windows:
        return _Waits(sum(each.total() for each in counts.values()), None)
    windows = _windows(found)
    decisions = {clock: windows.ask(*clock) for clock in counts}
    free = frozenset(clock for clock, decision in decisions.items() if decision.allowed)
    held = {clock: decision.cause.code for clock, decision in decisions.items() if not decision.allowed}
    for code in set(held.values()):
        if other := [clock for clock in counts if held.get(clock) == code and counts[clock].keys() != {code}]:
            ring.hold_clocks(code, other, found.now)
    if freed := [clock for clock in free if counts[clock].keys() & holds.WINDOWS]:
        ring.free_clocks(freed, found.now)
    number = sum(counts[clock].total() for clock in counts if held.get(clock) not in holds.NOT_WAITED_FOR)
    return _Waits(number, free)


def _ring(found: Rollout, group: RowMapping) -> waiting.Ring:
    return waiting.Ring(found.connection, found.id, group["number"], found.seen_after)


def _windows(found: Rollout) -> Windows:
    contents, words = candidates.policy_contents(found.connection), allowed(found.connection, found.now)
    return Windows(contents, found.now, timedelta(minutes=found.spec.minutes), words)


def _tally(found: Rollout, group: RowMapping, waits: int) -> Tally:
    """Return where the machines of a group are; those that have not begun and are not waited for are off."""
    connection, number = found.connection, group["number"]
    counts = progress.states(connection, found.id, number)
    ended = {state: count for state, count in counts.items() if state is not None and state.final}
    good = sum(count for state, count in ended.items() if state.good)
    silence = timedelta(minutes=found.spec.thresholds.silence_minutes)
    heard_after = _ANY_TIME if found.in_grace else found.now - silence
    found_well = progress.well(connection, found.id, number, heard_after)
    none = ended.get(ActionState.NOT_APPLICABLE, 0) + ended.get(ActionState.CANCELED, 0)
    return Tally(
        well=found_well.well,
        looking=found_well.looking,
        failed=sum(count for state, count in ended.items() if state.bad) + good - found_well.well,
        blocked=ended.get(ActionState.BLOCKED, 0),
        none=none,
        busy=sum(count for state, count in counts.items() if state is not None and not state.final),
        waiting=waits,
        off=counts.get(None, 0) - waits,
    )


def _begin(found: Rollout, group: RowMapping, busy: int, waits: _Waits) -> None:
    """Make the actions of machines that may begin now: in their order, and on to the last until the budget is used."""
    held = starting.brake(found.state, found.lane, halted=store.halted(found.connection), failed_at=found.failed_at)
    if held is not None or busy >= found.spec.budget or waits.clocks == frozenset():
        return
    connection, ring = found.connection, _ring(found, group)
    store.begin_alone(connection)
    changing, sizes = candidates.busy(connection, found.now), candidates.set_sizes(connection)
    begun: list[Member] = []
    for rows in ring.pages(waits.clocks, _PAGE):
        ready = candidates.members_of(connection, [row["machine_id"] for row in rows])
        start = starting.startable(ready, [*changing, *begun], sizes, busy + len(begun), found.spec.limits)
        ring.hold({machine: each.code for machine, each in start.held.items()}, found.now)
        begun += start.members
        if busy + len(begun) >= found.spec.budget:
            break
    if begun:
        progress.begin(connection, found.id, group, [each.id for each in begun], _action(found))
        found.happened("begun", cause("begun", "{count} machines begin.", count=len(begun)), group["number"])


def _action(found: Rollout) -> Mapping[str, Any]:
    return {
        "kind": found.spec.kind,
        "updates": list(found.spec.updates),
        "anytime": not RULES[found.lane].windows,
        "emergency": False,
        "disk": found.spec.disk,
        "reason": found.spec.reason or f"rollout {found.row['name']}",
        "state": ActionState.SCHEDULED.value,
        "created_by": str(found.row["created_by"]),
        "created_at": found.now,
        "due_at": found.now,
        "until": found.now + _UNTOLD,
        "changed_at": found.now,
    }


def _join(found: Rollout, rows: list[RowMapping], current: RowMapping) -> None:
    """Take in machines that are new in the selection, and those that were off when it was their turn."""
    connection = found.connection
    states = [GroupState(row["state"]) for row in rows]
    moved: dict[tuple[int, int], list[str]] = {}
    passed = current["number"] + (current["state"] == GroupState.SOAKING)
    windows = _windows(found) if RULES[found.lane].windows else None
    for machine, number, clock in waiting.left_behind(connection, found.id, passed, found.seen_after):
        to = late_ring(number, states)
        held = windows is not None and windows.ask(*clock).cause.code in holds.NOT_WAITED_FOR
        if to is not None and not held:
            moved.setdefault((number, to), []).append(machine)
    for (number, to), ids in moved.items():
        progress.move(connection, found.id, number, to, ids)
        found.happened("joined", cause("joined", "{count} machines join.", count=len(ids)), to)
    if not found.spec.selection.dynamic:
        return
    joined: dict[int, list[str]] = {}
    for member in candidates.selected(connection, found.spec.selection, not_in=found.id):
        place = late_ring(natural_ring(member, found.spec.rings), states)
        if place is not None:
            joined.setdefault(place, []).append(member.id)
    for place, ids in joined.items():
        progress.insert_members(connection, found.id, place, ids, late=True, place=1_000_000)
        found.happened("joined", cause("joined", "{count} machines join.", count=len(ids)), place)


def _settle(found: Rollout) -> None:
    """A rollout that is being stopped has stopped when nothing of it is under way any more."""
    _keep_time(found)
    progress.withdraw(found.connection, found.id, found.now, "the rollout was stopped")
    if not progress.in_flight(found.connection, found.id):
        found.move(Event.SETTLED, _not_taken_back(found))


def _take_back(found: Rollout) -> None:
    """Make a revert for every machine that may have been changed, again where one failed; it is over when all ended.

    It waits for machines that are off for as long as nobody stops it: nothing else says that they will not return.
    """
    connection = found.connection
    _keep_time(found)
    progress.withdraw(connection, found.id, found.now, "the rollout is taken back")
    which = progress.to_revert(connection, found.id, found.now - _REVERT_AGAIN)
    if which:
        action = {**_action(found), "kind": "revert", "emergency": True, "anytime": True, "until": None}
        action["reason"] = f"rollout {found.row['name']} is taken back"
        progress.revert(connection, found.id, which, action)
        found.happened("reverts", cause("reverts", "{count} machines are reverted.", count=len(which)))
    elif not progress.reverting(connection, found.id) and not progress.in_flight(connection, found.id):
        found.move(Event.SETTLED, _not_taken_back(found))


def _not_taken_back(found: Rollout) -> Cause | None:
    """Return that there are machines which were to be taken back and are not; None: there are none."""
    left = progress.not_taken_back(found.connection, found.id)
    return cause(NOT_TAKEN_BACK, "Machines that are not taken back: {n}.", n=left) if left else None
