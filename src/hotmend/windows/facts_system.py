"""What kind of machine this is: version, firmware, where it runs, what it was made from."""

from __future__ import annotations

import re
from typing import Any, Final, cast

from hotmend.reference.zones import zone_of_windows
from hotmend.servicing.facts import Environment, Image, ScaleSet, Vsm
from hotmend.windows.cim import Cim
from hotmend.windows.notes import Notes
from hotmend.windows.prepare import SECURE_BOOT_KEY, VERSION_KEY
from hotmend.windows.registry import Machine, value_or_none
from hotmend.windows.remedies import DEVICE_GUARD_KEY, VSM_NAME
from hotmend.windows.vsm import NAMESPACE, vsm_status

CONTROL_KEY: Final = r"HKLM\SYSTEM\CurrentControlSet\Control"
BIOS_KEY: Final = r"HKLM\HARDWARE\DESCRIPTION\System\BIOS"
INSIDER_KEY: Final = r"HKLM\SOFTWARE\Microsoft\WindowsSelfHost\Applicability"
_AZURE_CHASSIS: Final = "7783-7084-3265-9085-8269-3286-77"
_VIRTUAL: Final = re.compile(r"virtual|kvm|qemu|xen|hvm|bochs|parallels|bhyve|ovirt|openstack|nutanix|droplet", re.I)
_MAKERS: Final = re.compile(
    r"dell|hewlett|hpe?\b|lenovo|fujitsu|cisco|super ?micro|inspur|huawei|asus|acer|intel|gigabyte|quanta|wiwynn", re.I
)
_FEATURES: Final = {
    1: "Credential Guard",
    2: "virtualization-based protection of code integrity",
    3: "System Guard Secure Launch",
    4: "SMM firmware measurement",
    5: "kernel-mode hardware-enforced stack protection",
    6: "kernel-mode hardware-enforced stack protection (audit)",
    7: "hypervisor-enforced paging translation",
}
"""`SecurityServicesConfigured` of Win32_DeviceGuard."""


def text_of(machine: Machine, key: str, name: str) -> str | None:
    """Return a value that is a text, or a number as text; None where it is absent or of another type."""
    value = value_or_none(machine, key, name)
    if value is None:
        return None
    return str(value.number) if value.number is not None else value.string


def number_of(machine: Machine, key: str, name: str) -> int | None:
    """Return a value that is a number, also one written as text."""
    text = text_of(machine, key, name) or ""
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else None


def version(machine: Machine, notes: Notes) -> dict[str, Any]:
    """Return the fields of `facts.Windows` that the version key has."""
    installation = text_of(machine, VERSION_KEY, "InstallationType")
    known = installation in {"Server", "Server Core", "Client", "Nano Server"}
    fields: dict[str, Any] = {
        "product_name": text_of(machine, VERSION_KEY, "ProductName"),
        "edition": text_of(machine, VERSION_KEY, "EditionID"),
        "installation": installation if known else None,
        "build": number_of(machine, VERSION_KEY, "CurrentBuildNumber"),
        "revision": number_of(machine, VERSION_KEY, "UBR"),
        "display_version": text_of(machine, VERSION_KEY, "DisplayVersion"),
        "preview": _preview(machine),
    }
    for name, value in fields.items():
        if value is None:
            notes.unknown(f"windows.{name}", f"not in {VERSION_KEY}")
    return fields


def _preview(machine: Machine) -> bool | None:
    """Return whether this is a preview build: a release says so by its branch, and by no enrollment for previews."""
    branch = text_of(machine, VERSION_KEY, "BuildBranch") or ""
    if number_of(machine, INSIDER_KEY, "EnablePreviewBuilds"):
        return True
    if re.search(r"prerelease|canary|insider|rs_onecore|preview", branch):
        return True
    return False if re.search(r"_release(_svc.*)?$", branch) else None


def architecture(machine: Machine, notes: Notes) -> str | None:
    """Return `amd64` or `arm64`."""
    key = rf"{CONTROL_KEY}\Session Manager\Environment"
    found = {"AMD64": "amd64", "ARM64": "arm64"}.get(text_of(machine, key, "PROCESSOR_ARCHITECTURE") or "")
    if found is None:
        notes.unknown("architecture", f"{key} says none that is known")
    return found


def time_zone(machine: Machine, notes: Notes) -> str | None:
    """Return the zone's IANA name."""
    name = text_of(machine, rf"{CONTROL_KEY}\TimeZoneInformation", "TimeZoneKeyName") or ""
    found = zone_of_windows(name)
    if found is None:
        notes.unknown("time_zone", f"no zone is known that Windows calls {name!r}")
    return found


