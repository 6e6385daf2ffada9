"""One run of apt, seen from its hooks: memory before dpkg, what still runs old code after it.

Before dpkg runs, apt has the .deb files on the disk and the old files are still in their places: that is all that the
hotpatches are made from. Services of which every process runs the new code then are held back until apt is done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Final

from hotmend.agent.apt.disk import held_services
from hotmend.agent.apt.held import Holder, hold_restarts, put_back
from hotmend.agent.apt.protocol import Unpacked
from hotmend.agent.apt.same_code import keep_same_code, read_same_code
from hotmend.agent.census.assessment import Due, RunningProcess, restarts_due, take_assessment
from hotmend.agent.census.code_state import CodeState
from hotmend.agent.journal import Journal
from hotmend.agent.memory import Manner, Memory, PackageResult, in_memory
from hotmend.agent.paths import Places
from hotmend.linux import procfs
from hotmend.linux.process import processes_mapping
from hotmend.model.errors import HotmendError

_SHELLS: Final = frozenset({"sh", "dash", "bash", "busybox"})
_FIRST_PID = 1


@dataclass(frozen=True, slots=True)
class Before:
    """What was done before dpkg.

    Attributes:
        packages: of which something runs.
        held: services whose restarts are held back.
        not_held: why none could be, where some would have been; "" otherwise.
    """

    packages: tuple[PackageResult, ...]
    held: tuple[str, ...]
    not_held: str


def find_holder() -> Holder | None:
    """Return the process of apt that called this hook, through a shell or directly; None where it has gone."""
    try:
        pid = os.getppid()
        while (stat := procfs.read_stat(pid)).comm in _SHELLS and stat.ppid > _FIRST_PID:
            pid = stat.ppid
        return Holder(pid, stat.start_time_ticks) if pid > _FIRST_PID else None
    except HotmendError:
        return None


def before_dpkg(
    upgrades: Sequence[Unpacked],
    holder: Holder | None,
    manner: Manner,
    places: Places,
    journal: Journal,
    forbidden: Container[str] = (),
) -> Before:
    """Change memory for what dpkg is about to unpack, and hold back the restarts that are not needed any more.

    Args:
        upgrades: from apt.
        holder: for whose time restarts are held back; None: nothing can be.
        manner: how processes are changed.
        places: of files.
        journal: told before each change.
        forbidden: updates that no process gets, as PACKAGE=VERSION.
    """
    put_back()  # apt has the lock: what is held was held for an earlier run of dpkg
    ours = _ours(holder)
    running = [process for process in processes_mapping() if process.pid not in ours]
    nobody = replace(manner, spared=lambda pid: True)  # noqa: ARG005 - whichever it is
    journal.begin(one.pending for one in upgrades)
    results = []
    for one in upgrades:
        own = nobody if str(one.pending) in forbidden else manner
        results.append(in_memory(one.pending, one.file, running, own, journal.applying))
        journal.done(results[-1])
    journal.end()
    touched = tuple(result for result in results if result.memory is not Memory.NOT_RUNNING)
    held = held_services(((result.pending.package, result) for result in touched), manner.spared)
    not_held = _hold(held, holder)
    keep_same_code(places.same_code, [o for r in touched for update in r.updates for o in update.outcomes])
    return Before(touched, () if not_held else held, not_held)


def _ours(holder: Holder | None) -> set[int]:
    """Return the processes that end with this run: of the hook, and of apt, which forks for some of its hooks."""
    ours = {os.getpid(), os.getppid()}
    with contextlib.suppress(HotmendError):
        pid = holder.pid if holder is not None else 0
        name = procfs.read_stat(pid).comm
        while pid > _FIRST_PID and (stat := procfs.read_stat(pid)).comm == name:
            ours.add(pid)
            pid = stat.ppid
    return ours


def _hold(services: Sequence[str], holder: Holder | None) -> str:
    """Hold back restarts; return why that cannot be, or ""."""
    if not services:
        return ""
    if holder is None:
        return "apt's own process was not found"
    try:
        hold_restarts(services, holder)
    except (HotmendError, OSError) as error:
        return str(error)
    return ""


def after_dpkg(holder: Holder | None, places: Places) -> tuple[Due, ...]:
    """Hold nothing back any longer, and return whose processes run older code than the disk holds.

    Args:
        holder: the process of apt, which ends with this run, as those of the hook do.
        places: of files.
    """
    put_back()  # apt has the lock still: nobody else's dpkg is at work, whichever process of this apt held
    ours = _ours(holder)
    return restarts_due(process for process in _processes(places) if process.pid not in ours)


def units_fixed(places: Places) -> tuple[str, ...]:
    """Return the units that need no restart although their files were exchanged: something is fixed, nothing is due."""
    processes = _processes(places)
    fixed = {p.owner.unit for p in processes if any(image.state is CodeState.FIXED for image in p.images)}
    due = {p.owner.unit for p in processes if p.due}
    return tuple(sorted(unit for unit in fixed - due if unit))


def _processes(places: Places) -> tuple[RunningProcess, ...]:
    """Return all processes, without images of which a restart would only bring the same code again."""
    same = {(row.old, row.new) for row in read_same_code(places.same_code)}
    return tuple(
        replace(process, images=tuple(i for i in process.images if (i.build_id, i.disk_build_id) not in same))
        for process in take_assessment().processes
    )
