"""Crashes in new code long after a run: looked for at each turn, and the code taken back where the agent may.

What the kernel's log says is a line of the history first. Whatever then has such a line and is in memory still is taken
back, so that a turn that was killed between the two, or a hold, only puts it off.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Final

import msgspec

from hotmend.agent.boot import boot_id
from hotmend.agent.health import crashes
from hotmend.agent.machine import Machine
from hotmend.agent.record.history import Action, AgentBegan, AnyEvent, Assessed, Crashed, RunBegan, RunEnded
from hotmend.agent.undo import taken_back

_TRIGGER: Final = "crash"


def note_crashes(machine: Machine) -> int:
    """Write crashes in new code since the last look into the history; return where the kernel's log is read on.

    Raises:
        HotmendError: the history cannot be written.
    """
    events = machine.history.read().events
    log_from = _read_until(events)
    try:
        traps, until = crashes.read_traps(log_from, machine.kernel_log)
    except OSError:
        return log_from  # a later look begins there
    known = {(event.at_us, event.address) for event in events if isinstance(event, Crashed)}
    for trap in traps:
        if (trap.at_us, trap.address) in known:
            continue
        for action in _with_new_code(events):
            if crash := crashes.crash_in_new_code([trap], action.changed, action.hotpatches):
                machine.record(crash)
    return until


def _read_until(events: Iterable[AnyEvent]) -> int:
    """Return which record of this boot's log is the first that was not read; 0: none was."""
    found, here, boot = 0, False, boot_id()
    for event in events:
        if isinstance(event, AgentBegan):
            found, here = found if here else 0, event.boot == boot != ""
        elif isinstance(event, Assessed) and here:
            found = event.log_from
    return found if here else 0


def _with_new_code(events: Iterable[AnyEvent]) -> tuple[Action, ...]:
    """Return the last line of each update that placed hotpatches, where processes run them."""
    last = {event.update: event for event in events if isinstance(event, Action) and event.says_of_memory}
    return tuple(action for action in last.values() if action.runs)


def take_back_crashed(machine: Machine) -> tuple[Action, ...]:
    """Take back what crashed in its new code and is in memory still, each in a run of its own; return their ends.

    Raises:
        HotmendError: the history cannot be written.
    """
    found = crashed_since(machine.history.read().events)
    return tuple(_taken_back(machine, action, crash) for action, crash in found.values())


def crashed_since(events: Iterable[AnyEvent]) -> dict[str, tuple[Action, Crashed]]:
    """Return what crashed after it had come into memory, and was not taken back since, by its update."""
    last: dict[str, Action] = {}
    found: dict[str, tuple[Action, Crashed]] = {}
    for event in events:
        if isinstance(event, Action) and event.says_of_memory:
            last[event.update] = event
            found.pop(event.update, None)
        elif isinstance(event, Crashed) and event.ours:
            for update, action in last.items():
                if action.runs and set(event.hotpatches) & set(action.hotpatches):
                    found.setdefault(update, (action, event))
    return found


def _taken_back(machine: Machine, action: Action, crash: Crashed) -> Action:
    run = f"{machine.clock():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"

    def record(event: AnyEvent) -> None:
        machine.record(msgspec.structs.replace(event, run=run))

    record(RunBegan(trigger=_TRIGGER, source="kernel log", updates=(action.update,), until=None, boot=boot_id()))
    why = crashes.crash_text(crash)
    ended = taken_back(machine, msgspec.structs.replace(action, run=run), why, record)
    record(ended)
    record(RunEnded(outcome=ended.state, detail=why))
    return ended
