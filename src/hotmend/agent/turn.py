"""One turn of the agent: end what was left, look, and do what the mode allows."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import datetime

import msgspec

from hotmend import __version__
from hotmend.agent.boot import boot_id
from hotmend.agent.census.alerts import AlertCode
from hotmend.agent.census.assessment import Assessment, find_alerts, owner_text, take_assessment
from hotmend.agent.census.look import Look, look
from hotmend.agent.crashed import note_crashes, take_back_crashed
from hotmend.agent.finishing import Finished, finish
from hotmend.agent.health.probes import failing
from hotmend.agent.issues import fitting, issues_here
from hotmend.agent.machine import Machine, alone, window
from hotmend.agent.record.history import AgentBegan, Assessed, History, Lost, Waiting, Withdrawn, unless_the_same
from hotmend.agent.record.hold import read_hold
from hotmend.agent.record.lost import lost_now
from hotmend.agent.record.unfinished import leave_unfinished, unfinished
from hotmend.agent.record.withdrawn import sentences, taken, withdrawn_now
from hotmend.agent.recovery import recover, run_to_its_end
from hotmend.agent.run import Ended, Order
from hotmend.agent.sources import AptSource, ChannelUpdates, Offer, Source
from hotmend.agent.wanted import Trigger, sorted_out
from hotmend.linux.process import processes_mapping


@dataclass(frozen=True, slots=True)
class Turn:
    """What a turn did.

    Attributes:
        mode: that was in force.
        waiting: keys of updates that are offered and wanted.
        recovered: id of a run that was left and is ended now; "" for none.
        ended: how the run of this turn ended; None where the mode allows none, or none was needed.
        held: the hold in force, as a sentence; "" for none.
        finished: restarts and reboot; None where the mode allows none.
        withdrawn: updates that were taken here and are withdrawn, and why.
    """

    mode: str
    waiting: tuple[str, ...]
    recovered: str
    ended: Ended | None
    held: str
    finished: Finished | None = None
    withdrawn: tuple[Withdrawn, ...] = ()


def source_of(machine: Machine, packages: tuple[str, ...] = ()) -> Source:
    """Return where this machine's updates come from."""
    channel = machine.configuration.channel
    if channel is None or packages:
        return AptSource(machine.manner().build, machine.places, packages)
    return ChannelUpdates(channel, machine.places, machine.clock(), disk=machine.configuration.disk)


def first_start(history: History) -> datetime | None:
    """Return when the agent was first started on this machine; None: never."""
    return next((event.at for event in history.read().events if isinstance(event, AgentBegan)), None)


def note_start(machine: Machine) -> None:
    """Write that the agent was started, once for each boot."""
    boot = boot_id()
    began = [event for event in machine.history.read().events if isinstance(event, AgentBegan)]
    if not began or (began[-1].boot, began[-1].version) != (boot, __version__):
        machine.record(AgentBegan(version=__version__, mode=machine.configuration.mode, boot=boot))


def _assess(machine: Machine, source: Source, now: datetime) -> tuple[tuple[Offer, ...], Assessed, Assessment]:
    """Ask what is offered, look at the machine, and write what was seen into the history; return all three."""
    log_from = note_crashes(machine)
    offers, left_out = sorted_out(machine, source.offers(processes_mapping()))
    events = machine.history.read().events
    withdrawn = withdrawn_now(events, source.withdrawn(taken(events)))
    found = take_assessment(now=now, withdrawn=sentences(withdrawn))
    ill, lost = failing(machine.configuration.probe), lost_now(events, found.processes)
    line = assessed(found, offers, withdrawn, ill, lost, left_out)
    line = msgspec.structs.replace(line, log_from=log_from)
    if isinstance(source, ChannelUpdates):
        stands = source.standing(found)
        line = msgspec.structs.replace(line, line=stands.line.value, level=stands.level, why=stands.why)
        line = _with_issues(line, source, found, now)
    machine.record(unless_the_same(line, events))
    return offers, line, found


