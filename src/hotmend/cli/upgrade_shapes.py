"""What `hotmend upgrade --json` prints."""

from __future__ import annotations

import msgspec

from hotmend.cli.report_shapes import NeedShape
from hotmend.cli.shapes import ReasonShape


class UpgradeProcessShape(msgspec.Struct, frozen=True):
    """A process that maps a package's code.

    Attributes:
        pid, comm: which.
        state: as `hotmend apply` has it.
        pause_us: its longest stop, microseconds.
        reasons: of a refusal, and notes.
    """

    pid: int
    comm: str
    state: str
    pause_us: float
    reasons: tuple[ReasonShape, ...]


class StillOldShape(msgspec.Struct, frozen=True):
    """A process that runs old code; `part`: only what the hotpatch leaves for the baseline is old."""

    pid: int
    comm: str
    unit: str
    images: tuple[str, ...]
    part: bool


class OriginShape(msgspec.Struct, frozen=True):
    """Where hotpatches came from where a channel was asked: which release of it; or they were made here, and why."""

    channel: str
    release: str
    why: str


class UpgradePackageShape(msgspec.Struct, frozen=True):
    """One package: versions, what became of it in memory and on disk, and what the changelog says it fixes.

    `needed_later`: symbols that its new files need of its new images, for which its services are restarted as ever.
    """

    package: str
    old_version: str
    new_version: str
    security: bool
    memory: str
    disk: str
    error: str
    cves: tuple[str, ...]
    hotpatches: tuple[OriginShape, ...]
    reasons: tuple[ReasonShape, ...]
    processes: tuple[UpgradeProcessShape, ...]
    still_old: tuple[StillOldShape, ...]
    needed_later: tuple[str, ...]


class UpgradeShape(msgspec.Struct, frozen=True):
    """The whole run.

    Attributes:
        packages: one each.
        held: services that were not restarted, because they run the new code.
        restarts: units that a restart takes to the new code.
        earlier: what takes other processes that run old code to the new, those of earlier updates.
        reboot: packages that take a reboot, and other reasons for one.
        disk_error: why the disk was not brought up to date; "" where nothing failed.
        dry_run: nothing was changed.
    """

    packages: tuple[UpgradePackageShape, ...]
    held: tuple[str, ...]
    restarts: tuple[str, ...]
    earlier: tuple[NeedShape, ...]
    reboot: tuple[str, ...]
    disk_error: str
    dry_run: bool


class AptHookShape(msgspec.Struct, frozen=True):
    """What `hotmend apt-hook` tells of itself.

    Attributes:
        on: apt calls hotmend.
        command: what it calls; "" where the hook is off.
        deadline: how long it waits at most, seconds.
        needrestart: needrestart asks what is fixed in memory.
        held: services whose restarts are held back at this moment.
    """

    on: bool
    command: str
    deadline: int
    needrestart: bool
    held: tuple[str, ...]
