"""What the package manager has waiting, brought in: running processes first, then the disk.

For each package that running processes map something of, the hotpatch is made on the spot from the installed files and
the update's. What cannot be changed in memory keeps its old code until it is restarted, and is named. The disk comes
last: a failure there leaves processes that are safe already and an old file, which the next run brings up to date.
"""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from hotmend.agent.held import restarts_held
from hotmend.agent.installed import elf_files, read_installed, service_names
from hotmend.agent.pending import Pending, run_apt
from hotmend.agent.units import unit_of
from hotmend.diff.options import Options as BuildOptions
from hotmend.image.deb import read_deb
from hotmend.linux.process import ProcessImages, file_build_id, processes_mapping
from hotmend.live.driver import Options as ApplyOptions
from hotmend.live.driver import ProcessResult, apply
from hotmend.model.addresses import BuildId
from hotmend.model.errors import FetchError, HotmendError, InputError
from hotmend.model.verdict import Verdict
from hotmend.publisher import feed
from hotmend.publisher.build import Progress, build_packages
from hotmend.publisher.update import Update


class Memory(StrEnum):
    """What became of the processes that map a package's code."""

    NOT_RUNNING = "not running"
    SAME_CODE = "same code"
    FIXED = "fixed"
    PARTLY = "partly fixed"
    OLD = "old"
    UNKNOWN = "not known"


class Disk(StrEnum):
    """What became of a package's files."""

    UPDATED = "updated"
    LEFT = "left as it is"
    FAILED = "failed"


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
        memory, disk: what became of it.
    """

    pending: Pending
    update: Update | None
    error: str
    results: tuple[ProcessResult, ...]
    still_old: tuple[StillOld, ...]
    memory: Memory
    disk: Disk = Disk.LEFT


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The whole run.

    Attributes:
        packages: one result each.
        held: services whose restart was held back, because they run the new code.
        disk_error: why the package manager failed; "" where it did not.
        reboot: packages that take a reboot.
    """

    packages: tuple[PackageResult, ...]
    held: tuple[str, ...]
    disk_error: str
    reboot: tuple[str, ...]

    @property
    def still_old(self) -> tuple[StillOld, ...]:
        """All processes that run old code now."""
        return tuple(old for package in self.packages for old in package.still_old)

    @property
    def restarts(self) -> tuple[str, ...]:
        """Units that a restart takes to the new code."""
        return tuple(sorted({old.unit for old in self.still_old if old.unit}))


@dataclass(frozen=True, slots=True)
class Wish:
    """How to go about it.

    Attributes:
        build: what is accepted and asked for in comparisons.
        apply: how processes are changed; with `dry_run` nothing is written and the disk stays.
        disk: whether the disk is brought up to date.
    """

    build: BuildOptions
    apply: ApplyOptions
    disk: bool


def upgrade(pending: Sequence[Pending], wish: Wish, progress: Progress) -> Upgrade:
    """Bring in what is waiting.

    Args:
        pending: packages.
        wish: how.
        progress: called before each step.

    Raises:
        FetchError: apt cannot fetch the packages; nothing was changed then.
    """
    cache = feed.cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="upgrade-") as folder:
        progress("fetching", 0, 1)
        files = _fetch([p for p in pending if p.old_version], Path(folder))
        results, running = [], processes_mapping()
        for number, one in enumerate(pending):
            progress(f"{one.package} in memory", number, len(pending))
            results.append(_in_memory(one, files.get(one.package), running, wish))
        reboot = tuple(one.package for one in pending if one.is_kernel)
        if not wish.disk or wish.apply.dry_run:
            return Upgrade(tuple(results), (), "", reboot)
        progress("the disk", 0, 1)
        held = _held(results)
        error = _on_disk(pending, held, Path(folder))
    disk = Disk.FAILED if error else Disk.UPDATED
    running = processes_mapping()
    results = [replace(_looked_again(result, running), disk=disk) for result in results]
    return Upgrade(tuple(results), held, error, reboot)


# --- memory -----------------------------------------------------------------------------------------------


def _fetch(pending: Sequence[Pending], place: Path) -> dict[str, Path]:
    """Have apt download the packages, and return where each is. Who installs packages meanwhile is not in the way."""
    if not pending:
        return {}
    wanted = {p.package: feed.PackageVersion(p.package, p.new_version) for p in pending}
    feed.fetch_many(list(wanted.values()), place)
    found = {package: feed.find(place, version) for package, version in wanted.items()}
    if missing := [str(wanted[package]) for package, path in found.items() if path is None]:
        raise FetchError(f"apt downloaded no file for {', '.join(missing)}", "run apt-get update and try again")
    return {package: path for package, path in found.items() if path is not None}


def _in_memory(one: Pending, file: Path | None, running: Sequence[ProcessImages], wish: Wish) -> PackageResult:
    """Change the processes that run code of one package."""
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
        update = build_packages(old, read_deb(file), _silent, wish.build)
    except HotmendError as error:
        text = f"{error}; {error.hint}" if error.hint else str(error)
        memory = Memory.OLD if mapping else Memory.UNKNOWN
        return replace(nothing, error=text, still_old=_all_old(mapping), memory=memory)
    results = apply(update.hotpatches, None, wish.apply) if update.hotpatches else []
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


# --- disk -------------------------------------------------------------------------------------------------


def _held(results: Sequence[PackageResult]) -> tuple[str, ...]:
    """Return the services to leave alone: those of packages whose processes all run the new code."""
    names: dict[str, None] = {}
    for result in results:
        if result.memory is Memory.FIXED:
            names.update(dict.fromkeys(service_names(result.pending.package)))
            names.update(dict.fromkeys(unit_of(r.pid).removesuffix(".service") for r in result.results))
    old = {o.unit.removesuffix(".service") for result in results for o in result.still_old}
    return tuple(sorted(name for name in names if name and name not in old))


def _on_disk(pending: Sequence[Pending], held: Sequence[str], place: Path) -> str:
    """Have apt install the packages, those that are in `place` from there; return why it failed, or ""."""
    try:
        with restarts_held(held):
            given = ("-o", f"Dir::Cache::archives={place}", "-o", "APT::Sandbox::User=root")
            run_apt(*given, "install", *map(str, pending), environment={"NEEDRESTART_SUSPEND": "1"})
    except (HotmendError, OSError) as error:
        return str(error)
    return ""


def _looked_again(result: PackageResult, running: Sequence[ProcessImages]) -> PackageResult:
    """Leave out processes that have ended meanwhile: the package itself restarts what was not held back."""
    here = {process.pid for process in running}
    return replace(result, still_old=tuple(old for old in result.still_old if old.pid in here))
