"""By what a copy of this machine is told from it. Only hashes leave it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from hotmend.agent.boot import boot_id
from hotmend.model.errors import HotmendError
from hotmend.wire.messages import Host

_LABEL: Final = "hotmend host 1"
_UUID: Final = "sys/class/dmi/id/product_uuid"
_VIRTUAL: Final = "sys/devices/virtual/net"


def this_host(root: Path = Path("/")) -> Host:
    """Return this host. The hardware's UUID is root's to read: who enrols writes it down for the part that is not.

    Raises:
        HotmendError: it has no /etc/machine-id.
    """
    machine = _text(root / "etc/machine-id")
    if not machine or machine == "uninitialized":
        raise HotmendError(
            "/etc/machine-id is empty: this machine cannot be told from its copies", "systemd-machine-id-setup"
        )
    return Host(hashed("machine", machine), _hardware(root), boot_id(root))


def _hardware(root: Path) -> str:
    parts = [_text(root / _UUID).lower()]
    interfaces = root / "sys/class/net"
    virtual = root / _VIRTUAL
    if interfaces.is_dir():
        physical = (each for each in sorted(interfaces.iterdir()) if not (virtual / each.name).exists())
        parts += [_text(each / "address") for each in physical]
    known = [part for part in parts if part]
    return hashed("hardware", *known) if known else ""


def hashed(*parts: str) -> str:
    """Return what stands for an identity: nobody learns it from that."""
    return hashlib.sha256("\n".join((_LABEL, *parts)).encode()).hexdigest()


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
