"""Taking back what one order brought, as the machine's own history has it, and keeping that away from the machine.

A server names the order and not updates: "all that is offered" was something else on each machine. What an earlier
action had brought, and nothing had taken back when the order was done, was not brought by the order and stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from hotmend.agent.by_hand import note_reverted
from hotmend.agent.machine import Machine
from hotmend.agent.record.history import (
    Action,
    AnyEvent,
    DiskEnded,
    Ordered,
    OrderEnded,
    Quarantined,
    Reverted,
    RunBegan,
)
from hotmend.agent.record.quarantine import Entry, put_in
from hotmend.agent.undo import processes_with
from hotmend.agent.wanted import Trigger
from hotmend.live.driver import ProcessResult, revert
from hotmend.servicing.actions import State

_NAMES_MAX = 10


@dataclass(frozen=True, slots=True)
class Brought:
    """What an order brought.

    Attributes:
        updates: the last line of each update that may have changed something.
        hotpatches: ids of what came into memory with them, and was not there before.
        disk: updates of it whose packages were installed.
    """

    updates: tuple[Action, ...] = ()
    hotpatches: tuple[str, ...] = ()
    disk: tuple[str, ...] = ()


def brought(events: Iterable[AnyEvent], order: str) -> Brought | None:
    """Return what an order brought, by a machine's history; None: the history has nothing of it."""
    known, current = False, ""
    runs: set[str] = set()
    here: dict[str, tuple[str, ...]] = {}  # hotpatches of updates that ended well before, and were not taken back
    found: dict[str, Action] = {}
    disk: list[str] = []
    for event in events:
        match event:
            case Ordered():
                current, known = event.order, known or event.order == order
            case OrderEnded():
                current = ""
            case RunBegan(trigger=Trigger.ORDER) if current == order:
                runs.add(event.run)
            case Action() if event.run in runs:
                if event.update in found or event.update not in here:
                    found[event.update] = _joined(found.get(event.update), event)
            case Action() if event.state.good and event.update not in found:
                here[event.update] = event.hotpatches
            case DiskEnded(error="") if event.run in runs:
                disk += event.updates
            case Quarantined(lifted=False):
                here = {name: ids for name, ids in here.items() if event.update not in (name, *ids)}
            case Reverted():
                here = {name: ids for name, ids in here.items() if not {*ids} & {*event.hotpatches}}
    if not known:
        return None
    updates = tuple(each for each in found.values() if _changed(each))
    before = {identity for ids in here.values() for identity in ids}
    ids = dict.fromkeys(i for each in updates for i in each.hotpatches if i not in before)
    return Brought(updates, tuple(ids), tuple(dict.fromkeys(disk)))


def _joined(before: Action | None, event: Action) -> Action:
    """Return an action's last line, with the hotpatches that an earlier one names."""
    if before is None or event.hotpatches:
        return event
    return msgspec.structs.replace(event, hotpatches=before.hotpatches)


def _changed(last: Action) -> bool:
    """Return whether an action may have changed something: one that is blocked has not, nor one without code."""
    return last.state is not State.BLOCKED and (bool(last.hotpatches) or last.state.good)


def undone(machine: Machine, order: str, reason: str) -> tuple[State, str]:
    """Take back what an order brought, and put it in quarantine. Done twice, it is as done once.

    Returns:
        `NOT_APPLICABLE` where the history has nothing of the order: nothing is known then, and nothing is changed.

    Raises:
        HotmendError: history or quarantine cannot be read.
        OSError: they cannot be written.
    """
    what = brought(machine.history.read().events, order)
    if what is None:
        return State.NOT_APPLICABLE, "the history of this machine has nothing of that action"
    if not what.updates:
        return State.SUCCEEDED, "it had brought nothing that was not here before"
    entries = [Entry(each.update, machine.clock(), reason, each.brings) for each in what.updates]
    put_in(machine.places.quarantine, entries, machine.record)
    results = revert(list(what.hotpatches), None, machine.manner().apply) if what.hotpatches else []
    note_reverted(machine.places, results, reason)
    if why := refusals(results):
        return State.FAILED, why
    if left := processes_with(what.hotpatches):
        return State.FAILED, f"runs in {_listed(f'{pid} ({comm})' for pid, comm in left.items())} still: restart them"
    done = sum(result.state == "reverted" for result in results)
    told = f"{_listed(each.update for each in what.updates)}: taken back in {done} processes, and in quarantine"
    if what.disk:
        on_disk = f"on the disk still, and in what begins from now on: {_listed(what.disk)}"
        return State.SUCCEEDED_WITH_WARNINGS, f"{told}; {on_disk}"
    return State.SUCCEEDED, told


def refusals(results: Sequence[ProcessResult]) -> str:
    """Return why processes were not taken back; "" where all were."""
    refused = [result for result in results if result.state == "refused"]
    if not refused:
        return ""
    codes = sorted({reason.code for result in refused for reason in result.reasons})
    told = _listed(f"{result.pid} ({result.comm})" for result in refused)
    return f"could not be taken back in {told} [{', '.join(codes)}]: restart them"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - _NAMES_MAX
    return ", ".join(every[:_NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
