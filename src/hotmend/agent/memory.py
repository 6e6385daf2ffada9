"""An update brought into running processes. `compared` makes the hotpatches on the spot; a channel has them ready.

What cannot be changed keeps its old code until it is restarted, and is named. Processes of spared units are left alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from hotmend.agent.apt.earlier import Earlier, find_earlier, read_earlier
from hotmend.agent.apt.installed import InstalledFile, elf_files, read_installed
from hotmend.agent.apt.later import needed_later
from hotmend.agent.apt.pending import Pending
from hotmend.agent.census.units import unit_of
from hotmend.diff.options import Options as BuildOptions
from hotmend.image.deb import read_deb
from hotmend.linux.process import ProcessImages, file_build_id
from hotmend.live.driver import Options as ApplyOptions
from hotmend.live.driver import ProcessResult, apply
from hotmend.live.gate import hotpatch_id
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError, InputError
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.process_states import NEW_CODE
from hotmend.model.verdict import Verdict
from hotmend.publisher.build import Progress, build_packages
from hotmend.publisher.update import Update

LIFT: Final = "hotmend agent quarantine shows why, and --lift takes it again"
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
class Origin:
    """Where the hotpatches for some processes came from.

    Attributes:
        channel, release: with its tier, and which of it; "" where they were made here.
        key: how the history names what came of the channel; "" for what apt offers.
        file: SHA-256 of its bundle.
        why: a channel was asked, and has none; "" otherwise.
    """

    channel: str = ""
    release: str = ""
    key: str = ""
    file: str = ""
    why: str = ""


MADE_HERE = Origin()


@dataclass(frozen=True, slots=True)
class PackageResult:
    """One package.

    Attributes:
        pending: what was waiting.
        update: the comparison, the first where there are several; None where nothing of it runs, or none could be made.
        error: why it could not be made; "" where it could.
        results: one for each process that maps an image with a hotpatch.
        still_old: processes that run old code now.
        memory: what became of it.
        needed_later: as in `Prepared`.
        origin: of the hotpatches, the first where there are several.
        parts: the same for each group of processes, where there are several.
    """

    pending: Pending
    update: Update | None
    error: str
    results: tuple[ProcessResult, ...]
    still_old: tuple[StillOld, ...]
    memory: Memory
    needed_later: tuple[str, ...] = ()
    origin: Origin = MADE_HERE
    parts: tuple[PackageResult, ...] = ()

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where its hotpatches came from."""
        return tuple(dict.fromkeys(part.origin for part in self.parts or (self,)))

    @property
    def updates(self) -> tuple[Update, ...]:
        """The comparison of each group of processes for which one could be made."""
        return tuple(part.update for part in self.parts or (self,) if part.update is not None)

    @property
    def by_key(self) -> dict[str, PackageResult]:
        """How the history names it, and what became of that: what came of a channel goes by another name."""
        found: dict[str, list[PackageResult]] = {}
        for part in self.parts or (self,):
            found.setdefault(part.origin.key or str(self.pending), []).append(part)
        return {key: _together(parts) for key, parts in found.items()}


@dataclass(frozen=True, slots=True)
class Manner:
    """How processes are changed.

    Attributes:
        build: what is accepted and asked for in comparisons.
        apply: how each process is changed; with `dry_run` nothing is written.
        spared: processes that must not be touched; their old code is reported like any other.
        kept_away: ids of hotpatches that are in quarantine: no process gets them.
        until: when to begin with nothing more, in seconds of the monotonic clock.
    """

    build: BuildOptions
    apply: ApplyOptions
    spared: Spared = lambda pid: False  # noqa: ARG005 - nobody is spared unless somebody says so
    kept_away: frozenset[str] = frozenset()
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


class QuarantinedError(HotmendError):
    """A hotpatch is kept away from this machine."""


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
        origin: of the hotpatches.
    """

    hotpatches: tuple[Hotpatch, ...]
    covered: Mapping[BuildId, Coverage]
    needed_later: tuple[str, ...] = ()
    origin: Origin = MADE_HERE


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


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that have one and the same old side; `earlier` where that is not what is installed."""

    mapping: tuple[ProcessImages, ...]
    earlier: Earlier | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """What hotpatches are wanted for.

    Attributes:
        pending: what is waiting.
        files: the installed package's, from `elf_files`.
        file: the update's .deb.
        group: the processes.
    """

    pending: Pending
    files: Sequence[InstalledFile]
    file: Path
    group: Group


Making = Callable[[Want, Manner], tuple[Update, Prepared]]
"""Where hotpatches come from. `HotmendError`: there are none, with the reason."""


def made_here(want: Want, manner: Manner) -> tuple[Update, Prepared]:
    """Make them on the spot."""
    return compared(want.pending, want.files, want.file, manner.build, manner.step, want.group.earlier)


