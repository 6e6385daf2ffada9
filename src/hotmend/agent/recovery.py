"""Ending what a run that was killed left behind, so that the history tells the truth.

Its last line says what it was about to do; memory and dpkg say what was done. Whatever is found is carried to a state
that can be stood by: finished where all processes have the new code and are well, taken back where they are not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from hotmend.agent.apt.held import release_restarts
from hotmend.agent.apt.installed import dpkg_query
from hotmend.agent.boot import boot_id
from hotmend.agent.census.units import unit_of
from hotmend.agent.health import crashes
from hotmend.agent.health.events import run_hooks
from hotmend.agent.health.probes import Watched, unhealthy
from hotmend.agent.machine import Machine
from hotmend.agent.memory import mapping_of
from hotmend.agent.record.history import (
    Action,
    AnyEvent,
    ChangedProcess,
    Crashed,
    DiskBegan,
    DiskEnded,
    OldProcess,
    Quarantined,
    RunBegan,
    RunEnded,
    RunState,
    Seen,
    last_actions,
    of_run,
    unfinished,
)
from hotmend.agent.record.hold import read_hold
from hotmend.agent.record.quarantine import read_quarantine
from hotmend.agent.run import Ended, Order, run, unit_probes, worst
from hotmend.agent.sources import Source
from hotmend.agent.undo import changed_with, processes_with, taken_back
from hotmend.linux.apt import at_work
from hotmend.linux.process import processes_mapping
from hotmend.live.driver import repair
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError
from hotmend.servicing.actions import State

_CUT_OFF: Final = "the run was cut off"


def recover(machine: Machine, *, in_apt: bool = False) -> RunBegan | None:
    """End the runs that were killed; return the last, or None where there is none. The caller holds `alone`.

    While a hold is in force nothing is: to end a run is to change processes.

    Args:
        machine: whose.
        in_apt: this is a hook of the apt that is at work.

    Raises:
        HotmendError: the history cannot be read or written, or apt is still at work for a run that was killed.
    """
    if read_hold(machine.places.hold, machine.clock()) is not None:
        return None
    try:
        events = machine.history.read().events
    except OSError as error:
        raise HotmendError(f"{machine.history.file}: {error.strerror or error}") from error
    begun = unfinished(events)
    if begun is None:
        return None
    if not in_apt and _began_disk(of_run(events, begun.run)) and (busy := at_work()) is not None:
        raise HotmendError(
            f"a run was cut off while apt was at work, and process {busy} is at work still", "it is waited for"
        )
    release_restarts()
    repair(None, machine.manner().apply)
    actions = last_actions(events, begun.run)
    lines = tuple(of_run(events, begun.run))
    ended = [_ended(machine, begun, actions.get(update), update, lines) for update in _updates(begun, actions)]
    warning = _disk_ended(machine, begun, lines, actions)
    if _needs_post_event(events, begun):
        machine.record(RunState(run=begun.run, state=State.POST_EVENT))
        about = {"HOTMEND_RUN": begun.run, "HOTMEND_UPDATES": " ".join(begun.updates)}
        if why := run_hooks(machine.configuration.post_event, about):
            warning = "; ".join(text for text in (warning, f"post-event: {why}") if text)
    outcome = worst(action.state for action in ended)
    if outcome is State.SUCCEEDED:
        outcome = State.SUCCEEDED_WITH_WARNINGS
    detail = "; ".join(text for text in (_CUT_OFF, warning) if text)
    machine.record(RunEnded(run=begun.run, outcome=outcome, detail=detail))
    return begun


def run_to_its_end(machine: Machine, source: Source, order: Order) -> Ended:
    """Do a run; one that cannot go on after memory was changed is ended by what memory says, if that can be written.

    Raises:
        HotmendError: as for `run`. A run that is still open is ended by the next one.
    """
    try:
        return run(machine, source, order)
    except HotmendError:
        with contextlib.suppress(HotmendError):
            recover(machine)
        raise


def _updates(begun: RunBegan, actions: Mapping[str, Action]) -> tuple[str, ...]:
    """Return what a run was about. What `upgrade` took from a channel goes by its name there, not by apt's."""
    brought = {action.brings for update, action in actions.items() if update not in begun.updates}
    return (*(u for u in begun.updates if u not in brought), *(u for u in actions if u not in begun.updates))


def _needs_post_event(events: Iterable[AnyEvent], begun: RunBegan) -> bool:
    """A pre-event that has run wants its post-event."""
    return any(isinstance(e, RunState) and e.state is State.PRE_EVENT for e in of_run(events, begun.run))


def _ended(machine: Machine, begun: RunBegan, last: Action | None, update: str, lines: Sequence[AnyEvent]) -> Action:
    """Carry one action to its end, and write it."""
    if last is not None and last.state.final:
        return last
    if last is None or not last.hotpatches:
        action = Action(run=begun.run, update=update, state=State.CANCELED, detail=f"{_CUT_OFF}; nothing was changed")
    else:
        action = _by_memory(machine, begun, last, lines)
    machine.record(action)
    return action