def _with_issues(line: Assessed, source: ChannelUpdates, found: Assessment, now: datetime) -> Assessed:
    """Return the line with the known issues that concern this machine."""
    releases, unread = source.standing_releases()
    issues = issues_here(releases, found, now.date())
    shown, left = fitting(issues)
    late = [AlertCode.ISSUE.value] * any(issue.overdue for issue in issues)
    told = [f"Known issues that concern this machine and are not shown: {left}."] * bool(left)
    return msgspec.structs.replace(line, alerts=(*line.alerts, *late), issues=shown, why=(*line.why, *unread, *told))


def assessed(
    found: Assessment,
    offers: tuple[Offer, ...],
    withdrawn: tuple[Withdrawn, ...],
    ill: tuple[str, ...] = (),
    lost: tuple[Lost, ...] = (),
    left_out: tuple[Offer, ...] = (),
) -> Assessed:
    """Return the line that says what was seen."""
    alerts = [alert.code.value for alert in find_alerts(found)]
    alerts += [AlertCode.PROBE_FAILED.value] * bool(ill) + [AlertCode.LOST.value] * bool(lost)
    return Assessed(
        waiting=tuple(offer.key for offer in offers),
        restarts=tuple(owner_text(due.owner, due.processes) for due in found.restarts),
        reboot=found.reboot,
        alerts=tuple(dict.fromkeys(alerts)),
        lost=lost,
        withdrawn=withdrawn,
        known=tuple(_known(offer) for offer in (*offers, *left_out) if offer.cves),
        ill=ill,
        left_out=tuple(offer.key for offer in left_out),
    )


def _known(offer: Offer) -> Waiting:
    return Waiting(offer.key, offer.cves, tuple(sorted(map(str, offer.builds))), f"{offer.package}={offer.version}")


def turn(machine: Machine) -> Turn:
    """Take one turn.

    Raises:
        HotmendError: another run is under way, or what is needed cannot be read, reached or written.
    """
    with alone(machine.places):
        note_start(machine)
        recovered = recover(machine)
        now = machine.clock()
        mode = machine.configuration.effective_mode(first_start(machine.history), now)
        hold = read_hold(machine.places.hold, now)
        source = source_of(machine)
        note_crashes(machine)
        if mode == "automatic" and hold is None:
            take_back_crashed(machine)
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        offers, line, found = _assess(machine, source, now)
        ended = None
        if mode == "download" and hold is None:
            source.download(offers)
        if mode == "automatic" and offers and hold is None:
            ended = run_to_its_end(machine, source, Order(Trigger.SCHEDULE))
        finished = None
        if mode == "automatic" and hold is None:
            seen = found if ended is None else None
            finished = finish(machine, installed=ended is not None and ended.state.good, seen=seen)
        _look_out(machine, began, allowed=mode == "automatic" and hold is None)
        run_id = recovered.run if recovered else ""
        return Turn(mode, line.waiting, run_id, ended, str(hold) if hold else "", finished, line.withdrawn)


def _look_out(machine: Machine, since: float, *, allowed: bool) -> None:
    """Have newcomers begin a turn where that turn may change them by itself."""
    allowed = allowed and window(machine.configuration, machine.clock())[0].allowed
    paths = unfinished(machine.history.read().events) if allowed else ()
    with contextlib.suppress(OSError):  # the next turn finds them all the same
        leave_unfinished(machine.places.unfinished, since, paths)


def assess(machine: Machine) -> Look:
    """Look at the machine now, ask what is offered, and write it into the history; nothing is changed.

    Raises:
        HotmendError: what is offered cannot be learnt, or the history not be written.
    """
    _assess(machine, source_of(machine), machine.clock())
    return look(machine.places)


def install(machine: Machine, packages: tuple[str, ...], *, anytime: bool) -> Ended:
    """Do by hand what automatic mode does by itself.

    Args:
        machine: which.
        packages: only these, from apt; all that is offered where there are none.
        anytime: outside a window too.

    Raises:
        HotmendError: as for `turn`.
    """
    with alone(machine.places):
        note_start(machine)
        recover(machine)
        return run_to_its_end(machine, source_of(machine, packages), Order(Trigger.COMMAND, anytime=anytime))
