"""Doing what is due, and saying so before and after: an action that was cut off is taken up again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from hotmend import __version__
from hotmend.agent.by_hand import keep_away, note_reverted
from hotmend.agent.census.alerts import TAKES_BACK
from hotmend.agent.configuration import FleetLimits
from hotmend.agent.machine import Machine, alone
from hotmend.agent.memory import Group
from hotmend.agent.record.history import Action, Ordered, OrderEnded, RunState
from hotmend.agent.record.hold import read_hold
from hotmend.agent.record.quarantine import Entry, put_in, take_out
from hotmend.agent.recovery import recover, run_to_its_end
from hotmend.agent.run import Ended
from hotmend.agent.run import Order as RunOrder
from hotmend.agent.sources import Offer, Ready, Source
from hotmend.agent.turn import first_start, note_start, source_of
from hotmend.agent.uplink.undoing import refusals, undone
from hotmend.agent.wanted import Trigger
from hotmend.linux.process import ProcessImages
from hotmend.live.driver import revert
from hotmend.model.errors import HotmendError
from hotmend.servicing.actions import State
from hotmend.wire.messages import Kind, Order

_REASON: Final = "by its server"


def perform(machine: Machine, order: Order) -> OrderEnded | None:
    """Do one order; None: it waits for its window. What is announced in the history is told later, whatever happens.

    Raises:
        HotmendError: another run is under way, or the history cannot be written: the order stays to be done.
    """
    with alone(machine.places):
        note_start(machine)
        recover(machine)
        if order.until is not None and order.until <= machine.clock():
            state, detail = State.TIMED_OUT, "it was not done in time"
        else:
            about = Ordered(order=order.id, kind=order.kind.value, updates=order.updates, reason=order.reason)
            machine.record(msgspec.structs.replace(about, undoes=order.undoes or ""))
            try:
                state, detail = _done(machine, order)
            except (HotmendError, OSError) as error:
                state, detail = State.FAILED, str(error)
            if state is State.WAITING_WINDOW:
                machine.record(RunState(state=state, detail=detail))
                return None
        ended = OrderEnded(order=order.id, state=state, detail=detail)
        machine.record(ended)
    return ended


def _done(machine: Machine, order: Order) -> tuple[State, str]:
    limits = machine.configuration.fleet
    if why := _beyond(limits, order.kind):
        return State.BLOCKED, f"this machine's own configuration does not let its server {why}"
    if why := _left_alone(machine, order.kind):
        return State.BLOCKED, why
    match order.kind:
        case Kind.ASSESS:
            return State.SUCCEEDED, ""  # the turn that follows looks, as every turn does
        case Kind.INSTALL:
            source = _Only(source_of(machine), order.updates) if order.updates else source_of(machine)
            anytime = order.anytime and limits.windows == "server"
            return _of_run(run_to_its_end(machine, source, RunOrder(Trigger.ORDER, anytime, order.disk)))
        case Kind.REVERT | Kind.UNDO if order.undoes is not None:
            return undone(machine, order.undoes, order.reason or _REASON)
        case Kind.REVERT:
            return _reverted(machine, order)
        case Kind.UNDO:
            return State.BLOCKED, "it does not say which action is to be taken back"
        case Kind.QUARANTINE:
            return _quarantined(machine, order)
        case Kind.LIFT:
            return _lifted(machine, order)
        case Kind.UNKNOWN:
            return State.BLOCKED, f"hotmend {__version__} does not know what is asked for: update it"


def _beyond(limits: FleetLimits, kind: Kind) -> str:
    """Return what it is that a server asks for and may not; "": it may."""
    if kind is Kind.INSTALL and not limits.install:
        return "install anything: [fleet] install, or the mode observe"
    if kind.value in TAKES_BACK and not limits.revert:
        return "take anything back: [fleet] revert, or the mode observe"
    return ""


def _left_alone(machine: Machine, kind: Kind) -> str:
    """Return why nothing may be changed here, whatever a server asks for, emergencies too; "": it may."""
    configuration, now = machine.configuration, machine.clock()
    if kind is not Kind.ASSESS and (hold := read_hold(machine.places.hold, now)) is not None:
        return str(hold)
    if kind is not Kind.INSTALL or configuration.mode == "observe":  # then a policy's, which is its server's matter
        return ""
    if configuration.effective_mode(first_start(machine.history), now) != "observe":
        return ""
    return f"this machine is only observed for its first {configuration.observe_days} days: observe_days"


def _of_run(ended: Ended) -> tuple[State, str]:
    if ended.state is State.NOT_APPLICABLE:
        return State.ALREADY_INSTALLED, "nothing is offered that is not here, in quarantine or tried already"
    told = [f"{each.update}: {each.detail}" for each in ended.actions if each.detail]
    return ended.state, "; ".join(part for part in (ended.detail, *told[:3]) if part)


def _reverted(machine: Machine, order: Order) -> tuple[State, str]:
    ids = _hotpatches(machine, order.updates) if order.updates else None
    if order.updates and not ids:
        return State.NOT_APPLICABLE, "none of these is in memory"
    reason = order.reason or _REASON
    if order.updates:
        _quarantined(machine, order)
    keep_away(machine.places, ids, None, reason, below=False)
    results = revert(ids, None, machine.manner().apply)
    note_reverted(machine.places, results, reason)
    done = [result for result in results if result.state == "reverted"]
    if why := refusals(results):
        return State.FAILED, why
    if not done:
        return State.NOT_APPLICABLE, "nothing is applied in any process"
    return State.SUCCEEDED, f"taken back in {len(done)} processes"


def _hotpatches(machine: Machine, updates: Sequence[str]) -> list[str]:
    """Return the hotpatches that updates brought, by the history."""
    events = machine.history.read().events
    found = (
        identity
        for event in events
        if isinstance(event, Action) and {event.update, event.brings, event.release}.intersection(updates)
        for identity in event.hotpatches
    )
    return list(dict.fromkeys(found))


def _quarantined(machine: Machine, order: Order) -> tuple[State, str]:
    entries = [Entry(update, machine.clock(), order.reason or _REASON) for update in order.updates]
    new = put_in(machine.places.quarantine, entries, machine.record)
    return (State.SUCCEEDED, "") if new else (State.ALREADY_INSTALLED, "in quarantine already")


def _lifted(machine: Machine, order: Order) -> tuple[State, str]:
    events = machine.history.read().events
    gone = take_out(machine.places.quarantine, order.updates, events, order.reason or _REASON, machine.record)
    return (State.SUCCEEDED, "") if gone else (State.NOT_APPLICABLE, "none of these is in quarantine")


@dataclass(frozen=True, slots=True)
class _Only:
    """A source of which only these updates are meant: by key, PACKAGE=VERSION or release."""

    source: Source
    updates: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def folder(self) -> Path:
        return self.source.folder

    def offers(self, running: Sequence[ProcessImages]) -> tuple[Offer, ...]:
        wanted = set(self.updates)
        offers = self.source.offers(running)
        return tuple(offer for offer in offers if wanted & offer.names)

    def withdrawn(self, updates: Iterable[str]) -> dict[str, str]:
        return self.source.withdrawn(updates)

    @contextlib.contextmanager
    def opened(self, offers: Sequence[Offer]) -> Iterator[None]:
        with self.source.opened(offers):
            yield

    def download(self, offers: Sequence[Offer]) -> None:
        self.source.download(offers)

    def groups(self, offer: Offer, running: Sequence[ProcessImages]) -> tuple[Group, ...]:
        return self.source.groups(offer, running)

    def ready(self, offer: Offer, group: Group) -> Ready:
        return self.source.ready(offer, group)
