"""The report: what the agent's look, its history and the kernel say of this machine."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from hotmend import __version__
from hotmend.agent.census.alerts import AlertCode
from hotmend.agent.census.assessment import RunningProcess, owner_text
from hotmend.agent.census.code_state import CodeState, RunningImage
from hotmend.agent.census.look import Look
from hotmend.agent.machine import Machine
from hotmend.agent.record.history import Action, AnyEvent, Assessed, RunEnded, Waiting
from hotmend.agent.record.quarantine import read_quarantine
from hotmend.linux.machine_facts import machine_checks
from hotmend.linux.managers import managers
from hotmend.linux.probes import Check, Found
from hotmend.model.errors import HotmendError
from hotmend.servicing.enrollment import State as Enrollment
from hotmend.wire.report import Finding, Fixed, Managed, Notice, Prerequisite, Quarantine, Report

FINDINGS_MAX: Final = 2000
TEXTS_MAX: Final = 500
_STATES: Final = {
    CodeState.FIXED: Fixed.EVERYWHERE,
    CodeState.DISK_OLD: Fixed.IN_MEMORY,
    CodeState.OLD: Fixed.ON_DISK,
    CodeState.REMOVED: Fixed.ON_DISK,
}
_NO_CHANNEL: Final = "Only a channel has a line, and this machine follows none."
_FOUND: Final = {Found.YES: True, Found.NO: False, Found.UNKNOWN: None}


def report_of(machine: Machine, look: Look) -> Report:
    """Return what is told to the server of this look."""
    events = look.record.events
    checks = machine_checks(machine.places.state, 1)
    mode = machine.configuration.mode
    last = next((event for event in reversed(events) if isinstance(event, Assessed)), None)
    channel = machine.configuration.channel is not None
    left_out = last.left_out if last is not None else ()
    return Report(
        release=_release(machine.places.root),
        kernel=platform.release(),
        architecture=platform.machine(),
        zone=_zone(machine),
        agent=__version__,
        mode=mode,
        level=_text(last.level) if last is not None and last.level else _level(events),
        line=last.line if last is not None and channel else "unknown",
        enrollment=_enrollment(checks, mode),
        why=_texts(last.why) if last is not None and channel else (_NO_CHANNEL,),
        prerequisites=tuple(Prerequisite(c.name, _FOUND[c.found], _text(c.remedy or c.detail)) for c in checks),
        findings=tuple(findings(look.assessment.processes, events, look.assessment.waiting, left_out))[:FINDINGS_MAX],
        waiting=_texts(look.assessment.waiting),
        restarts=_texts(owner_text(due.owner, due.processes) for due in look.assessment.restarts),
        reboot=_texts(look.assessment.reboot),
        restarts_avoided=restarts_avoided(events),
        alerts=tuple(
            Notice(alert.code.value, _text(alert.sentence))
            for alert in look.alerts
            if alert.code
            is not AlertCode.ISSUE  # a server of the version before would take it for ill; `issues` has it
        )[:100],
        quarantined=tuple(
            Quarantine(_text(entry.update), _text(entry.reason)) for entry in read_quarantine(machine.places.quarantine)
        )[:TEXTS_MAX],
        held=_text(str(look.record.hold) if look.record.hold else ""),
        last_run=next(
            (_text(f"{e.outcome} {e.detail}".strip()) for e in reversed(events) if isinstance(e, RunEnded)), ""
        ),
        left_out=_texts(left_out),
        issues=last.issues if last is not None and channel else (),
        managers=tuple(Managed(name, _text(detail)) for name, detail in managers(machine.places.root).items()),
    )


def findings(
    processes: Sequence[RunningProcess],
    events: Sequence[AnyEvent],
    waiting: Sequence[str],
    left_out: Sequence[str] = (),
) -> Iterator[Finding]:
    """Yield each vulnerability in each process: by its hotpatch where it has one, else by what the history knows.

    Of an update that merely waits it is known which it fixes where its publisher says so, or where it was tried before;
    which processes have them, where its publisher says whose code it replaces. What policy or quarantine keep out is
    missing all the same; of these updates nothing is told where no vulnerability is known that they fix.

    Args:
        processes: what runs.
        events: of the history.
        waiting: updates that wait, as the last assessment has them.
        left_out: updates that are missing and kept out.
    """
    known = _known(events)
    for process in processes:
        for image in process.images:
            fixed = _STATES.get(image.state)
            if fixed is not None:
                yield from _of_image(process, image, fixed, known)
    said = _said(events)
    for update in waiting:
        yield from _of_waiting(said.get(update) or Waiting(update, (), (), update), processes)
    for update in left_out:
        if (kept_out := said.get(update)) is not None and kept_out.cves:
            yield from _of_waiting(kept_out, processes)


def _said(events: Sequence[AnyEvent]) -> dict[str, Waiting]:
    """Return what is known of updates: by the last assessment, else by what was done with them."""
    found = {
        event.update: Waiting(event.update, event.cves, (), event.brings or event.update)
        for event in events
        if isinstance(event, Action) and event.cves
    }
    last = next((event for event in reversed(events) if isinstance(event, Assessed)), None)
    return found | {each.update: each for each in (last.known if last is not None else ())}


def _of_waiting(waits: Waiting, processes: Sequence[RunningProcess]) -> Iterator[Finding]:
    """Yield what an update would fix in each process; of one that no process has any more, nothing."""
    places: list[tuple[int, str, str, str]] = [(0, "", "", "")]
    if waits.builds:
        places = [
            (process.pid, process.comm, process.owner.name if process.owner.unit else "", image.path)
            for process in processes
            for image in process.images
            if image.patch is None and image.build_id in waits.builds
        ]
    for pid, comm, unit, path in places:
        for cve in waits.cves or ("",):
            yield Finding(cve, Fixed.NOWHERE, pid, _text(comm), _text(unit), _text(path), _text(waits.brings))


def restarts_avoided(events: Sequence[AnyEvent]) -> int:
    """Return how often a unit took new code without a restart: once for each update that its processes took."""
    return sum(
        len({process.unit for process in event.changed if process.unit})
        for event in events
        if isinstance(event, Action) and event.state.good
    )


def _known(events: Sequence[AnyEvent]) -> dict[tuple[int, str], Action]:
    """Return the last update that left old code in an image of a process."""
    return {
        (old.pid, image): event
        for event in events
        if isinstance(event, Action) and event.state.final
        for old in event.old
        for image in old.images
    }


def _of_image(
    process: RunningProcess, image: RunningImage, fixed: Fixed, known: dict[tuple[int, str], Action]
) -> Iterator[Finding]:
    action = known.get((process.pid, image.path))
    cves = image.patch.cves if image.patch else action.cves if action else ()
    brings = f"{image.patch.package}={image.patch.versions[1]}" if image.patch else action.brings if action else ""
    for cve in cves or ("",):
        unit = process.owner.name if process.owner.unit else ""
        yield Finding(
            _text(cve), fixed, process.pid, _text(process.comm), _text(unit), _text(image.path), _text(brings)
        )


def _level(events: Sequence[AnyEvent]) -> str:
    done = [event for event in events if isinstance(event, Action) and event.state.good]
    return _text(next((event.release for event in reversed(done) if event.release), ""))


def _enrollment(checks: Sequence[Check], mode: str) -> str:
    if any(check.needed and check.found is Found.NO for check in checks):
        return Enrollment.ACTION_REQUIRED
    return Enrollment.ENABLED if mode == "automatic" else Enrollment.DISABLED


def _release(root: Path) -> str:
    try:
        found = platform.freedesktop_os_release() if root == Path("/") else {}
    except OSError:
        found = {}
    return _text(found.get("PRETTY_NAME", ""))


def _zone(machine: Machine) -> str:
    try:
        return machine.configuration.window_zone().key
    except HotmendError:
        return ""


def _texts(given: Sequence[str] | Iterator[str]) -> tuple[str, ...]:
    return tuple(_text(each) for each in list(given)[:TEXTS_MAX])


def _text(text: str) -> str:
    """Return at most 500 characters, without what JSON or a database cannot keep."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()[:500]
