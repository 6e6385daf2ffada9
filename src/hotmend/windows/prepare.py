"""From a remedy's name to its steps on this machine, or the reasons why it must not be done here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from hotmend.model.errors import UsageError
from hotmend.model.verdict import Reason, refusal
from hotmend.windows.admx import enabled_writes
from hotmend.windows.regfile import decode_reg
from hotmend.windows.registry import Machine, Registry, value_or_none
from hotmend.windows.remedies import LICENCE_OPTION_2, VSM, Remedy, Write, client_policy, licence_option_1

VERSION_KEY: Final = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion"
SECURE_BOOT_KEY: Final = r"HKLM\SYSTEM\CurrentControlSet\Control\SecureBoot\State"
_LICENSED_EDITIONS: Final = re.compile(r"Server(Standard|Datacenter)(Cor)?", re.IGNORECASE)
_PREVIEW_POLICY: Final = re.compile(r"KB5062660.251028.18301.*\.admx", re.IGNORECASE)


def remedy_named(name: str, machine: Machine, reg: bytes | None) -> tuple[Remedy | None, tuple[Reason, ...]]:
    """Return the remedy, or None and why it must not be done here.

    Args:
        name: one of `remedies.NAMES`.
        machine: where it is to be done.
        reg: the registration file that `client-policy` needs.

    Raises:
        UsageError: `client-policy` without a file, or another remedy with one.
    """
    if (name == "client-policy") != (reg is not None):
        raise UsageError(
            "--reg FILE goes with client-policy, and client-policy needs it", "hotmend windows policy makes one"
        )
    match name:
        case "vsm":
            return _unless(VSM, _firmware_reasons(machine))
        case "licence-bug-option-2":
            return _unless(LICENCE_OPTION_2, _edition_reasons(machine))
        case "licence-bug-option-1":
            reasons = _edition_reasons(machine)
            return (None, reasons) if reasons else _option_1(machine)
    return client_policy(decode_reg(reg or b"", "--reg")), ()


def _unless(remedy: Remedy, reasons: tuple[Reason, ...]) -> tuple[Remedy | None, tuple[Reason, ...]]:
    return (None, reasons) if reasons else (remedy, ())


def _firmware_reasons(machine: Registry) -> tuple[Reason, ...]:
    value = value_or_none(machine, SECURE_BOOT_KEY, "UEFISecureBootEnabled")
    if value is not None and value.number == 1:
        return ()
    return (
        refusal(
            "secure-boot-not-on",
            "Virtual secure mode needs UEFI with Secure Boot, and this machine does not say so; switch it on in the "
            "firmware (Hyper-V: a generation 2 VM, VMware: VBS on the VM) first.",
            SECURE_BOOT_KEY,
        ),
    )


def _edition_reasons(machine: Registry) -> tuple[Reason, ...]:
    value = value_or_none(machine, VERSION_KEY, "EditionID")
    edition = (value.string if value else None) or "unknown"
    if _LICENSED_EDITIONS.fullmatch(edition):
        return ()
    return (
        refusal(
            "remedy-not-for-edition",
            "The licence problem and its workarounds concern Windows Server Standard and Datacenter, not this edition.",
            edition,
        ),
    )


def _option_1(machine: Machine) -> tuple[Remedy | None, tuple[Reason, ...]]:
    """Return option 1 with the value that the installed policy definition sets."""
    files, writes = _preview_definitions(machine)
    if len(writes) == 1:
        return licence_option_1(writes.pop()), ()
    return None, (
        refusal(
            "preview-package-needed",
            "The policy definition of the feature preview package 'KB5062660 251028_18301' is not there, or does not "
            "name exactly one value; install the package first, or take licence-bug-option-2.",
            *(path.name for path in files),
        ),
    )


def preview_policy(machine: Machine) -> Write | None:
    """Return the value that the feature preview's installed policy definition sets; None where there is not one."""
    writes = _preview_definitions(machine)[1]
    return writes.pop() if len(writes) == 1 else None


def _preview_definitions(machine: Machine) -> tuple[list[Path], set[Write]]:
    folder = Path(machine.folder("SystemRoot") or r"C:\Windows") / "PolicyDefinitions"
    files = [path for path in sorted(folder.glob("*.admx")) if _PREVIEW_POLICY.fullmatch(path.name)]
    return files, {write for path in files for write in enabled_writes(path.read_bytes(), path.name)}
