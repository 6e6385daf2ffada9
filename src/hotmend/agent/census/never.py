"""What is never touched: the first process, what runs containers, and what an administrator adds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from hotmend.agent.census.units import unit_of
from hotmend.linux import procfs
from hotmend.model.errors import HotmendError

DEFAULT_UNITS: Final = (
    "containerd.service",
    "cri-o.service",
    "crio.service",
    "docker.service",
    "kubelet.service",
    "libvirtd.service",
    "lxc.service",
    "podman.service",
    "virtqemud.service",
)
DEFAULT_COMMANDS: Final = (
    "systemd",
    "init",
    "conmon",
    "containerd",
    "containerd-shim*",
    "crio",
    "dockerd",
    "kubelet",
    "lxc-start",
    "podman",
    "qemu-system-*",
    "runc",
    "crun",
)
"""As the kernel has a command's name: its first 15 letters."""

_COMMAND_LETTERS: Final = 15


@dataclass(frozen=True, slots=True)
class Never:
    """Masks of what is never touched.

    Attributes:
        units: of units' names.
        commands: of commands' names, as in `/proc/PID/comm`.
    """

    units: tuple[str, ...]
    commands: tuple[str, ...]

    def __call__(self, pid: int) -> bool:
        """Return whether a process must be left alone; one that nothing can be learnt of must."""
        try:
            return self.names(pid, procfs.read_stat(pid).comm, unit_of(pid))
        except HotmendError:
            return True

    def names(self, pid: int, comm: str, unit: str) -> bool:
        """Return whether the masks name a process."""
        return (
            pid == 1 or _any(self.units, unit) or any(_any((mask[:_COMMAND_LETTERS],), comm) for mask in self.commands)
        )


def _any(masks: Iterable[str], name: str) -> bool:
    return any(fnmatchcase(name, mask) for mask in masks)
