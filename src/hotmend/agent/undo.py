"""Taking an update back from memory, and keeping it away from this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from hotmend.agent.census.units import unit_of
from hotmend.agent.machine import Machine
from hotmend.agent.record.history import Action, AnyEvent, ChangedProcess
from hotmend.agent.record.quarantine import Entry, put_in
from hotmend.linux import procfs
from hotmend.linux.process import processes_mapping
from hotmend.live.driver import ProcessResult, revert
from hotmend.live.registry import process_status
from hotmend.model.errors import HotmendError, ProcessGoneError
from hotmend.servicing.actions import State

_LOOKS_MAX: Final = 5


def taken_back(machine: Machine, about: Action, why: str, record: Callable[[AnyEvent], None]) -> Action:
    """Take an update back in memory and put it in quarantine; return the action's last line, to be written.

    Quarantine comes first, so that a killed run is known for one that takes back. Where it cannot be written memory is
    taken back all the same: a machine that is ill must not have to wait for room on its disk.

    Processes fork while they are taken back, so they are looked for until there are none.

    Args:
        machine: which.
        about: the action as it stands.
        why: what is wrong.
        record: writes a line.
    """
    if unwritten := _into_quarantine(machine, about, why, record):
        why = f"{why}; not in quarantine: {unwritten}"
    refused: dict[int, ProcessResult] = {}
    for _ in range(_LOOKS_MAX):
        pids = sorted(processes_with(about.hotpatches).keys() - refused.keys())
        if not pids:
            break
        results = revert(about.hotpatches, pids, machine.manner().apply)
        refused |= {result.pid: result for result in results if result.state == "refused"}
    left = tuple(changed_with(processes_with(about.hotpatches), about.hotpatches))
    if left:
        codes = sorted({reason.code for each in left if each.pid in refused for reason in refused[each.pid].reasons})
        told = ", ".join(f"{each.pid} ({each.comm})" for each in left) + (f" [{', '.join(codes)}]" if codes else "")
        detail = f"{why}; could not be taken back in {told}: restart them"
        return msgspec.structs.replace(about, state=State.FAILED, detail=detail, changed=left)
    return msgspec.structs.replace(about, state=State.ROLLED_BACK, detail=why, changed=())


def _into_quarantine(machine: Machine, about: Action, why: str, record: Callable[[AnyEvent], None]) -> str:
    """Put an update in quarantine; return why that cannot be written, or ""."""
    try:
        put_in(machine.places.quarantine, [Entry(about.update, machine.clock(), why, about.brings)], record)
    except (HotmendError, OSError) as error:
        return str(error)
    return ""


def changed_with(pids: Iterable[int], hotpatches: Iterable[str]) -> Iterator[ChangedProcess]:
    """Yield how the history names processes that have one of the hotpatches, without those that are gone."""
    wanted = set(hotpatches)
    for pid in pids:
        with contextlib.suppress(ProcessGoneError):
            stat = procfs.read_stat(pid)
            shadows = tuple((h.header, h.header + h.bytes_mapped) for h in process_status(pid) if h.id in wanted)
            yield ChangedProcess(pid, stat.start_time_ticks, stat.comm, unit_of(pid), shadows)


def processes_with(hotpatches: Iterable[str]) -> dict[int, str]:
    """Return the processes in which one of the hotpatches is active, and their names."""
    wanted = set(hotpatches)
    found: dict[int, str] = {}
    for process in processes_mapping():
        with contextlib.suppress(ProcessGoneError):
            if any(h.active and h.id in wanted for h in process_status(process.pid)):
                found[process.pid] = process.comm
    return found
