"""Whether virtual secure mode runs. CIM's Win32_DeviceGuard and `systeminfo` prove it; nothing else does."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from hotmend.model.errors import HotmendError
from hotmend.windows.cim import Cim
from hotmend.windows.registry import Machine

NAMESPACE: Final = r"root\Microsoft\Windows\DeviceGuard"
_SYSTEMINFO_SECONDS_MAX: Final = 120.0
_HEADING = re.compile(
    r"^(?:Virtualization-based security|Virtualisierungsbasierte Sicherheit)\s*:\s*(?:Status\s*:\s*)?(.*)$"
)
_STATUS: Final = {
    "not enabled": 0,
    "nicht aktiviert": 0,
    "enabled but not running": 1,
    "aktiviert, aber nicht ausgeführt": 1,
    "aktiviert, wird jedoch nicht ausgeführt": 1,
    "running": 2,
    "wird ausgeführt": 2,
}


class VsmStatus(NamedTuple):
    """`status` as CIM counts: 0 off, 1 configured and not running, 2 running; None with `why_unknown`."""

    status: int | None
    origin: Literal["device-guard", "systeminfo"] | None
    why_unknown: str = ""


def vsm_status(machine: Machine, cim: Cim) -> VsmStatus:
    """Ask CIM, and `systeminfo` where CIM does not say."""
    try:
        for row in cim.instances(NAMESPACE, "Win32_DeviceGuard", ("VirtualizationBasedSecurityStatus",)):
            status = row["VirtualizationBasedSecurityStatus"]
            if isinstance(status, int) and 0 <= status <= 2:
                return VsmStatus(status, "device-guard")
        why = "Win32_DeviceGuard does not say VirtualizationBasedSecurityStatus"
    except HotmendError as error:
        why = str(error)
    try:
        text = machine.run(("systeminfo.exe",), _SYSTEMINFO_SECONDS_MAX).text
    except (OSError, HotmendError) as error:
        return VsmStatus(None, None, f"{why}; systeminfo: {error}")
    status = systeminfo_status(text)
    if status is None:
        return VsmStatus(None, None, f"{why}; systeminfo says nothing that is understood")
    return VsmStatus(status, "systeminfo")


def systeminfo_status(text: str) -> int | None:
    """Return the status that the English or German output of `systeminfo` names; None for anything else."""
    found = {
        _STATUS.get(match[1].strip().lower()) for line in text.splitlines() if (match := _HEADING.match(line.strip()))
    }
    return found.pop() if len(found) == 1 else None
