"""Taking an update back from memory, and keeping it away from this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

import msgspec

from hotmend.agent.machine import Machine
from hotmend.agent.record.history import Action, AnyEvent, Quarantined
from hotmend.agent.record.quarantine import Entry, changing, read_quarantine, with_entry, write_quarantine
from hotmend.linux.process import processes_mapping
from hotmend.live.driver import revert
from hotmend.live.registry import process_status
from hotmend.model.errors import HotmendError, ProcessGoneError
from hotmend.servicing.actions import State


def taken_back(machine: Machine, about: Action, why: str, record: Callable[[AnyEvent], None]) -> Action:
    """Take an update back in memory and put it in quarantine; return the action's last line, to be written.

    Quarantine comes first, so that a killed run is known for one that takes back. Where it cannot be written memory is
    taken back all the same: a machine that is ill must not have to wait for room on its disk.

    Args:
        machine: which.
        about: the action as it stands.
        why: what is wrong.
        record: writes a line.
    """
    if unwritten := _into_quarantine(machine, about, why, record):
        why = f"{why}; not in quarantine: {unwritten}"
    pids = sorted(processes_with(about.hotpatches))
    results = revert(about.hotpatches, pids, machine.manner().apply) if pids else []
    left = [result for result in results if result.state == "refused"]
    if left:
        codes = sorted({reason.code for result in left for reason in result.reasons})
        told = ", ".join(f"{result.pid} ({result.comm})" for result in left)
        detail = f"{why}; could not be taken back in {told} [{', '.join(codes)}]: restart them"
        return msgspec.structs.replace(about, state=State.FAILED, detail=detail)
    return msgspec.structs.replace(about, state=State.ROLLED_BACK, detail=why, changed=())


def _into_quarantine(machine: Machine, about: Action, why: str, record: Callable[[AnyEvent], None]) -> str:
    """Put an update in quarantine; return why that cannot be written, or ""."""
    try:
        with changing(machine.places.quarantine):
            entries = read_quarantine(machine.places.quarantine)
            if all(entry.update != about.update for entry in entries):
                record(Quarantined(update=about.update, reason=why))
                entry = Entry(about.update, machine.clock(), why, about.brings)
                write_quarantine(machine.places.quarantine, with_entry(entries, entry))
    except (HotmendError, OSError) as error:
        return str(error)
    return ""


def processes_with(hotpatches: Iterable[str]) -> dict[int, str]:
    """Return the processes in which one of the hotpatches is active, and their names."""
    wanted = set(hotpatches)
    found: dict[int, str] = {}
    for process in processes_mapping():
        with contextlib.suppress(ProcessGoneError):
            if any(h.active and h.id in wanted for h in process_status(process.pid)):
                found[process.pid] = process.comm
    return found
