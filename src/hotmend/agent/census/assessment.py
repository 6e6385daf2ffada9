"""What runs in memory, what is on the disk, and what is waiting: one machine at one moment.

`take_assessment` looks; what follows from what it saw is pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from hotmend.agent.census.alerts import Alert, AlertCode
from hotmend.agent.census.code_state import CodeState, Patch, RunningImage
from hotmend.agent.census.kernel import Boot, read_boot, reboot_reasons
from hotmend.agent.census.owners import Owner, OwnerKind, owner_in
from hotmend.linux.census import Census, SeenImage, SeenProcess, take_census
from hotmend.linux.memory import ProcessMemory
from hotmend.linux.process import file_build_id, root_for_paths
from hotmend.live.gate import find_shadows_at
from hotmend.live.machine import State
from hotmend.live.registry import AppliedHotpatch, describe_shadows
from hotmend.model.errors import HotmendError

_VERSION_TAIL = re.compile(r"(\.so\.\d+)(?:\.\d+)+$")
_UNSETTLED = frozenset({State.STAGED, State.DAMAGED})


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """A process and the code it runs.

    Attributes:
        pid, comm, start_time_ticks: which.
        owner: whom it belongs to.
        images: what it maps, lowest address first.
        unsettled: ids of hotpatches in it that are half done or damaged.
    """

    pid: int
    comm: str
    start_time_ticks: int
    owner: Owner
    images: tuple[RunningImage, ...]
    unsettled: tuple[str, ...] = ()

    @property
    def due(self) -> tuple[RunningImage, ...]:
        """The images for whose code it has to be restarted."""
        return tuple(image for image in self.images if image.restart_due)


@dataclass(frozen=True, slots=True)
class OldCode:
    """One process for which something is due, and the images it is due for."""

    pid: int
    comm: str
    images: tuple[RunningImage, ...]


@dataclass(frozen=True, slots=True)
class Due:
    """Whose processes have to be restarted.

    Attributes:
        owner: of all of them.
        processes: sorted by pid.
    """

    owner: Owner
    processes: tuple[OldCode, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The images, each once."""
        return tuple(sorted({image.path for process in self.processes for image in process.images}))


@dataclass(frozen=True, slots=True)
class Assessment:
    """One machine at one moment.

    Attributes:
        at: when it was looked at, UTC.
        processes: sorted by pid.
        unseen: pids that this user may not look at.
        boot: kernels, and who asks for a reboot.
        waiting: updates that are offered, as PACKAGE=VERSION or a release's id.
        withdrawn: what to tell of hotpatches whose publisher has withdrawn them, by their ids.
    """

    at: datetime
    processes: tuple[RunningProcess, ...]
    unseen: tuple[int, ...]
    boot: Boot
    waiting: tuple[str, ...] = ()
    withdrawn: Mapping[str, str] = field(default_factory=dict)

    @property
    def restarts(self) -> tuple[Due, ...]:
        """Whose processes have to be restarted, by owner."""
        return restarts_due(self.processes)

    @property
    def reboot(self) -> tuple[str, ...]:
        """Why a reboot is due, a sentence each."""
        return reboot_reasons(self.boot)

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """What is not as it should be."""
        return tuple(find_alerts(self))

    @property
    def cves(self) -> tuple[str, ...]:
        """What is fixed in memory in every process that runs the image concerned, sorted."""
        return fixed_everywhere(self.processes)


def restarts_due(processes: Iterable[RunningProcess]) -> tuple[Due, ...]:
    """Return whose processes have to be restarted, and for what."""
    found: dict[Owner, list[OldCode]] = {}
    for process in processes:
        if images := process.due:
            found.setdefault(process.owner, []).append(OldCode(process.pid, process.comm, images))
    order = sorted(found, key=lambda owner: (owner.kind, owner.name, owner.user_id or 0))
    return tuple(Due(owner, tuple(sorted(found[owner], key=lambda old: old.pid))) for owner in order)


def fixed_everywhere(processes: Iterable[RunningProcess]) -> tuple[str, ...]:
    """Return the CVEs of active hotpatches that every process which runs a file of that name has fixed, sorted.

    It has where it runs that hotpatch, or the build that the hotpatch brings; any other build counts as not fixed.
    """
    running: dict[str, list[RunningImage]] = {}
    for process in processes:
        for image in process.images:
            running.setdefault(plain_name(image.path), []).append(image)
    fixed: set[str] = set()
    missing: set[str] = set()
    for images in running.values():
        brought: dict[str, set[str]] = {}
        for patch in {image.patch for image in images if image.patch}:
            brought.setdefault(patch.new_build_id, set()).update(patch.cves)
        if brought:
            named: set[str] = set().union(*brought.values())
            fixed |= named
            for image in images:
                own = set(image.patch.cves) if image.patch else brought.get(image.build_id, set())
                missing |= named - own
    return tuple(sorted(fixed - missing))


def plain_name(path: str) -> str:
    """Return a file's name without what changes with each version: `libexpat.so.1` for `libexpat.so.1.8.10`."""
    return _VERSION_TAIL.sub(r"\1", path.rpartition("/")[2])


