"""Which unit of the machine's service manager a process belongs to, by its control group."""

from __future__ import annotations

from pathlib import Path

from hotmend.agent.census.owners import OwnerKind, owner_in
from hotmend.linux import procfs
from hotmend.model.errors import HotmendError


def unit_in(text: str) -> str:
    """Return the service that `/proc/PID/cgroup` names, such as `nginx.service`; "" where there is none."""
    owner = owner_in(text)
    return owner.name if owner.kind is OwnerKind.SERVICE else ""


def unit_of(pid: int) -> str:
    """Return the service of a process; "" where it has none, or is gone."""
    try:
        return unit_in(procfs.control_group(pid))
    except HotmendError:
        return ""


def is_booted() -> bool:
    """Return whether systemd manages this machine's services, as sd_booted(3) has it."""
    return Path("/run/systemd/system").is_dir()
