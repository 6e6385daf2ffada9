"""What the package manager has waiting, brought in: running processes first, then the disk.

For each package that running processes map something of, those that apt brings along too, the hotpatch is made on the
spot from the installed files and the update's, or is a channel's (`ready_made`). What cannot be changed in memory keeps
its old code until it is restarted, and is named. The disk comes last: a failure there leaves processes that are safe
already and an old file, which the next run brings up to date.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from hotmend.agent.apt.disk import fetch, held_services, install, never_services
from hotmend.agent.apt.pending import Pending, brought_by
from hotmend.agent.apt.same_code import keep_same_code
from hotmend.agent.journal import Journal
from hotmend.agent.machine import Machine
from hotmend.agent.memory import Making, Manner, PackageResult, QuarantinedError, StillOld, in_memory, made_here
from hotmend.agent.paths import Places
from hotmend.agent.record.quarantine import packages_meant, read_quarantine
from hotmend.linux.process import ProcessImages, processes_mapping
from hotmend.publisher import feed
from hotmend.publisher.build import Progress


class Disk(StrEnum):
    """What became of a package's files."""

    UPDATED = "updated"
    LEFT = "left as it is"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The whole run.

    Attributes:
        packages: one result each.
        held: services whose restart was held back, because they run the new code.
        disk: what became of the files.
        disk_error: why the package manager failed; "" where it did not.
        reboot: packages that take a reboot.
    """

    packages: tuple[PackageResult, ...]
    held: tuple[str, ...]
    disk: Disk
    disk_error: str
    reboot: tuple[str, ...]

    @property
    def still_old(self) -> tuple[StillOld, ...]:
        """All processes that run old code now."""
        return tuple(old for package in self.packages for old in package.still_old)

    @property
    def restarts(self) -> tuple[str, ...]:
        """Units that a restart takes to the new code."""
        return tuple(sorted({old.unit for old in self.still_old if old.unit}))


@dataclass(frozen=True, slots=True)
class Wish:
    """How to go about it.

    Attributes:
        memory: how processes are changed; in a dry run the disk stays too.
        disk: whether the disk is brought up to date.
        making: where hotpatches come from.
    """

    memory: Manner
    disk: bool
    making: Making = made_here


def upgrade(pending: Sequence[Pending], wish: Wish, progress: Progress, journal: Journal) -> Upgrade:
    """Bring in what is waiting.

    Args:
        pending: packages.
        wish: how.
        progress: called before each step.
        journal: told before each step.

    Raises:
        FetchError: apt cannot fetch the packages; nothing was changed then.
    """
    if wish.disk:
        pending = with_company(pending)
    cache = feed.cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="upgrade-") as folder:
        progress("fetching", 0, 1)
        files = fetch([p for p in pending if p.old_version], Path(folder))
        journal.begin(pending)
        results, running = [], [process for process in processes_mapping() if process.pid != os.getpid()]
        for number, one in enumerate(pending):
            progress(f"{one.package} in memory", number, len(pending))
            results.append(in_memory(one, files.get(one.package), running, wish.memory, journal.applying, wish.making))
            journal.done(results[-1])
        if not wish.memory.apply.dry_run:
            outcomes = [o for result in results for update in result.updates for o in update.outcomes]
            keep_same_code(Places().same_code, outcomes)
        reboot = tuple(one.package for one in pending if one.is_kernel)
        if not wish.disk or wish.memory.apply.dry_run:
            journal.end()
            return Upgrade(tuple(results), (), Disk.LEFT, "", reboot)
        progress("the disk", 0, 1)
        named = [(result.pending.package, result) for result in results]
        held = tuple(sorted({*held_services(named, wish.memory.spared), *never_services(named, wish.memory.spared)}))
        journal.disk(pending, held)
        error = install(pending, held, Path(folder))
        journal.disk_done(pending, error)
        journal.end(error)
    running = processes_mapping()
    results = [_looked_again(result, running) for result in results]
    return Upgrade(tuple(results), held, Disk.FAILED if error else Disk.UPDATED, error, reboot)


def unless_kept_away(machine: Machine, pending: Sequence[Pending], *, disk: bool) -> frozenset[str]:
    """Return the ids of hotpatches that are in quarantine; whoever asks for a package that is there is told why.

    Args:
        machine: whose quarantine.
        pending: packages.
        disk: what apt brings along counts, too.

    Raises:
        QuarantinedError: one of them is in quarantine.
        InputError: the quarantine cannot be read.
        OSError: the history cannot.
        FetchError: apt cannot say what it brings along.
    """
    entries = read_quarantine(machine.places.quarantine)
    if not entries:
        return frozenset()
    meant = packages_meant(entries, machine.history.read().events)
    kept = [name for name in map(str, with_company(pending) if disk else pending) if name in meant]
    if kept:
        by = dict.fromkeys(entry for name in kept for entry in meant[name])
        told = [f"{name} is in quarantine: {', '.join({e.reason: None for e in meant[name]})}" for name in kept]
        lift = " && ".join(f"hotmend agent quarantine --lift {entry.update}" for entry in by)
        raise QuarantinedError("; ".join(told), f"name other packages, or take it again: {lift}")
    return frozenset(entry.update for entry in entries)


def with_company(pending: Sequence[Pending]) -> tuple[Pending, ...]:
    """Return updates with those that apt brings along: they reach the disk too, and restart what runs their old code.

    Raises:
        FetchError: apt cannot say.
    """
    named = {one.package for one in pending}
    return (*pending, *(one for one in brought_by(*pending) if one.package not in named))


def _looked_again(result: PackageResult, running: Sequence[ProcessImages]) -> PackageResult:
    """Leave out processes that have ended meanwhile: the package itself restarts what was not held back."""
    here = {process.pid for process in running}
    return replace(result, still_old=tuple(old for old in result.still_old if old.pid in here))
