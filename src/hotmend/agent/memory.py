"""An update brought into running processes: the hotpatch made on the spot, from the installed files and the update's.

What cannot be changed keeps its old code until it is restarted, and is named. Processes of spared units are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from hotmend.agent.installed import elf_files, read_installed
from hotmend.agent.pending import Pending
from hotmend.agent.units import unit_of
from hotmend.diff.options import Options as BuildOptions
from hotmend.image.deb import read_deb
from hotmend.linux.process import ProcessImages, file_build_id
from hotmend.live.driver import Options as ApplyOptions
from hotmend.live.driver import ProcessResult, apply
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError, InputError
from hotmend.model.verdict import Verdict
from hotmend.publisher.build import build_packages
from hotmend.publisher.update import Update

Spared = Callable[[int], bool]
"""Whether a process must not be touched, by its pid."""


class Memory(StrEnum):
    """What became of the processes that map a package's code."""

    NOT_RUNNING = "not running"
    SAME_CODE = "same code"
    FIXED = "fixed"
    PARTLY = "partly fixed"
    OLD = "old"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class StillOld:
    """A process that runs old code of a package, all of it or a part.

    Attributes:
        pid, comm, unit: which; `unit` is "" where no service manager keeps it.
        images: paths of the images concerned.
        part: only what the hotpatch leaves for the baseline is old.
    """

    pid: int
    comm: str
    unit: str
    images: tuple[str, ...]
    part: bool


@dataclass(frozen=True, slots=True)
class PackageResult:
    """One package.

    Attributes:
        pending: what was waiting.
        update: the comparison; None where nothing of it runs, or it could not be made.
        error: why it could not be made; "" where it could.
        results: one for each process that maps an image with a hotpatch.
        still_old: processes that run old code now.
        memory: what became of it.
    """

    pending: Pending
    update: Update | None
    error: str
    results: tuple[ProcessResult, ...]
    still_old: tuple[StillOld, ...]
    memory: Memory


@dataclass(frozen=True, slots=True)
class Manner:
    """How processes are changed.

    Attributes:
        build: what is accepted and asked for in comparisons.
        apply: how each process is changed; with `dry_run` nothing is written.
        spared: processes that must not be touched; their old code is reported like any other.
    """

    build: BuildOptions
    apply: ApplyOptions
    spared: Spared = lambda pid: False  # noqa: ARG005 - nobody is spared unless somebody says so


def in_memory(one: Pending, file: Path | None, running: Sequence[ProcessImages], manner: Manner) -> PackageResult:
    """Change the processes that run code of one package.

    Args:
        one: what is waiting.
        file: its .deb; None where nothing of it is installed yet.
        running: all processes and what they map.
        manner: how.
    """
    nothing = PackageResult(one, None, "", (), (), Memory.NOT_RUNNING)
    if file is None:
        return nothing
    mapping: list[ProcessImages] = []
    try:
        files = elf_files(one.package)
        mapping = _mapping(running, {file_build_id(Path("/", f.path)) for f in files})
        if not mapping:
            return nothing
        old = read_installed(one.package, files)
        if old.version != one.old_version:
            raise InputError(f"{one.package} {old.version} is installed, not {one.old_version}", "run it again")
        update = build_packages(old, read_deb(file), _silent, manner.build)
    except HotmendError as error:
        text = f"{error}; {error.hint}" if error.hint else str(error)
        memory = Memory.OLD if mapping else Memory.UNKNOWN
        return replace(nothing, error=text, still_old=_all_old(mapping), memory=memory)
    old_builds = {hotpatch.old_build_id for hotpatch in update.hotpatches}
    pids = [process.pid for process in _mapping(mapping, old_builds) if not manner.spared(process.pid)]
    results = apply(update.hotpatches, pids, manner.apply) if pids else []
    return _judged(one, update, tuple(results), mapping)


def _silent(step: str, done: int, total: int) -> None:
    """Say nothing of the steps of one comparison."""


def _mapping(running: Iterable[ProcessImages], build_ids: Container[BuildId | None]) -> list[ProcessImages]:
    """Return the processes that map one of the builds, with just those images."""
    found = (replace(p, images=tuple(i for i in p.images if i.build_id and i.build_id in build_ids)) for p in running)
    return [process for process in found if process.images]


def _all_old(mapping: Iterable[ProcessImages]) -> tuple[StillOld, ...]:
    return tuple(
        StillOld(p.pid, p.comm, unit_of(p.pid), tuple(image.path for image in p.images), part=False) for p in mapping
    )


def _judged(
    one: Pending, update: Update, results: tuple[ProcessResult, ...], mapping: Sequence[ProcessImages]
) -> PackageResult:
    """Return what is known of each process that maps an image whose code changes."""
    changed = {o.old_build_id: o for o in update.outcomes if o.verdict is not Verdict.NO_CHANGE}
    done = {r.pid for r in results if r.state in ("applied", "unchanged", "would-apply")}
    still_old = []
    touched = False
    for process in mapping:
        images = [image for image in process.images if image.build_id in changed]
        touched |= bool(images)
        left = [i for i in images if process.pid not in done or changed[i.build_id].hotpatch is None]
        parts = [i for i in images if i not in left and changed[i.build_id].left]
        if left or parts:
            paths = tuple(image.path for image in left or parts)
            still_old.append(StillOld(process.pid, process.comm, unit_of(process.pid), paths, part=not left))
    memory = Memory.OLD if touched else Memory.SAME_CODE
    if touched and done:
        memory = Memory.PARTLY if still_old else Memory.FIXED
    return PackageResult(one, update, "", results, tuple(still_old), memory)
