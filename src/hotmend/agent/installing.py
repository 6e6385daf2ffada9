"""The disk part of a run: packages whose part in memory is done, installed by the machine's own apt, or left and why.

What would restart a service where nobody may, or bring an update in quarantine, is left out before apt is started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hotmend.agent.apt.disk import all_fixed, held_services, install, never_services, without_forbidden
from hotmend.agent.apt.installed import elf_files
from hotmend.agent.apt.later import needed_text
from hotmend.agent.apt.pending import Pending, brought_by
from hotmend.agent.apt.same_code import keep_same_code
from hotmend.agent.machine import Machine, baseline_window
from hotmend.agent.memory import Changed, Memory, Spared, grouped
from hotmend.agent.record.history import AnyEvent, DiskBegan, DiskEnded, DiskLeft
from hotmend.agent.record.quarantine import packages_meant, read_quarantine
from hotmend.agent.sources import Offer
from hotmend.linux.process import processes_mapping
from hotmend.model.hotpatch import Outcome
from hotmend.servicing.actions import State


@dataclass
class Installing:
    """What a run brings onto the disk.

    Attributes:
        machine: whose disk.
        folder: where its packages are.
        results: each offer, and what became of it in memory.
        forbidden: returns how what is not begun yet ends, and why; None where it may begin.
        record: writes a line into the history.
        put_off: how what was left for another time ends; None where nothing was.
    """

    machine: Machine
    folder: Path
    results: Sequence[tuple[Offer, Changed]]
    forbidden: Callable[[], tuple[State, str] | None]
    record: Callable[[AnyEvent], None]
    put_off: State | None = field(default=None, init=False)

    def do(self, outcomes: Iterable[Outcome]) -> str:
        """Bring packages onto the disk; return what went wrong, or was left and why.

        Args:
            outcomes: of the images, whose equal code is remembered where the packages are installed.
        """
        done = [(offer, changed) for offer, changed in self.results if offer.pending is not None]
        if not done:
            return ""
        if why := self._put_off(done):
            return why
        configuration = self.machine.configuration
        restart = configuration.restart and baseline_window(configuration, self.machine.clock()).allowed
        due = {} if restart else self._due(done)
        pending = [o.pending for o, _ in done if o.pending is not None and str(o.pending) not in due]
        poison = self._poison()
        if poison:
            pending = self._without(pending, poison)
        may = {*map(str, pending), *due}
        if due:
            pending = list(without_forbidden(pending, due))
        unproven = self._unproven(pending) if pending and not restart else frozenset[str]()
        if unproven:
            pending = list(without_forbidden(pending, unproven))
        left = [offer for offer, _ in done if str(offer.pending) in may and offer.pending not in pending]
        warning = self._left_for_restarts(left, due, unproven)
        if not pending:
            return warning
        chosen = [(offer, changed) for offer, changed in done if offer.pending in pending]
        if why := self._put_off(chosen):
            return "; ".join(text for text in (warning, why) if text)
        error = self._install(pending, chosen)
        if not error:
            keep_same_code(self.machine.places.same_code, outcomes)
        return f"the disk was not brought up to date: {error}" if error else warning

    def _install(self, pending: Sequence[Pending], chosen: Sequence[tuple[Offer, Changed]]) -> str:
        """Have apt install, with the restarts held back that nobody needs; return why it failed, or ""."""
        results = [(offer.package, changed) for offer, changed in chosen]
        never = never_services(results, self.machine.manner().spared)
        held = tuple(sorted({*held_services(results, self.machine.manner().spared), *never}))
        updates = tuple(offer.key for offer, _ in chosen)
        self.record(DiskBegan(updates=updates, held=held))
        error = install(pending, held, self.folder)
        self.record(DiskEnded(updates=updates, error=error))
        return error

    def _due(self, done: Iterable[tuple[Offer, Changed]]) -> dict[str, str]:
        """Return the updates that take a restart, as PACKAGE=VERSION, and how people are told of each."""
        spared = self.machine.manner().spared
        takes = [(offer, changed.needed_later) for offer, changed in done if not _needs_no_restart(changed, spared)]
        return {str(o.pending): f"{o.package} ({needed_text(later)})" if later else o.package for o, later in takes}

    def _left_for_restarts(self, left: Sequence[Offer], due: Mapping[str, str], unproven: Iterable[str]) -> str:
        """Note what is left because it takes restarts that are not wanted now; return why, or ""."""
        if not left:
            return ""
        whys = [f"it takes a restart: {', '.join(due.values())}"] if due else []
        if names := ", ".join(sorted(unproven)):
            whys.append(f"what comes with it runs and was not changed: {names}")
        self.record(DiskLeft(updates=tuple(o.key for o in left), because=(), why="; ".join(whys), restart=True))
        return "; ".join(f"not installed, because {why}" for why in whys)

    def _put_off(self, done: Iterable[tuple[Offer, Changed]]) -> str:
        """Leave the disk for another time where nothing may be begun any more; return why, or ""."""
        forbidden = self.forbidden()
        if forbidden is None:
            return ""
        self.put_off, why = forbidden
        self.record(DiskLeft(updates=tuple(offer.key for offer, _ in done), because=(), why=why))
        return f"not installed: {why}"

    def _poison(self) -> set[str]:
        """Return what must not come onto the disk, as PACKAGE=VERSION."""
        entries = read_quarantine(self.machine.places.quarantine)
        events = self.machine.history.read().events if entries else ()
        return {name for name in packages_meant(entries, events) if "=" in name}

    def _without(self, pending: list[Pending], poison: set[str]) -> list[Pending]:
        """Leave out what would bring an update in quarantine, and note it: it is looked at again when that changes."""
        allowed = list(without_forbidden(pending, poison))
        kept = [one for one in pending if one not in allowed]
        if kept:
            keys = tuple(offer.key for offer, _ in self.results if offer.pending in kept)
            self.record(DiskLeft(updates=keys, because=tuple(sorted(poison))))
        return allowed

    def _unproven(self, pending: Sequence[Pending]) -> frozenset[str]:
        """Return updates that would come along, whose old code runs, and of which this run has shown nothing.

        One that was tried already, is excluded, or was not asked for: its package would restart what nobody may.
        """
        seen = {str(offer.pending) for offer, _ in self.results}
        along = [one for one in brought_by(*pending) if one.old_version and str(one) not in seen]
        running = processes_mapping() if along else ()
        return frozenset(str(one) for one in along if grouped(running, elf_files(one.installed_name)))


def _needs_no_restart(changed: Changed, spared: Spared) -> bool:
    """Return whether a package may be installed and none of its services restarted."""
    nothing_old = changed.memory in (Memory.SAME_CODE, Memory.NOT_RUNNING) or all_fixed(changed, spared)
    return nothing_old and not changed.needed_later
