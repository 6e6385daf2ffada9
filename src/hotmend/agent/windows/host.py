"""By what a copy of a Windows machine is told from it. Only hashes leave it."""

from __future__ import annotations

from hotmend.agent.uplink.host import hashed
from hotmend.model.errors import HotmendError
from hotmend.windows.cim import Cim
from hotmend.windows.facts_system import text_of
from hotmend.windows.registry import Machine
from hotmend.wire.messages import Host

_GUID_KEY = r"HKLM\SOFTWARE\Microsoft\Cryptography"
_CIMV2 = r"root\cimv2"


def windows_host(machine: Machine, cim: Cim) -> Host:
    """Return this host: MachineGuid, which Sysprep makes anew, and the hardware's UUID.

    Raises:
        HotmendError: Windows does not say its MachineGuid.
    """
    guid = text_of(machine, _GUID_KEY, "MachineGuid")
    if not guid:
        raise HotmendError("MachineGuid is empty: this machine cannot be told from its copies", f"see {_GUID_KEY}")
    return Host(hashed("machine", guid.lower()), _hardware(cim), boot_name(machine))


def boot_name(machine: Machine) -> str:
    """Return what tells this boot from others."""
    return machine.booted_at().isoformat(timespec="seconds")


def _hardware(cim: Cim) -> str:
    try:
        rows = cim.instances(_CIMV2, "Win32_ComputerSystemProduct", ("UUID",))
    except HotmendError:
        return ""
    known = [str(row["UUID"]).lower() for row in rows if row.get("UUID")]
    return hashed("hardware", *known) if known else ""