def _by_memory(machine: Machine, begun: RunBegan, last: Action, lines: Sequence[AnyEvent]) -> Action:
    """Return how an action ends that was changing processes."""

    def record(event: AnyEvent) -> None:
        machine.record(msgspec.structs.replace(event, run=begun.run))

    new, old = _processes(last)
    was, last = last.changed, msgspec.structs.replace(last, changed=new, old=old)
    if why := _given_up(machine, last, lines):
        return taken_back(machine, last, why, record)
    rebooted = begun.boot not in ("", boot_id())
    traps = () if rebooted else crashes.traps_since(begun.log_from, machine.kernel_log)
    if crash := crashes.crash_in_new_code(traps, (*was, *new), last.hotpatches):
        record(crash)
        return taken_back(machine, last, f"{_CUT_OFF}; {crashes.crash_text(crash)}", record)
    if not new:
        reboot = "the machine was rebooted, and " if rebooted else ""
        detail = f"{_CUT_OFF}; {reboot}no process has the new code"
        return msgspec.structs.replace(last, state=State.CANCELED, detail=detail)
    probes = (*machine.configuration.probe, *unit_probes(process.unit for process in new))
    if why := unhealthy(probes, Watched({**_watched(lines), **dict(last.watched)})):
        return taken_back(machine, last, f"{_CUT_OFF}; {why}", record)
    told = "some processes run old code" if old else "memory shows the new code"
    ended = msgspec.structs.replace(last, state=State.SUCCEEDED_WITH_WARNINGS, detail=f"{_CUT_OFF}; {told}")
    return msgspec.structs.replace(ended, cut_off=True)


def _given_up(machine: Machine, last: Action, lines: Sequence[AnyEvent]) -> str:
    """Return why an action's code was to be taken back already, or must not run here; "" where neither is so."""
    for event in lines:
        if isinstance(event, Quarantined) and event.update == last.update and not event.lifted:
            return event.reason
        if isinstance(event, Crashed) and event.ours and set(event.hotpatches) & set(last.hotpatches):
            return crashes.crash_text(event)
    names = {last.update, last.brings, last.release, *last.hotpatches} - {""}
    entries = read_quarantine(machine.places.quarantine) if last.changed else ()
    return next((f"{_CUT_OFF}; in quarantine: {e.reason}" for e in entries if e.update in names), "")


def _watched(lines: Iterable[AnyEvent]) -> dict[str, Seen]:
    """Return what the probes saw before the change."""
    found = (e for e in lines if isinstance(e, RunState) and e.state is State.PRE_EVENT)
    return next((dict(event.watched) for event in found), {})


def _processes(last: Action) -> tuple[tuple[ChangedProcess, ...], tuple[OldProcess, ...]]:
    """Return who runs the new code of an action, and who maps an old build without it."""
    with_new = processes_with(last.hotpatches)
    mapping = mapping_of(processes_mapping(), {BuildId(build) for build in last.old_builds})
    old = tuple(
        OldProcess(p.pid, p.comm, unit_of(p.pid), tuple(image.path for image in p.images), part=False)
        for p in mapping
        if p.pid not in with_new
    )
    return tuple(changed_with((p.pid for p in mapping if p.pid in with_new), last.hotpatches)), old


def _disk_ended(machine: Machine, begun: RunBegan, events: Iterable[AnyEvent], actions: Mapping[str, Action]) -> str:
    """Say what became of the disk where the package manager had been started; return what is wrong."""
    began = _began_disk(events)
    if began is None:
        return ""
    wanted = {(actions[update].brings if update in actions else "") or update for update in began.updates}
    half, there = _dpkg_state()
    error = half or ("" if wanted <= there else _CUT_OFF)
    machine.record(DiskEnded(run=begun.run, updates=began.updates, error=error))
    return f"the disk: {half}" if half else ""


def _began_disk(events: Iterable[AnyEvent]) -> DiskBegan | None:
    """Return the line by which apt was started, where none tells of its end."""
    began: DiskBegan | None = None
    for event in events:
        if isinstance(event, DiskBegan):
            began = event
        elif isinstance(event, DiskEnded):
            began = None
    return began


def _dpkg_state() -> tuple[str, frozenset[str]]:
    """Return what dpkg has not finished, "" for nothing, and all that is installed, as PACKAGE=VERSION."""
    try:
        listed = dpkg_query("--show", "--showformat=${db:Status-Abbrev}\t${Package}=${Version}\n")
    except HotmendError as error:
        return str(error), frozenset()
    rows = [(state.strip(), name) for state, _, name in (line.partition("\t") for line in listed.splitlines())]
    half = [name.partition("=")[0] for state, name in rows if state in ("iU", "iF", "iH", "iW")]
    told = f"dpkg was interrupted in {', '.join(half)}: dpkg --configure -a" if half else ""
    return told, frozenset(name for state, name in rows if state == "ii")