def find_alerts(assessment: Assessment) -> Iterable[Alert]:
    """Yield what is not as it should be."""
    states: dict[CodeState, list[tuple[RunningProcess, RunningImage]]] = {}
    for process in assessment.processes:
        for image in process.images:
            states.setdefault(image.state, []).append((process, image))
    if pairs := states.get(CodeState.DISK_OLD):
        subjects = tuple(sorted({f"{image.disk_path} ({process.comm})" for process, image in pairs}))
        yield Alert(AlertCode.DISK_OLD, "a restart would bring old code back: the fix is in memory alone", subjects)
    if due := assessment.restarts:
        subjects = tuple(owner_text(each.owner, each.processes) for each in due)
        yield Alert(AlertCode.RESTART_DUE, "old code runs until these are restarted", subjects)
    if reasons := assessment.reboot:
        yield Alert(AlertCode.REBOOT_DUE, "a reboot is due", reasons)
    if unsettled := [f"{p.comm} ({p.pid}): {', '.join(p.unsettled)}" for p in assessment.processes if p.unsettled]:
        yield Alert(AlertCode.UNSETTLED, "hotpatches are half done or damaged: hotmend repair", tuple(unsettled))
    if gone := tuple(_withdrawn(assessment)):
        yield Alert(AlertCode.WITHDRAWN, "code runs whose publisher has withdrawn it", gone)
    blind = [f"{process.comm} ({process.pid})" for process, _ in states.get(CodeState.UNSEEN, ())]
    if assessment.unseen or blind:
        subjects = (*map(str, assessment.unseen), *dict.fromkeys(blind))
        yield Alert(AlertCode.UNSEEN, "these processes, or their files, could not be looked at", subjects)
    if assessment.waiting:
        yield Alert(AlertCode.WAITING, "updates are waiting", assessment.waiting)


def _withdrawn(assessment: Assessment) -> Iterable[str]:
    """Yield a line for each process and hotpatch."""
    for process in assessment.processes:
        ids = dict.fromkeys(image.patch.id for image in process.images if image.patch)
        for told in dict.fromkeys(assessment.withdrawn[one] for one in ids if one in assessment.withdrawn):
            yield f"{process.comm} ({process.pid}): {told}"


def owner_text(owner: Owner, processes: Sequence[OldCode] = ()) -> str:
    """Return an owner for people; processes without one are named themselves."""
    if owner.kind is OwnerKind.NONE:
        return ", ".join(f"{process.comm} ({process.pid})" for process in processes)
    if owner.unit:
        return owner.name
    user = f" of user {owner.user_id}" if owner.user_id is not None else ""
    return f"{owner.kind} {owner.name}".rstrip() + user


def take_assessment(
    waiting: Sequence[str] = (), now: datetime | None = None, withdrawn: Mapping[str, str] | None = None
) -> Assessment:
    """Look at the machine.

    Args:
        waiting: what is offered; nothing is asked here.
        now: the moment to write into it; the clock's by default.
        withdrawn: what to tell of withdrawn hotpatches, by their ids.
    """
    seen: Census = take_census()
    processes = tuple(_running(process) for process in seen.processes)
    return Assessment(now or datetime.now(UTC), processes, seen.unseen, read_boot(), tuple(waiting), withdrawn or {})


def _running(process: SeenProcess) -> RunningProcess:
    """Add what hotmend placed in a process."""
    applied = _applied(process)
    known = {(hotpatch.old_build_id, hotpatch.bias): hotpatch for hotpatch in applied}
    known |= {(hotpatch.old_build_id, hotpatch.bias): hotpatch for hotpatch in applied if hotpatch.active}
    images = tuple(_image(process.pid, image, known.get((image.build_id, image.bias))) for image in process.images)
    owner = owner_in(process.cgroup, contained=not process.namespaces[0])
    unsettled = tuple(hotpatch.id for hotpatch in applied if hotpatch.state in _UNSETTLED)
    return RunningProcess(process.pid, process.comm, process.start_time_ticks, owner, images, unsettled)


def _image(pid: int, seen: SeenImage, hotpatch: AppliedHotpatch | None) -> RunningImage:
    """Return an image with the hotpatch that is active on it.

    A file that was mounted by itself (`ExecPaths=`) loses its path when it is replaced; a hotpatch knows which it was.
    """
    disk_path, disk_build_id = seen.disk_path, seen.disk_build_id
    if hotpatch is not None and seen.deleted and disk_build_id is None:
        disk_path = f"/{hotpatch.path}"
        disk_build_id = file_build_id(Path(disk_path), root_for_paths(pid))
    patch = _patch(hotpatch) if hotpatch is not None and hotpatch.active else None
    return RunningImage(seen.path, seen.build_id, seen.deleted, disk_path, disk_build_id, patch)


def _applied(process: SeenProcess) -> list[AppliedHotpatch]:
    """Return the hotpatches of a process; none where it has ended meanwhile."""
    if not process.hidden:
        return []
    try:
        with ProcessMemory(process.pid) as memory:
            shadows = find_shadows_at(memory, process.hidden)
            here = {(image.build_id, image.bias) for image in process.images}
            return describe_shadows(memory, shadows, process.comm, here) if shadows else []
    except HotmendError:
        return []


def _patch(hotpatch: AppliedHotpatch) -> Patch:
    return Patch(
        hotpatch.id,
        hotpatch.new_build_id,
        hotpatch.package,
        hotpatch.versions,
        hotpatch.cves,
        hotpatch.applied_at,
        hotpatch.part,
    )
