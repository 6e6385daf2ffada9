"""An update brought into running processes. `prepared` makes the hotpatches on the spot; a channel has them ready.

What cannot be changed keeps its old code until it is restarted, and is named. Processes of spared units are left alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from hotmend.agent.installed import InstalledFile, elf_files, read_installed
from hotmend.agent.later import needed_later
from hotmend.agent.pending import Pending
from hotmend.agent.units import unit_of
from hotmend.diff.options import Options as BuildOptions
from hotmend.image.deb import read_deb
from hotmend.linux.process import ProcessImages, file_build_id
from hotmend.live.driver import Options as ApplyOptions
from hotmend.live.driver import ProcessResult, apply
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError, InputError
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import Verdict
from hotmend.publisher.build import Progress, build_packages
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
        needed_later: as in `Prepared`.
    """

    pending: Pending
    update: Update | None
    error: str
    results: tuple[ProcessResult, ...]
    still_old: tuple[StillOld, ...]
    memory: Memory
    needed_later: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manner:
    """How processes are changed.

    Attributes:
        build: what is accepted and asked for in comparisons.
        apply: how each process is changed; with `dry_run` nothing is written.
        spared: processes that must not be touched; their old code is reported like any other.
        until: when to begin with nothing more, in seconds of the monotonic clock.
    """

    build: BuildOptions
    apply: ApplyOptions
    spared: Spared = lambda pid: False  # noqa: ARG005 - nobody is spared unless somebody says so
    until: float = math.inf

    def step(self, step: str, done: int, total: int) -> None:  # noqa: ARG002 - as the comparison calls it
        """Let the next step of a comparison begin; `TimeLimitError` where there is no time left for it."""
        if time.monotonic() >= self.until:
            raise TimeLimitError("there was no time left to compare it")

    @property
    def within(self) -> ApplyOptions:
        """How each process is changed in the time that is left."""
        left = max(self.until - time.monotonic(), 0.0)
        return replace(self.apply, deadline_seconds=min(self.apply.deadline_seconds, left))


class TimeLimitError(HotmendError):
    """The time for all of it is over."""


class Coverage(StrEnum):
    """How much of an image's changes its hotpatch holds."""

    WHOLE = "whole"
    PART = "part"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What may be done to processes.

    Attributes:
        hotpatches: to apply together.
        covered: every old build whose code changes, and how far its hotpatch goes.
        needed_later: symbols that files of the update need, and that images which stay in memory do not export: what
            the processes open later may not be loaded.
    """

    hotpatches: tuple[Hotpatch, ...]
    covered: Mapping[BuildId, Coverage]
    needed_later: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of the processes.

    Attributes:
        results: one for each process that was changed, or could not be.
        still_old: processes that run old code now.
        memory: in one word.
        needed_later: as in `Prepared`.
    """

    results: tuple[ProcessResult, ...]
    still_old: tuple[StillOld, ...]
    memory: Memory
    needed_later: tuple[str, ...] = ()


def _silent(one: Pending, update: Update, ready: Prepared) -> None:
    """Announce nothing."""


def in_memory(
    one: Pending,
    file: Path | None,
    running: Sequence[ProcessImages],
    manner: Manner,
    announce: Callable[[Pending, Update, Prepared], None] = _silent,
) -> PackageResult:
    """Change the processes that run code of one package.

    Args:
        one: what is waiting.
        file: its .deb; None where nothing of it is installed yet.
        running: all processes and what they map.
        manner: how.
        announce: called before any process is changed; what it raises comes through, and nothing is changed then.
    """
    nothing = PackageResult(one, None, "", (), (), Memory.NOT_RUNNING)
    if file is None:
        return nothing
    mapping: tuple[ProcessImages, ...] = ()
    try:
        files = elf_files(one.package)
        mapping = mapping_of(running, {file_build_id(Path("/", f.path)) for f in files})
        if not mapping:
            return nothing
        update = compared(one, files, file, manner.build, manner.step)
    except HotmendError as error:
        text = f"{error}; {error.hint}" if error.hint else str(error)
        memory = Memory.OLD if mapping else Memory.UNKNOWN
        return replace(nothing, error=text, still_old=all_old(mapping), memory=memory)
    ready = prepared(update, files, file)
    announce(one, update, ready)
    changed = change(ready, mapping, manner)
    return PackageResult(one, update, "", changed.results, changed.still_old, changed.memory, changed.needed_later)


