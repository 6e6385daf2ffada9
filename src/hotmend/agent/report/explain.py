"""What is known of one CVE, process, unit or file: fixed where, since when, by what, on what evidence; and was it us.

Memory comes first: what a process runs is read from it now. Records say how it came there. All of this is pure; what
was seen and read is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from hotmend.agent.census.assessment import OldCode, RunningProcess, owner_text, plain_name
from hotmend.agent.census.code_state import CodeState, RunningImage
from hotmend.agent.record.history import (
    Action,
    AnyEvent,
    ChangedProcess,
    Crashed,
    DiskBegan,
    DiskEnded,
    Rebooting,
    Restarted,
)
from hotmend.agent.record.withdrawn import last_withdrawn, sentences
from hotmend.agent.report.system_log import BROKEN, EXITED, FAILED, STARTED, STOPPED, CrashEvent, UnitEvent
from hotmend.agent.report.timeline import Entry
from hotmend.image.deb import version_order
from hotmend.live.chain import AuditRecord
from hotmend.model.errors import InputError

NEAR: Final = timedelta(minutes=15)
"""A change so shortly before an end may have to do with it."""
_AFTER: Final = timedelta(seconds=2)
"""The service manager's lines may be a little later than ours."""

_ENDS: Final = (BROKEN, FAILED, STOPPED, EXITED)
_CVE = re.compile(r"(?i)CVE-\d{4}-\d{4,}")


class Kind(StrEnum):
    """What is asked about."""

    CVE = "cve"
    PROCESS = "process"
    UNIT = "unit"
    FILE = "file"


class Ours(StrEnum):
    """Whether an end was hotmend's doing."""

    YES = "yes"
    POSSIBLE = "possible"
    NO = "no"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Known:
    """All that was seen and read.

    Attributes:
        processes: that run now.
        history, audit: records, oldest first.
        entries: everything that happened, of every source.
        units, crashes: of the service manager and the kernel.
        package_of: package and version that a path on the disk belongs to; "" for none.
        build_at: build-id of what is at a path of the disk; None for no program or library.
    """

    processes: tuple[RunningProcess, ...]
    history: tuple[AnyEvent, ...]
    audit: tuple[AuditRecord, ...]
    entries: tuple[Entry, ...]
    units: tuple[UnitEvent, ...]
    crashes: tuple[CrashEvent, ...]
    package_of: Callable[[str], str]
    build_at: Callable[[str], str | None] = lambda path: None  # noqa: ARG005 - nothing is taken for fixed by the disk