def in_memory(
    one: Pending,
    file: Path | None,
    running: Sequence[ProcessImages],
    manner: Manner,
    announce: Callable[[Pending, Update, Prepared], None] = _silent,
    making: Making = made_here,
) -> PackageResult:
    """Change the processes that run code of one package.

    Args:
        one: what is waiting.
        file: its .deb; None where nothing of it is installed yet.
        running: all processes and what they map.
        manner: how.
        announce: called before any process is changed; what it raises comes through, and nothing is changed then.
        making: where hotpatches come from.
    """
    nothing = PackageResult(one, None, "", (), (), Memory.NOT_RUNNING)
    if file is None:
        return nothing
    try:
        files = elf_files(one.installed_name)
        groups = grouped(running, files)
    except HotmendError as error:
        return replace(nothing, error=_told(error), memory=Memory.UNKNOWN)
    parts = [_one_group(Want(one, files, file, group), manner, announce, making) for group in groups]
    return _together(parts) if parts else nothing


def grouped(running: Sequence[ProcessImages], files: Sequence[InstalledFile]) -> tuple[Group, ...]:
    """Return the processes that run code of a package, those first that run what is installed."""
    installed = {file_build_id(Path("/", file.path)) for file in files}
    earlier = find_earlier(running, files, installed)
    apart = {process.pid for group in earlier for process in group.processes}
    mapping = mapping_of((process for process in running if process.pid not in apart), installed)
    groups = tuple(Group(one.processes, one) for one in earlier)
    return (Group(mapping), *groups) if mapping else groups


def _one_group(
    want: Want, manner: Manner, announce: Callable[[Pending, Update, Prepared], None], making: Making
) -> PackageResult:
    one, mapping = want.pending, want.group.mapping
    try:
        update, ready = making(want, manner)
        if kept := manner.kept_away & {hotpatch_id(hotpatch) for hotpatch in ready.hotpatches}:
            raise QuarantinedError(f"in quarantine: {', '.join(sorted(kept))}", LIFT)
    except HotmendError as error:
        return PackageResult(one, None, _told(error), (), all_old(mapping), Memory.OLD)
    announce(one, update, ready)
    changed = change(ready, mapping, manner)
    result = PackageResult(one, update, "", changed.results, changed.still_old, changed.memory, changed.needed_later)
    return replace(result, origin=ready.origin)


def _told(error: HotmendError) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)


def _together(parts: Sequence[PackageResult]) -> PackageResult:
    """Return one result for all groups of one package."""
    if len(parts) == 1:
        return parts[0]
    return PackageResult(
        parts[0].pending,
        next((part.update for part in parts if part.update is not None), None),
        "; ".join(dict.fromkeys(part.error for part in parts if part.error)),
        tuple(result for part in parts for result in part.results),
        tuple(old for part in parts for old in part.still_old),
        _worst(part.memory for part in parts),
        tuple(sorted({name for part in parts for name in part.needed_later})),
        parts[0].origin,
        tuple(parts),
    )


def _worst(memories: Iterable[Memory]) -> Memory:
    seen = set(memories) - {Memory.SAME_CODE}
    return Memory.PARTLY if len(seen) > 1 else next(iter(seen), Memory.SAME_CODE)


def combined(parts: Sequence[Changed]) -> Changed:
    """Return what became of all groups of processes of one package."""
    return Changed(
        tuple(result for part in parts for result in part.results),
        tuple(old for part in parts for old in part.still_old),
        _worst(part.memory for part in parts),
        tuple(sorted({name for part in parts for name in part.needed_later})),
    )


def compared(
    one: Pending,
    files: Sequence[InstalledFile],
    file: Path,
    options: BuildOptions,
    progress: Progress = lambda step, done, total: None,  # noqa: ARG005 - nobody listens unless somebody says so
    earlier: Earlier | None = None,
) -> tuple[Update, Prepared]:
    """Compare a package as it is installed, or as earlier processes have it, with the update that waits.

    Args:
        one: what is waiting.
        files: the installed package's, from `elf_files`.
        file: the update's .deb.
        options: what is accepted and asked for.
        progress: called before each step.
        earlier: processes that map earlier builds, if it is for them.

    Returns:
        The comparison, and what it allows.

    Raises:
        HotmendError: it cannot be done, or is none of what was waiting.
    """
    progress("reading", 0, 1)
    old = read_installed(one.installed_name, files)
    if old.version != one.old_version:
        raise InputError(f"{one.package} {old.version} is installed, not {one.old_version}", "run it again")
    if earlier is not None:
        old = read_earlier(old, earlier)
    new = read_deb(file)
    update = build_packages(old, new, progress, options)
    missing = needed_later(old.elf_files, new.elf_files) if update.hotpatches else ()
    return update, Prepared(update.hotpatches, _covered(update), missing)


def _covered(update: Update) -> dict[BuildId, Coverage]:
    return {
        o.old_build_id: Coverage.NONE if o.hotpatch is None else Coverage.PART if o.left else Coverage.WHOLE
        for o in update.outcomes
        if o.verdict is not Verdict.NO_CHANGE
    }


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
    done = {r.pid for r in results if r.state in NEW_CODE}
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