def compared(
    one: Pending,
    files: Sequence[InstalledFile],
    file: Path,
    options: BuildOptions,
    progress: Progress = lambda step, done, total: None,  # noqa: ARG005 - nobody listens unless somebody says so
) -> Update:
    """Compare a package as it is installed with the update that waits.

    Args:
        one: what is waiting.
        files: the installed package's, from `elf_files`.
        file: the update's .deb.
        options: what is accepted and asked for.
        progress: called before each step.

    Raises:
        HotmendError: it cannot be done, or is none of what was waiting.
    """
    progress("reading", 0, 1)
    old = read_installed(one.package, files)
    if old.version != one.old_version:
        raise InputError(f"{one.package} {old.version} is installed, not {one.old_version}", "run it again")
    return build_packages(old, read_deb(file), progress, options)


def prepared(update: Update, installed: Iterable[InstalledFile], file: Path) -> Prepared:
    """Return what a comparison allows.

    Args:
        update: the comparison.
        installed: what was compared, from `elf_files`.
        file: the update's .deb.
    """
    covered = {
        o.old_build_id: Coverage.NONE if o.hotpatch is None else Coverage.PART if o.left else Coverage.WHOLE
        for o in update.outcomes
        if o.verdict is not Verdict.NO_CHANGE
    }
    return Prepared(update.hotpatches, covered, needed_later(installed, file) if update.hotpatches else ())


def change(ready: Prepared, mapping: Sequence[ProcessImages], manner: Manner) -> Changed:
    """Change processes.

    Args:
        ready: what may be done.
        mapping: processes with the images that are the package's, from `mapping_of`.
        manner: how.
    """
    old_builds = {hotpatch.old_build_id for hotpatch in ready.hotpatches}
    pids = [process.pid for process in mapping_of(mapping, old_builds) if not manner.spared(process.pid)]
    results = tuple(apply(ready.hotpatches, pids, manner.within)) if pids else ()
    done = {r.pid for r in results if r.state in ("applied", "unchanged", "would-apply")}
    still_old = []
    touched = False
    for process in mapping:
        images = [image for image in process.images if image.build_id in ready.covered]
        touched |= bool(images)
        left = [i for i in images if process.pid not in done or ready.covered[i.build_id] is Coverage.NONE]
        parts = [i for i in images if i not in left and ready.covered[i.build_id] is Coverage.PART]
        if left or parts:
            paths = tuple(image.path for image in left or parts)
            still_old.append(StillOld(process.pid, process.comm, unit_of(process.pid), paths, part=not left))
    memory = Memory.OLD if touched else Memory.SAME_CODE
    if touched and done:
        memory = Memory.PARTLY if still_old else Memory.FIXED
    return Changed(results, tuple(still_old), memory, ready.needed_later)


def mapping_of(running: Iterable[ProcessImages], build_ids: Container[BuildId | None]) -> tuple[ProcessImages, ...]:
    """Return the processes that map one of the builds, with just those images."""
    found = (replace(p, images=tuple(i for i in p.images if i.build_id and i.build_id in build_ids)) for p in running)
    return tuple(process for process in found if process.images)


def all_old(mapping: Iterable[ProcessImages]) -> tuple[StillOld, ...]:
    """Return that all of it is old."""
    return tuple(
        StillOld(p.pid, p.comm, unit_of(p.pid), tuple(image.path for image in p.images), part=False) for p in mapping
    )
