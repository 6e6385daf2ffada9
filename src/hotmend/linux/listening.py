"""On which TCP ports processes listen, from /proc."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from hotmend.linux import procfs
from hotmend.model.errors import HotmendError

_LISTEN = "0A"
_TABLE_BYTES_MAX = 32 << 20


def parse_table(text: str) -> dict[int, int]:
    """Return inode -> port of the listening sockets in the text of /proc/PID/net/tcp or tcp6."""
    found = {}
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            found[int(fields[9])] = int(fields[1].rpartition(":")[2], 16)
    return found


def network_ports(pid: int) -> dict[int, int]:
    """Return inode -> port of all listening TCP sockets in the network namespace of a process."""
    found: dict[int, int] = {}
    for name in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(HotmendError):
            found.update(parse_table(procfs.read_text(pid, name, _TABLE_BYTES_MAX)))
    return found


def process_ports(pids: Iterable[int]) -> frozenset[int]:
    """Return the TCP ports that the processes themselves listen on; they share one network namespace."""
    ports: set[int] = set()
    for pid in pids:
        sockets = network_ports(pid)
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    kind, _, inode = os.readlink(f"/proc/{pid}/fd/{name}").partition(":[")
                    if kind == "socket":
                        ports |= {sockets[int(inode[:-1])]} if int(inode[:-1]) in sockets else set()
    return frozenset(ports)
