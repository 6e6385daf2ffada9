"""Which offers are wanted now: by policy, quarantine, the history, and what memory and disk have already."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from hotmend.agent.machine import Machine, baseline_window
from hotmend.agent.memory import Spared, mapping_of
from hotmend.agent.record.history import Action, AnyEvent, DiskLeft, OldProcess, RunBegan
from hotmend.agent.record.quarantine import packages_meant, read_quarantine
from hotmend.agent.sources import Offer
from hotmend.linux import procfs
from hotmend.linux.process import processes_mapping
from hotmend.live.registry import process_status
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError, ProcessGoneError
from hotmend.servicing.actions import State
from hotmend.servicing.facts import Offer as ServicingOffer
from hotmend.servicing.maintenance import Policy
from hotmend.servicing.selection import Deed, choose

_TRIED: Final = (State.FAILED, State.ROLLED_BACK, State.TIMED_OUT, State.NOT_APPLICABLE)
"""Ends after which trying again in the same window would bring the same; somebody else's try says nothing of that."""


class Trigger(StrEnum):
    """What a run was begun by."""

    SCHEDULE = "schedule"
    COMMAND = "command"
    ORDER = "order"


def wanted_now(machine: Machine, offers: Sequence[Offer], since: datetime | None) -> tuple[Offer, ...]:
    """Leave out what is in quarantine, what memory and disk have already, and what was tried since a moment."""
    return tuple(offer for offer, wanted in _missing(machine, offers, since) if wanted)


def sorted_out(machine: Machine, offers: Sequence[Offer]) -> tuple[tuple[Offer, ...], tuple[Offer, ...]]:
    """Return what is wanted of what is offered, and what is missing here and kept out by policy or quarantine."""
    missing = list(_missing(machine, offers, None))
    wanted, left_out = (tuple(o for o, is_wanted in missing if is_wanted is which) for which in (True, False))
    return wanted, left_out


def _missing(machine: Machine, offers: Sequence[Offer], since: datetime | None) -> Iterator[tuple[Offer, bool]]:
    """Yield what memory and disk do not have already, and whether it is wanted now."""
    events = machine.history.read().events
    entries = read_quarantine(machine.places.quarantine)
    kept_away = packages_meant(entries, events).keys()
    named = {entry.update for entry in entries}
    past = _Past.of(events)
    spared = machine.manner().spared
    for offer in offers:
        before = past.of_offer(offer)
        disk_waits = machine.configuration.disk and offer.pending is not None
        if offer.key in past.because and kept_away >= past.because[offer.key]:
            disk_waits = False
        good = before is not None and before.state.good
        without = without_it(before, spared) if before and good else frozenset[int]()
        if good and not disk_waits and not without:
            continue
        tried = False
        if before and since and before.at >= since and before.run not in past.by_hand:
            left = past.for_restarts.get(offer.key) == before.run
            tried = before.state in _TRIED or (
                good and would_be_the_same(machine, before, without, disk_waits=disk_waits, left=left)
            )
        names = offer.names | ({before.update, before.release, *before.hotpatches} if before else set())
        # Another release of a channel has another hotpatch, whatever version it brings; apt has the one that was ill.
        ill = names & (named if offer.release else kept_away)
        yield offer, not (tried or ill or not _is_chosen(offer, machine.configuration.maintenance))


@dataclass(frozen=True, slots=True)
class _Past:
    """What the history says of updates.

    Attributes:
        last, of_file: how each ended last, by its name and by its file in a channel.
        because: updates that were left off the disk, and the quarantined ones that apt would have brought along.
        for_restarts: updates that were left off the disk because they take a restart, and the run that left them.
        by_hand: runs of people's.
    """

    last: Mapping[str, Action]
    of_file: Mapping[str, Action]
    because: Mapping[str, frozenset[str]]
    for_restarts: Mapping[str, str]
    by_hand: frozenset[str]

    @classmethod
    def of(cls, events: Iterable[AnyEvent]) -> _Past:
        """Read it."""
        last: dict[str, Action] = {}
        of_file: dict[str, Action] = {}
        because: dict[str, frozenset[str]] = {}
        for_restarts: dict[str, str] = {}
        by_hand: set[str] = set()
        for event in events:
            if isinstance(event, RunBegan) and event.trigger not in {each.value for each in Trigger}:
                by_hand.add(event.run)
            elif isinstance(event, Action) and event.state.final:
                last[event.update] = event
                of_file[event.file] = event
            elif isinstance(event, DiskLeft) and event.because:
                because.update(dict.fromkeys(event.updates, frozenset(event.because) - {""}))
            elif isinstance(event, DiskLeft) and event.restart:
                for_restarts.update(dict.fromkeys(event.updates, event.run))
        return cls(last, of_file, because, for_restarts, frozenset(by_hand))

    def of_offer(self, offer: Offer) -> Action | None:
        """Return how it ended last.

        A channel's releases hold what those before them held: what came by one of them is here, whichever offers it.
        """
        return (self.of_file.get(offer.file) if offer.file else None) or self.last.get(offer.key)


def _is_chosen(offer: Offer, policy: Policy) -> bool:
    """Return whether the policy takes it, by the rules that hold for all machines."""
    security = offer.pending is None or offer.pending.security
    reboot = offer.pending is not None and offer.pending.is_kernel
    classification = "Security" if security else "Other"
    asked = ServicingOffer(offer.package, offer.key, classification, needs_reboot=reboot)
    return choose(asked, policy).deed is Deed.INSTALL


def without_it(action: Action, spared: Spared) -> frozenset[int]:
    """Return the processes that map an old build of an action's, do not run its new code in it, and may be touched.

    Args:
        action: which.
        spared: processes that must not be touched.
    """
    found: set[int] = set()
    for process in mapping_of(processes_mapping(), {BuildId(build) for build in action.old_builds}):
        if spared(process.pid):
            continue
        with contextlib.suppress(ProcessGoneError):
            active = {h.old_build_id for h in process_status(process.pid) if h.active and h.id in action.hotpatches}
            if {image.build_id for image in process.images} - active:
                found.add(process.pid)
    return frozenset(found)


def would_be_the_same(
    machine: Machine, before: Action, without: frozenset[int], *, disk_waits: bool, left: bool
) -> bool:
    """Return whether doing again what ended well would change nothing, in memory or on the disk.

    In memory: nobody runs old code who did not when it ended, and nobody was left out because its run was cut off. On
    the disk: its package was left because it takes a restart, restarts are not allowed now either, and all who ran old
    code are still there.

    Args:
        machine: which.
        before: how it ended.
        without: from `without_it`, now.
        disk_waits: its package is not installed, and is to be.
        left: that run left the package because it takes a restart.
    """
    if not without <= {old.pid for old in before.old} or (before.cut_off and without):
        return False
    if not disk_waits:
        return True
    configuration = machine.configuration
    may_restart = configuration.restart and baseline_window(configuration, machine.clock()).allowed
    return left and not may_restart and all(map(_is_there, before.old))


def _is_there(old: OldProcess) -> bool:
    try:
        return procfs.read_stat(old.pid).comm == old.comm
    except HotmendError:
        return False