def environment(machine: Machine, cim: Cim, notes: Notes) -> Environment | None:
    """Return where the machine runs, by what its firmware calls itself."""
    if value_or_none(machine, CONTROL_KEY, "ContainerType") is not None:
        return "container"
    maker = text_of(machine, BIOS_KEY, "SystemManufacturer") or ""
    model = text_of(machine, BIOS_KEY, "SystemProductName") or ""
    if "VMware" in maker or "VMware" in model:
        return "vmware"
    if maker == "Microsoft Corporation" and model == "Virtual Machine":
        return _of_hyper_v(machine, cim, notes)
    if re.search(r"amazon|google|alibaba|oracle", maker, re.I):
        return "other-cloud"
    if _VIRTUAL.search(f"{maker} {model}"):
        return "other"
    if _MAKERS.search(maker) or (maker == "Microsoft Corporation" and model.startswith("Surface")):
        return "physical"
    notes.unknown("environment", f"the firmware calls itself {maker!r} {model!r}, which is not known")
    return None


def _of_hyper_v(machine: Machine, cim: Cim, notes: Notes) -> Environment | None:
    """Tell Azure by the tag of its chassis. Azure Local and a Hyper-V of one's own look alike from inside."""
    rows = notes.ask("environment", lambda: cim.instances(r"root\cimv2", "Win32_SystemEnclosure", ("SMBIOSAssetTag",)))
    if rows is None:
        return None
    if any(str(row["SMBIOSAssetTag"]).strip() == _AZURE_CHASSIS for row in rows):
        return "azure"
    if text_of(machine, VERSION_KEY, "EditionID") in {"ServerTurbine", "ServerTurbineCor"}:
        notes.unknown("environment", "Azure Local and Hyper-V cannot be told apart from inside the machine")
        return None
    return "hyper-v"


def vsm(machine: Machine, cim: Cim, where: Environment | None, notes: Notes) -> Vsm:
    """Return what is known of virtual secure mode and what it needs."""
    status = vsm_status(machine, cim)
    if status.status is None:
        notes.unknown("windows.vsm.status", status.why_unknown)
    firmware = number_of(machine, CONTROL_KEY, "PEFirmwareType")
    uefi = {1: False, 2: True}.get(firmware or 0)
    if uefi is None:
        notes.unknown("windows.vsm.uefi", rf"{CONTROL_KEY}\PEFirmwareType says neither")
    secure = number_of(machine, SECURE_BOOT_KEY, "UEFISecureBootEnabled")
    if secure is None:
        notes.unknown("windows.vsm.secure_boot", f"not in {SECURE_BOOT_KEY}")
    generation = {True: 2, False: 1}.get(uefi) if where in {"hyper-v", "azure"} and uefi is not None else None
    return Vsm(
        status=status.status,
        status_from=status.origin,
        registry_value=number_of(machine, DEVICE_GUARD_KEY, VSM_NAME),
        features_configured=notes.ask("windows.vsm.features_configured", lambda: _features(cim)),
        uefi=uefi,
        secure_boot=None if secure is None else secure == 1,
        vm_generation=cast("Any", generation),
    )


def _features(cim: Cim) -> tuple[str, ...] | None:
    for row in cim.instances(NAMESPACE, "Win32_DeviceGuard", ("SecurityServicesConfigured",)):
        numbers = row["SecurityServicesConfigured"]
        if isinstance(numbers, list | tuple):
            return tuple(_FEATURES.get(number, f"service {number}") for number in numbers if number)
    return None


def image(where: Environment | None, compute: dict[str, Any] | None, notes: Notes) -> tuple[Image, str | None]:
    """Return what the machine was made from, and its region.

    Args:
        where: it runs.
        compute: of Azure's instance metadata; None where it was not asked, or did not answer.
        notes: why something is unknown.
    """
    if where == "container":
        return Image("container-base"), None
    if where in {"physical", "vmware", "hyper-v"}:  # there are no images of a marketplace there
        return Image("own-installation"), None
    if compute is None:
        notes.unknown("windows.image.kind", "only a cloud's own service tells it, and none was asked or answered")
        return Image(), None
    reference = compute.get("storageProfile", {}).get("imageReference", {})
    kind = "custom" if reference.get("id") and not reference.get("publisher") else None
    publisher, offer, sku = (reference.get(name) or None for name in ("publisher", "offer", "sku"))
    if publisher and offer and sku:
        kind = "marketplace"
    if kind is None:
        notes.unknown("windows.image.kind", "the instance metadata name no image")
    return Image(cast("Any", kind), publisher, offer, sku), compute.get("location") or None


def scale_set(where: Environment | None, compute: dict[str, Any] | None, notes: Notes) -> ScaleSet | None:
    """Return `none` where the machine is in no scale set; which mode one has is not told to its machines."""
    if where in {"physical", "vmware", "hyper-v"} or (compute is not None and compute.get("vmScaleSetName") == ""):
        return "none"
    notes.unknown("windows.scale_set", "the orchestration mode of a scale set is not told to its machines")
    return None