@dataclass(frozen=True, slots=True)
class Place:
    """One image of one process.

    Attributes:
        process, image: which.
        fixed: whether it has what was asked for.
        update, release: of the history that brought its hotpatch; "" where the history has none.
        audit_lines: numbers of lines of the audit record about its hotpatch in this process.
        withdrawn: the update and why its publisher has withdrawn it; "" where it stands.
    """

    process: RunningProcess
    image: RunningImage
    fixed: bool
    update: str
    release: str
    audit_lines: tuple[int, ...]
    withdrawn: str = ""

    @property
    def owner(self) -> str:
        """Whom the process belongs to."""
        return owner_text(self.process.owner, [OldCode(self.process.pid, self.process.comm, ())])

    @property
    def since(self) -> str:
        """When its hotpatch was placed, UTC; "" for none."""
        if self.image.patch is None:
            return ""
        return datetime.fromtimestamp(self.image.patch.applied_at, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer.

    Attributes:
        subject, kind: what was asked.
        answer: in one sentence.
        ours: whether an end was hotmend's doing; None where nothing ended.
        why: on what that rests.
        places: in memory now.
        disk: package and version of files on the disk.
        entries: of all records, oldest first.
    """

    subject: str
    kind: Kind
    answer: str
    ours: Ours | None
    why: str
    places: tuple[Place, ...]
    disk: tuple[str, ...]
    entries: tuple[Entry, ...]

    @property
    def known(self) -> bool:
        """Whether anything is known of it at all."""
        return bool(self.places or self.entries)


def kind_of(subject: str) -> Kind:
    """Return what a word on the command line means."""
    if _CVE.fullmatch(subject):
        return Kind.CVE
    if subject.isdecimal():
        return Kind.PROCESS
    return Kind.FILE if "/" in subject else Kind.UNIT


def explain(subject: str, known: Known) -> Explanation:
    """Return what is known of a CVE's id, a pid, a unit's name or a path."""
    match kind_of(subject):
        case Kind.CVE:
            return _cve(subject.upper(), known)
        case Kind.PROCESS:
            return _process(int(subject), known)
        case Kind.FILE:
            return _file(subject, known)
        case Kind.UNIT:
            return _unit(subject if "." in subject else f"{subject}.service", known)


def _place(process: RunningProcess, image: RunningImage, known: Known, *, fixed: bool) -> Place:
    """Add to an image what the records say of its hotpatch."""
    patch = image.patch
    if patch is None:
        return Place(process, image, fixed, "", "", ())
    brought = [event for event in known.history if isinstance(event, Action) and patch.id in event.hotpatches]
    last = brought[-1] if brought else None
    lines = tuple(
        record.number
        for record in known.audit
        if patch.id in record.hotpatches
        and (record.pid, record.start_time_ticks) == (process.pid, process.start_time_ticks)
    )
    withdrawn = sentences(last_withdrawn(known.history)).get(patch.id, "")
    return Place(process, image, fixed, last.update if last else "", last.release if last else "", lines, withdrawn)


def _cve(cve: str, known: Known) -> Explanation:
    """A process has it fixed where it runs a hotpatch that names it, the build of one, or a later package's."""
    actions = [event for event in known.history if isinstance(event, Action) and cve in event.cves]
    named = {
        (plain_name(image.path), image.patch.new_build_id)
        for process in known.processes
        for image in process.images
        if image.patch and cve in image.patch.cves
    } | {(plain_name(f"/{path}"), build) for a in actions for path in a.images for build in a.new_builds}
    names = {name for name, _ in named}
    # A file may have several names, and a hotpatch has one of them: what the history knows goes by builds as well.
    brings = {build for action in actions for build in action.new_builds}
    builds = brings.union(*(action.old_builds for action in actions))
    places = tuple(
        _place(process, image, known, fixed=_has(cve, image, named, brings) or _is_later(image, actions, known))
        for process in known.processes
        for image in process.images
        if plain_name(image.path) in names or image.build_id in builds
    )
    updates = {event.update for event in actions}
    entries = tuple(e for e in known.entries if e.source == "history" and any(u in e.text for u in updates))
    ours, why = _gone_from_memory(actions, places, known)
    return Explanation(cve, Kind.CVE, _cve_answer(places, actions), ours, why, places, _disk(places, known), entries)


def _has(cve: str, image: RunningImage, named: set[tuple[str, str]], brings: set[str]) -> bool:
    if image.patch is not None:
        return cve in image.patch.cves
    return image.build_id in brings or (plain_name(image.path), image.build_id) in named


def _cve_answer(places: Sequence[Place], actions: Sequence[Action]) -> str:
    brought = [action for action in actions if action.changed]
    by = f" by {brought[-1].release or brought[-1].update}" if brought else ""
    before = f"; it was in memory{by} from {brought[-1].at.isoformat(timespec='seconds')}" if brought else ""
    if not places:
        updates = sorted({action.update for action in actions})
        told = f"; the history has it in {', '.join(updates)}" if updates else ", nor does the history"
        return f"no hotpatch in memory names it{told}{before}"
    fixed = [place for place in places if place.fixed]
    memory = sum(place.image.patch is not None for place in fixed)
    count = f"all {len(places)}" if len(fixed) == len(places) else f"{len(fixed)} of {len(places)}"
    where = f"{count} places that run the code concerned"
    if memory == len(fixed) > 0:
        return f"fixed in memory in {where}"
    if memory:
        return f"fixed in {where}: {memory} in memory, {len(fixed) - memory} by a start from the fixed file"
    if fixed:
        return f"fixed on the disk, and by a start from there in {where}{before}"
    return f"fixed in {where}{before}"


def _is_later(image: RunningImage, actions: Iterable[Action], known: Known) -> bool:
    """Tell whether an image runs as the disk has it, and that is of a package no older than the one that fixed it."""
    disk = image.disk_path
    if image.patch is not None or image.state is not CodeState.CURRENT or known.build_at(disk) != image.build_id:
        return False
    package, _, version = known.package_of(disk).partition(" ")
    for action in actions:
        name, _, brings = action.brings.partition("=")
        named = plain_name(image.path) in {plain_name(f"/{path}") for path in action.images}
        if named and name == package and _at_least(version, brings):
            return True
    return False


def _at_least(version: str, brings: str) -> bool:
    try:
        return version_order(version, brings) >= 0
    except InputError:
        return False  # what is no version proves nothing


def _gone_from_memory(actions: Sequence[Action], places: Sequence[Place], known: Known) -> tuple[Ours | None, str]:
    """Tell whether it was us who ended the processes that had it in memory, where none has any more."""
    brought = [action for action in actions if action.changed and action.state.good]
    if not brought or any(place.fixed and place.image.patch for place in places):
        return None, ""
    last = brought[-1]
    now = {(process.pid, process.start_time_ticks) for process in known.processes}
    gone = [p for p in last.changed if (p.pid, p.start_time_ticks) not in now]
    if not gone:
        return None, ""
    units = {process.unit for process in gone} - {""}
    ends = [e for e in known.units if e.unit in units and e.at >= last.at and e.kind in _ENDS]
    if ends:
        return was_it_us(ends[0].at, known, unit=ends[0].unit)
    booting = [e for e in known.history if isinstance(e, Rebooting) and e.at >= last.at]
    if booting:
        return Ours.YES, f"hotmend rebooted at {booting[0].at.isoformat(timespec='seconds')}"
    return Ours.UNKNOWN, "no log has the end of the processes that had it in memory"


def _file(path: str, known: Known) -> Explanation:
    places = tuple(
        _place(process, image, known, fixed=not image.restart_due)
        for process in known.processes
        for image in process.images
        if path in (image.path, image.disk_path)
    )
    patched = sum(place.image.patch is not None for place in places)
    old = sum(not place.fixed for place in places)
    answer = f"mapped by {len(places)} processes: {patched} run new code by a hotpatch, {old} run old code"
    package = known.package_of(path)
    name = package.partition(" ")[0]
    entries = tuple(e for e in known.entries if name and e.source == "history" and f"{name}=" in e.text)
    return Explanation(path, Kind.FILE, answer, None, "", places, (package,) if package else (), entries)


def _unit(unit: str, known: Known) -> Explanation:
    processes = [process for process in known.processes if process.owner.unit == unit]
    places = _notable(processes, known)
    entries = tuple(entry for entry in known.entries if unit in entry.units or _changes(entry, processes))
    due = sum(not place.fixed for place in places)
    answer = f"{len(processes)} processes; {sum(p.image.patch is not None for p in places)} images run new code"
    answer += f" by a hotpatch, {due} run old code" if due else " by a hotpatch"
    ends = [e for e in known.units if e.unit == unit and e.kind in _ENDS]
    if not ends:
        return Explanation(unit, Kind.UNIT, answer, None, "nothing of it ended", places, _disk(places, known), entries)
    ours, why = was_it_us(ends[-1].at, known, unit=unit)
    return Explanation(unit, Kind.UNIT, answer, ours, why, places, _disk(places, known), entries)


def _changes(entry: Entry, processes: Sequence[RunningProcess]) -> bool:
    return bool(entry.pids & {process.pid for process in processes})


def _process(pid: int, known: Known) -> Explanation:
    entries = tuple(entry for entry in known.entries if pid in entry.pids)
    process = next((process for process in known.processes if process.pid == pid), None)
    if process is not None:
        places = _notable([process], known)
        answer = f"{process.comm} of {owner_text(process.owner, [OldCode(pid, process.comm, ())])} runs"
        return Explanation(str(pid), Kind.PROCESS, answer, None, "", places, _disk(places, known), entries)
    crash = next((event for event in reversed(known.crashes) if event.pid == pid), None)
    if crash is not None:
        answer = f"it is gone: {crash}"
        ours, why = _of_crash(crash, known)
        return Explanation(str(pid), Kind.PROCESS, answer, ours, why, (), (), entries)
    ours, why = was_it_us(None, known, pid=pid)
    answer = "it is gone" if entries else "there is no such process, and no record of one"
    return Explanation(str(pid), Kind.PROCESS, answer, ours, why, (), (), entries)


def _of_crash(crash: CrashEvent, known: Known) -> tuple[Ours, str]:
    """Tell whether a crash was in new code, by the ranges that were noted when it was placed."""
    for action in (event for event in known.history if isinstance(event, Action)):
        for changed in action.changed:
            if not crash.file and _inside(crash.address, changed):
                return Ours.YES, f"its address is inside new code of {', '.join(action.hotpatches)}"
    ours, why = was_it_us(crash.at, known, pid=crash.pid)
    return (Ours.NO if ours is Ours.UNKNOWN else ours), f"its address is in no new code on record; {why}"


def _inside(address: int, changed: ChangedProcess) -> bool:
    return any(start <= address < end for start, end in changed.shadows)


def was_it_us(at: datetime | None, known: Known, *, unit: str = "", pid: int = 0) -> tuple[Ours, str]:
    """Return whether hotmend had to do with an end, and on what that rests.

    Args:
        at: when it ended; None where that is not known.
        known: all records.
        unit: that ended, or whose process did.
        pid: that ended.
    """
    crashed = [e for e in known.history if isinstance(e, Crashed) and (e.pid == pid or (unit and e.unit == unit))]
    if any(event.ours and (at is None or abs(event.at - at) <= NEAR) for event in crashed):
        return Ours.YES, f"a crash in new code of {', '.join(crashed[-1].hotpatches)} is in the history"
    if unit and at is not None:
        restarts = [e for e in known.history if isinstance(e, Restarted) and e.unit == unit and _near(e.at, at)]
        if restarts:
            return Ours.YES, f"hotmend restarted it at {restarts[-1].at.isoformat(timespec='seconds')}"
    if unit and at is not None and _was_asked(at, known, unit):
        for began, done in _installed(known):
            if began.at <= at <= done.at + _AFTER:
                return Ours.YES, f"its package did, while hotmend installed {', '.join(began.updates)}"
        return (
            Ours.NO,
            "somebody had the service manager stop it; nothing of it had failed, and hotmend asked for nothing",
        )
    changes = [record for record in known.audit if _about(record, known, unit, pid)]
    if at is None:
        if changes:
            last = changes[-1]
            return (
                Ours.UNKNOWN,
                f"when it ended is not known; line {last.number} of the audit record is the last change",
            )
        return Ours.NO, "hotmend never changed it: the audit record has no line about it"
    near = [record for record in changes if _near(datetime.fromisoformat(record.at), at)]
    if near:
        lines = ", ".join(str(record.number) for record in near)
        return Ours.POSSIBLE, f"changed within {_minutes()} before it ended: lines {lines} of the audit record"
    return Ours.NO, f"no change of ours within {_minutes()} before it ended, and no crash in new code"


def _was_asked(at: datetime, known: Known, unit: str) -> bool:
    """Tell whether an end was an orderly stop: after a failure the service manager writes of a stop as well."""
    before = [event for event in known.units if event.unit == unit and event.at <= at]
    since = next((number for number in range(len(before) - 1, -1, -1) if before[number].kind == STARTED), -1)
    return {event.kind for event in before[since + 1 :]} == {STOPPED}


def _installed(known: Known) -> Iterator[tuple[DiskBegan, DiskEnded]]:
    """Yield when hotmend had packages installed."""
    began: DiskBegan | None = None
    for event in known.history:
        if isinstance(event, DiskBegan):
            began = event
        elif isinstance(event, DiskEnded) and began is not None:
            yield began, event
            began = None


def _about(record: AuditRecord, known: Known, unit: str, pid: int) -> bool:
    """Tell whether a record is about a process, or about one that the history knows of a unit."""
    if pid:
        return record.pid == pid
    return record.pid in pids_of_unit(known, unit)


def pids_of_unit(known: Known, unit: str) -> frozenset[int]:
    """Return the pids that a unit has, or had when they were changed."""
    now = {process.pid for process in known.processes if process.owner.unit == unit}
    return frozenset(now.union(*(entry.pids for entry in known.entries if unit in entry.units), set()))


def _near(change: datetime, end: datetime) -> bool:
    return timedelta(0) <= end - change <= NEAR


def _minutes() -> str:
    return f"{NEAR.total_seconds() / 60:.0f} minutes"


def _notable(processes: Iterable[RunningProcess], known: Known) -> tuple[Place, ...]:
    """Return the images that are hotpatched or old."""
    return tuple(
        _place(process, image, known, fixed=not image.restart_due)
        for process in processes
        for image in process.images
        if image.patch is not None or image.restart_due
    )


def _disk(places: Iterable[Place], known: Known) -> tuple[str, ...]:
    """Return path, package and version of what is on the disk for some images."""
    paths = sorted({place.image.disk_path for place in places if place.image.disk_path})
    return tuple(f"{path}: {known.package_of(path) or 'of no package'}" for path in paths)
