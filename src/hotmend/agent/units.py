"""Which unit of the service manager a process belongs to, by its control group."""

from __future__ import annotations

import re

from hotmend.linux import procfs
from hotmend.model.errors import HotmendError

_CGROUP_BYTES_MAX = 1 << 16
_ROW = re.compile(r"^\d+:(?:name=systemd)?:(/.*)$", re.MULTILINE)
"""Version 2 of control groups, or the service manager's own hierarchy of version 1."""


def unit_in(text: str) -> str:
    """Return the unit that `/proc/PID/cgroup` names, such as `nginx.service`; "" where there is none."""
    parts = (part for path in _ROW.findall(text) for part in path.split("/"))
    return next((part for part in reversed(list(parts)) if part.endswith(".service")), "")


def unit_of(pid: int) -> str:
    """Return the unit of a process; "" where it has none, or is gone."""
    try:
        return unit_in(procfs.read_text(pid, "cgroup", _CGROUP_BYTES_MAX))
    except HotmendError:
        return ""
