"""Which processes are one server: a master and the workers it forked, which are rehearsed together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from hotmend.linux import procfs
from hotmend.linux.process import ProcessImages, processes_mapping
from hotmend.model.addresses import BuildId
from hotmend.model.errors import HotmendError
from hotmend.trial.contents import OUT


@dataclass(frozen=True, slots=True)
class Group:
    """One server.

    Attributes:
        root: pid of the process all others descend from; it has the same executable.
        members: those that map an old build, with what they map of it.
    """

    root: int
    members: tuple[ProcessImages, ...]

    @property
    def pids(self) -> tuple[int, ...]:
        """Pids of the members."""
        return tuple(member.pid for member in self.members)

    @property
    def build_ids(self) -> frozenset[BuildId]:
        """Old builds that one of the members maps."""
        return frozenset(image.build_id for member in self.members for image in member.images)


def find_groups(build_ids: frozenset[BuildId], pids: Sequence[int] | None) -> tuple[Group, ...]:
    """Return the servers that map one of the builds, or of those only the processes `pids`, by the pid of the root."""
    members: dict[int, list[ProcessImages]] = {}
    for process in processes_mapping(build_ids):
        if (pids is None or process.pid in pids) and not is_in_cell(process.pid):
            members.setdefault(_find_root(process.pid), []).append(process)
    return tuple(Group(root, tuple(members[root])) for root in sorted(members))


def is_in_cell(pid: int) -> bool:
    """Tell whether a process runs in a cell: it is a stand-in, or the host of a trial, of this or another hotmend."""
    return os.path.isdir(procfs.rooted(pid, OUT))


def _find_root(pid: int) -> int:
    """Climb to parents as long as they run the same executable."""
    try:
        program = _program(pid)
        while (parent := procfs.read_stat(pid).ppid) > 1 and _program(parent) == program:
            pid = parent
    except (HotmendError, OSError):
        pass
    return pid


def _program(pid: int) -> tuple[int, int]:
    kind = os.stat(f"/proc/{pid}/exe")
    return kind.st_dev, kind.st_ino
