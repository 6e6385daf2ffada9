"""Whether a process's control groups let it have more memory (`MemoryMax=`; versions 1 and 2).

Pages that a patcher writes in a process are charged to that process's group. Where the group is at its limit and gives
back nothing, the kernel kills in it: most likely the process. Swap is not counted on, nor half of the file pages in
use. A group that /sys/fs/cgroup does not show (that of another container) is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hotmend.linux import procfs

ROOT = Path("/sys/fs/cgroup")
_TEXT_BYTES_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class _Files:
    """What one version of control groups calls them."""

    limit: str
    used: str
    inactive: str
    active: str


_VERSION_1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
_VERSION_2 = _Files("memory.max", "memory.current", "inactive_file", "active_file")


def memory_group_objection(pid: int, wanted: int) -> str:
    """Return why the process's control groups may not let it have `wanted` bytes more; "" where they do."""
    groups = procfs.read_text(pid, "cgroup", _TEXT_BYTES_MAX)
    for place, limit, room in _limits(groups, ROOT):
        if room < wanted:
            name = procfs.legible(str(place))
            return (
                f"the control group {name} of process {pid} may have {limit} bytes of memory and has {max(room, 0)} "
                f"left; the new code takes up to {wanted}; raise the limit for the time being "
                "(systemctl set-property --runtime UNIT MemoryMax=BYTES)"
            )
    return ""


def _limits(groups: str, root: Path) -> Iterator[tuple[Path, int, int]]:
    """Yield each group of a process that has a limit: its place, the limit, and the bytes left, from below.

    Args:
        groups: /proc/PID/cgroup.
        root: where control groups are mounted.
    """
    for top, path, files in _places(groups, root):
        place = top / path.lstrip("/")
        if ".." in place.parts:  # outside of what this machine's part of it shows
            continue
        while place.is_relative_to(top):
            if (limit := _number(place / files.limit)) is not None and (
                used := _number(place / files.used)
            ) is not None:
                pages = _statistics(place / "memory.stat")
                free = pages.get(files.inactive, 0) + pages.get(files.active, 0) // 2
                yield place, limit, limit - used + free
            place = place.parent


def _places(groups: str, root: Path) -> Iterator[tuple[Path, str, _Files]]:
    """Yield where groups with memory are mounted, which one the process is in, and how its files are called."""
    for row in procfs.rows(groups):
        number, controllers, path = row.split(":", 2)
        if "memory" in controllers.split(","):
            yield root / "memory", path, _VERSION_1
        elif number == "0":
            yield root, path, _VERSION_2


def _number(file: Path) -> int | None:
    """Return the number in a file; None where there is none, or no limit (`max`)."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _statistics(file: Path) -> dict[str, int]:
    try:
        return {name: int(value) for name, value in (row.split() for row in file.read_text().splitlines())}
    except (OSError, ValueError):
        return {}
