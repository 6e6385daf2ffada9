"""Which code runs, and what a restart would bring: memory, hotpatch and disk of one image as one state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

_NEVER_ON_DISK = ("/memfd:", "/SYSV", "/dev/", "/tmp/", "/var/tmp/", "/run/", "/anon_hugepage", "/i915")  # noqa: S108
"""Where programs make code of their own and delete its file at once: nothing is newer there."""


class CodeState(StrEnum):
    """What runs beside what a restart would bring."""

    CURRENT = "up to date"
    FIXED = "fixed in memory and on disk"
    DISK_OLD = "fixed in memory, old on disk"
    OLD = "fixed on disk, old in memory"
    REMOVED = "no longer on disk"
    OWN = "made by the program"
    UNSEEN = "its file cannot be looked at"


@dataclass(frozen=True, slots=True)
class Patch:
    """The hotpatch whose code runs in an image.

    Attributes:
        id: `hotpatch_id`.
        new_build_id: the build whose code it brings.
        package, versions: as in the hotpatch.
        cves: that it fixes.
        applied_at: seconds since 1970, UTC.
        part: it leaves functions that changed for the baseline.
    """

    id: str
    new_build_id: str
    package: str
    versions: tuple[str, str]
    cves: tuple[str, ...]
    applied_at: float
    part: bool = False


@dataclass(frozen=True, slots=True)
class RunningImage:
    """An image as one process runs it.

    Attributes:
        path: in the process's own mount namespace.
        build_id: in memory; "" where it has none.
        deleted: the file that is mapped is no longer at its path.
        disk_path: where the file of that name is now; "" where that is not known.
        disk_build_id: of what is there; "" where it has none, None where there is no readable ELF file.
        patch: the hotpatch whose code runs; None where the image's own does.
    """

    path: str
    build_id: str
    deleted: bool
    disk_path: str
    disk_build_id: str | None
    patch: Patch | None = None

    @property
    def effective_build_id(self) -> str:
        """The build whose code runs."""
        return self.patch.new_build_id if self.patch else self.build_id

    @property
    def state(self) -> CodeState:
        """What runs beside what a restart would bring."""
        return code_state(self)

    @property
    def restart_due(self) -> bool:
        """Whether a restart brings newer code, all of it or the rest."""
        return self.state in _DUE or (self.state is CodeState.FIXED and self.patch is not None and self.patch.part)


_DUE = frozenset({CodeState.OLD, CodeState.REMOVED})


def code_state(image: RunningImage) -> CodeState:
    """Return the state of an image. What is not known to be on the disk is never taken for fixed there."""
    if not image.disk_path:
        return CodeState.UNSEEN
    if image.disk_build_id is None:
        return CodeState.OWN if image.path.startswith(_NEVER_ON_DISK) else CodeState.REMOVED
    if image.patch is not None:
        if image.disk_build_id == image.patch.new_build_id:
            return CodeState.FIXED
        return CodeState.DISK_OLD if image.disk_build_id == image.build_id else CodeState.OLD
    same = image.disk_build_id == image.build_id and not (image.deleted and not image.build_id)
    return CodeState.CURRENT if same else CodeState.OLD
