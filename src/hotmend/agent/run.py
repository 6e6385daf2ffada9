"""One run: what is offered and wanted comes into memory, is watched, and comes onto the disk; or is taken back.

Each step is a line of the history before it is done (`history`), so that a run that was killed can be ended truthfully
by the next one (`recovery`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from hotmend.agent.boot import boot_id
from hotmend.agent.census.units import unit_of
from hotmend.agent.health import crashes
from hotmend.agent.health.ended import ended_together
from hotmend.agent.health.events import run_hooks
from hotmend.agent.health.probes import Probe, UnhealthyError, Watched, begin, unhealthy
from hotmend.agent.health.services import ServiceProbe, is_watched
from hotmend.agent.installing import Installing
from hotmend.agent.machine import Machine, window
from hotmend.agent.memory import Changed, Group, Memory, StillOld, all_old, change, combined
from hotmend.agent.record.history import (
    Action,
    AnyEvent,
    ChangedProcess,
    OldProcess,
    RunBegan,
    RunEnded,
    RunState,
)
from hotmend.agent.record.hold import read_hold
from hotmend.agent.record.quarantine import read_quarantine
from hotmend.agent.sources import Offer, Ready, Source
from hotmend.agent.undo import taken_back
from hotmend.agent.wanted import Trigger, wanted_now
from hotmend.linux.process import processes_mapping
from hotmend.live.driver import ProcessResult
from hotmend.live.gate import hotpatch_id
from hotmend.model.errors import HotmendError
from hotmend.model.hotpatch import Outcome
from hotmend.model.process_states import NEW_CODE
from hotmend.model.verdict import Reason
from hotmend.servicing.actions import State

_WATCH_PAUSE_SECONDS: Final = 0.5
_SYSTEMD: Final = Path("/run/systemd/system")

E = TypeVar("E", bound=AnyEvent)


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is to do.

    Attributes:
        trigger: schedule, command, or order of a server.
        anytime: outside a window too; not by schedule.
        disk: packages are installed as well.
    """

    trigger: Trigger
    anytime: bool = False
    disk: bool = True


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended.

    Attributes:
        state: `NOT_APPLICABLE`: nothing was to be done; `WAITING_WINDOW`: not now; else as in the history.
        detail: why.
        actions: last line of each action.
    """

    state: State
    detail: str = ""
    actions: tuple[Action, ...] = ()


def run(machine: Machine, source: Source, order: Order) -> Ended:
    """Do what is offered and wanted. The caller holds `alone`, and has ended what was left (`recovery.recover`).

    Raises:
        HotmendError: the offers, the quarantine or the history cannot be read or written. What had begun by then is
            left for `recovery.recover`.
    """
    now = machine.clock()
    if hold := read_hold(machine.places.hold, now):
        return Ended(State.BLOCKED, str(hold))
    until = since = None
    if not order.anytime:
        decision, since = window(machine.configuration, now)
        if not decision.allowed:
            return Ended(State.WAITING_WINDOW, str(decision.cause.message))
        until = decision.until
    offers = source.offers(processes_mapping())
    wanted = wanted_now(machine, offers, since if order.trigger is Trigger.SCHEDULE else None)
    if not wanted:
        return Ended(State.NOT_APPLICABLE, "nothing is offered that is not here, in quarantine or tried already")
    return _Run(machine, source, order, until).do(wanted)


@dataclass
class _Run:
    """A run under way."""

    machine: Machine
    source: Source
    order: Order
    until: datetime | None
    identity: str = ""
    watched: Watched | None = None
    blind: str = ""
    put_off: State | None = None
    began_change: bool = False
    log_from: int = 0
    threads: crashes.Threads = field(default_factory=dict)
    actions: dict[str, Action] = field(default_factory=dict)
    results: list[tuple[Offer, Changed]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def do(self, offers: Sequence[Offer]) -> Ended:
        """Do all of it."""
        now = self.machine.clock()
        self.identity = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        keys = tuple(offer.key for offer in offers)
        try:
            self.log_from = crashes.read_traps(0, self.machine.kernel_log)[1]
        except OSError as error:
            self.blind = f"crashes are not seen: {self.machine.kernel_log}: {error.strerror or error}"
        began = RunBegan(trigger=self.order.trigger, source=self.source.name, updates=keys, until=self.until)
        self._record(_with(began, boot=boot_id(), log_from=self.log_from))
        self._state(State.PRECHECK)
        try:
            self.watched = begin(self.machine.configuration.probe)
        except UnhealthyError as error:
            why = f"ill before anything was changed: {error}"
            self._end_all(offers, State.BLOCKED, why)
            return self._ended(why)
        self._record(RunState(state=State.PRE_EVENT, detail=self.blind, watched=tuple(self.watched.known.items())))
        if why := run_hooks(self.machine.configuration.pre_event, self._about(keys)):
            warning = f"pre-event: {why}"
            self._end_all(offers, State.BLOCKED, warning)
        else:
            warning = self._offered(offers)
        self._state(State.POST_EVENT)  # of what the pre-events did a part may be done, whichever of them failed
        why = run_hooks(self.machine.configuration.post_event, self._about(keys))
        warning = "; ".join(text for text in (warning, f"post-event: {why}" if why else "") if text)
        return self._ended(warning)

    def _offered(self, offers: Sequence[Offer]) -> str:
        """Download and do what is offered; return what went wrong."""
        self._state(State.DOWNLOADING)
        try:
            with self.source.opened(offers):
                self._all(offers)
                return self._disk()
        except HotmendError as error:
            if self.began_change:  # what memory has now is for `recovery` to say
                raise
            self._end_all(offers, State.FAILED, str(error))
            return str(error)

    # --- each action --------------------------------------------------------------------------------------

    def _all(self, offers: Sequence[Offer]) -> None:
        stopped = ""
        for offer in offers:
            if stopped:
                self._action(offer, State.CANCELED, stopped)
            elif (forbidden := self._forbidden()) is not None:
                self._action(offer, *forbidden)
            else:
                stopped = self._one(offer)

    def _forbidden(self) -> tuple[State, str] | None:
        """Return how what is not begun yet ends, and why; None where it may begin."""
        now = self.machine.clock()
        if hold := read_hold(self.machine.places.hold, now):
            return State.CANCELED, str(hold)
        if self.order.anytime or window(self.machine.configuration, now)[0].allowed:
            return None
        return State.WINDOW_EXCEEDED, "there is not enough time left in the window"

    def _one(self, offer: Offer) -> str:
        """Do one action; return why no other may follow, or ""."""
        self._action(offer, State.VERIFYING)
        groups = self.source.groups(offer, processes_mapping())
        if not groups:
            self._action(offer, State.SUCCEEDED, "nothing of it runs")
            self.results.append((offer, Changed((), (), Memory.NOT_RUNNING)))
            return ""
        readies: list[tuple[Group, Ready]] = []
        refused: list[Changed] = []
        for group in groups:
            try:
                readies.append((group, self.source.ready(offer, group)))
            except HotmendError as error:
                refused.append(Changed((), all_old(group.mapping), Memory.OLD))
                self._action(offer, State.VERIFYING, str(error))
        self.outcomes += [outcome for _, ready in readies for outcome in ready.outcomes]
        hotpatches = [hotpatch for _, ready in readies for hotpatch in ready.prepared.hotpatches]
        ids = tuple(dict.fromkeys(map(hotpatch_id, hotpatches)))
        if by_hand := set(ids) & {entry.update for entry in read_quarantine(self.machine.places.quarantine)}:
            self._action(offer, State.BLOCKED, f"taken back by hand: {', '.join(sorted(by_hand))}", ids)
            return ""
        manner = self.machine.manner()
        pids = {process.pid for group, _ in readies for process in group.mapping if not manner.spared(process.pid)}
        try:
            units = begin(unit_probes(map(unit_of, pids)))
        except UnhealthyError as error:
            self._action(offer, State.BLOCKED, f"ill before anything was changed: {error}", ids)
            return ""
        about = Action(
            update=offer.key,
            state=State.APPLYING,
            detail=self.actions[offer.key].detail,
            cves=tuple(dict.fromkeys(cve for _, ready in readies for cve in ready.cves)),
            hotpatches=ids,
            old_builds=tuple(dict.fromkeys(str(hotpatch.old_build_id) for hotpatch in hotpatches)),
            release=offer.release,
            brings=f"{offer.package}={offer.version}",
            images=tuple(dict.fromkeys(hotpatch.path for hotpatch in hotpatches)),
            new_builds=tuple(dict.fromkeys(str(hotpatch.new_build_id) for hotpatch in hotpatches)),
            watched=tuple(units.known.items()),
            file=offer.file,
        )
        self.began_change = True
        self._write(about)
        crashes.note_threads(pids, self.threads)
        changed = combined([*refused, *(change(ready.prepared, group.mapping, manner) for group, ready in readies)])
        about = _with(about, changed=tuple(changed_process(r) for r in changed.results if r.state in NEW_CODE))
        about = _with(about, old=_old(changed.still_old))
        self._write(_with(about, state=State.HEALTH_CHECK))
        if why := self._health(about):
            return self._taken_back(about, why)
        self.results.append((offer, changed))
        reasons = [reason for _, ready in readies for reason in ready.reasons]
        state, detail = _judged(reasons, changed)
        self._write(_with(about, state=state, detail="; ".join(text for text in (about.detail, detail) if text)))
        return ""

    def _health(self, about: Action) -> str:
        """Watch the machine for as long as is wanted; return what is wrong, or ""."""
        seconds = self.machine.configuration.health_seconds
        end = time.monotonic() + (seconds if about.changed else 0)
        while not (why := self._crashed(about) or self._ended_together(about, seconds)) and time.monotonic() < end:
            time.sleep(min(_WATCH_PAUSE_SECONDS, max(0.0, end - time.monotonic())))
        probes = (*self.machine.configuration.probe, *unit_probes(process.unit for process in about.changed))
        before = self.watched.known if self.watched is not None else {}
        return why or unhealthy(probes, Watched({**before, **dict(about.watched)}))

    def _ended_together(self, about: Action, seconds: float) -> str:
        return ended_together(about.changed, seconds, services=_SYSTEMD.is_dir())

    def _crashed(self, about: Action) -> str:
        if self.blind:
            return ""
        crashes.note_threads((process.pid for process in about.changed), self.threads)
        try:
            traps, _ = crashes.read_traps(self.log_from, self.machine.kernel_log)
        except OSError as error:
            return f"{self.machine.kernel_log} cannot be read any more: {error.strerror or error}"
        crash = crashes.crash_in_new_code(traps, about.changed, about.hotpatches)
        crash = crash or crashes.crash_of_changed(traps, about.changed, self.threads)
        if crash is None:
            return ""
        self._record(crash)
        return crashes.crash_text(crash)

    def _taken_back(self, about: Action, why: str) -> str:
        self._write(taken_back(self.machine, about, why, self._record))
        return f"{about.update} was taken back"

    # --- the disk -----------------------------------------------------------------------------------------

    def _disk(self) -> str:
        """Bring packages onto the disk whose part in memory is done; return what went wrong."""
        if not (self.machine.configuration.disk and self.order.disk):
            return ""
        disk = Installing(self.machine, self.source.folder, self.results, self._forbidden, self._record)
        told = disk.do(self.outcomes)
        self.put_off = disk.put_off
        return told

    # --- lines --------------------------------------------------------------------------------------------

    def _end_all(self, offers: Sequence[Offer], state: State, why: str) -> None:
        for offer in offers:
            self._action(offer, state, why)

    def _ended(self, detail: str) -> Ended:
        states = [action.state for action in self.actions.values()]
        outcome = worst(states if self.put_off is None else [*states, self.put_off])
        if outcome is State.SUCCEEDED and detail:
            outcome = State.SUCCEEDED_WITH_WARNINGS
        self._record(RunEnded(outcome=outcome, detail=detail))
        return Ended(outcome, detail, tuple(self.actions.values()))

    def _about(self, keys: Iterable[str]) -> dict[str, str]:
        return {"HOTMEND_RUN": self.identity, "HOTMEND_UPDATES": " ".join(keys)}

    def _state(self, state: State) -> None:
        self._record(RunState(state=state))

    def _action(self, offer: Offer, state: State, detail: str = "", hotpatches: tuple[str, ...] = ()) -> None:
        about = Action(update=offer.key, state=state, detail=detail, hotpatches=hotpatches)
        self._write(_with(about, release=offer.release, file=offer.file))

    def _write(self, action: Action) -> None:
        self.actions[action.update] = action
        self._record(action)

    def _record(self, event: AnyEvent) -> None:
        self.machine.record(_with(event, run=event.run or self.identity))


_BAD_FIRST: Final = (
    State.FAILED,
    State.ROLLED_BACK,
    State.BLOCKED,
    State.WINDOW_EXCEEDED,
    State.CANCELED,
    State.SUCCEEDED_WITH_WARNINGS,
)


def worst(states: Iterable[State]) -> State:
    """Return what a run with such actions amounts to."""
    found = set(states)
    return next((state for state in _BAD_FIRST if state in found), State.SUCCEEDED)


def changed_process(result: ProcessResult) -> ChangedProcess:
    """Return how the history names a process that runs new code."""
    shadows = tuple((shadow.start, shadow.end) for shadow in result.shadows)
    return ChangedProcess(result.pid, result.start_time_ticks, result.comm, unit_of(result.pid), shadows)


def unit_probes(units: Iterable[str]) -> tuple[Probe, ...]:
    """Return a probe for each service whose processes are changed: it must go on, or end as it may."""
    services = sorted({unit for unit in units if is_watched(unit)})
    return tuple(ServiceProbe(name=f"unit {unit}", unit=unit) for unit in services) if _SYSTEMD.is_dir() else ()


def _judged(reasons: Iterable[Reason], changed: Changed) -> tuple[State, str]:
    """Return how an action ends whose processes are well, and why."""
    refused = [result for result in changed.results if result.state == "refused"]
    found = dict.fromkeys((*reasons, *(reason for result in refused for reason in result.reasons)))
    told = "; ".join(f"{reason.sentence} [{reason.code}]" for reason in list(found)[:3])
    match changed.memory:
        case Memory.FIXED | Memory.SAME_CODE | Memory.NOT_RUNNING:
            return State.SUCCEEDED, ""
        case Memory.PARTLY:
            return State.SUCCEEDED_WITH_WARNINGS, told or "some processes run old code, or a part of it"
    return State.FAILED, told or "old code runs on"


def _old(processes: Iterable[StillOld]) -> tuple[OldProcess, ...]:
    return tuple(OldProcess(p.pid, p.comm, p.unit, p.images, p.part) for p in processes)


def _with(event: E, **fields: object) -> E:
    return msgspec.structs.replace(event, **fields)
