"""Who decides about updates here: the client's policy, other managers, the Arc agent, and workarounds in place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import PureWindowsPath
from typing import Any, Final

import msgspec

from hotmend.servicing.facts import Arc, Client, LicenceWorkaround, Manager, UpdatePolicy
from hotmend.windows.facts_system import CONTROL_KEY, number_of, text_of
from hotmend.windows.notes import Notes
from hotmend.windows.prepare import preview_policy
from hotmend.windows.registry import Machine, value_or_none
from hotmend.windows.remedies import (
    ARC_SERVICE,
    MUTEX_NAME,
    OVERRIDE_NAME,
    OVERRIDES_KEY,
    POLICY_AU_KEY,
    POLICY_KEY,
    SUBSCRIPTIONS_KEY,
)

ENROLLMENTS_KEY: Final = r"HKLM\SOFTWARE\Microsoft\Enrollments"
ENDPOINTS: Final = (
    "gbl.his.arc.azure.com",
    "agentserviceapi.guestconfiguration.azure.com",
    "management.azure.com",
    "login.microsoftonline.com",
)
_AGENT: Final = r"AzureConnectedMachineAgent\azcmagent.exe"
_AGENT_SECONDS_MAX: Final = 60.0
_DEFERRALS: Final = ("DeferQualityUpdates", "DeferFeatureUpdates", "TargetReleaseVersion", "ManagePreviewBuilds")

Reach = Callable[[str], bool | None]
"""Host to whether it was reached; None where it was not tried."""


def policy(machine: Machine) -> UpdatePolicy:
    """Return the policy of the update client. An absent value is Windows' own default, and stays unknown here."""
    values = {
        f"{prefix}{name}"[:1000]: value.shown()[:1000]
        for key, prefix in ((POLICY_KEY, ""), (POLICY_AU_KEY, "AU\\"))
        for name, value in (machine.values(key) or {}).items()
    }
    off = number_of(machine, POLICY_AU_KEY, "NoAutoUpdate")
    used = number_of(machine, POLICY_AU_KEY, "UseWUServer")
    server = text_of(machine, POLICY_KEY, "WUServer")
    users = number_of(machine, POLICY_AU_KEY, "NoAutoRebootWithLoggedOnUsers")
    return UpdatePolicy(
        no_auto_update=None if off is None else off == 1,
        au_options=_within(number_of(machine, POLICY_AU_KEY, "AUOptions"), 7),
        scheduled_day=_within(number_of(machine, POLICY_AU_KEY, "ScheduledInstallDay"), 7),
        scheduled_hour=_within(number_of(machine, POLICY_AU_KEY, "ScheduledInstallTime"), 23),
        no_reboot_with_users=None if users is None else users == 1,
        wsus_server=server if used == 1 and server else "",
        defer_quality_days=_within(number_of(machine, POLICY_KEY, "DeferQualityUpdatesPeriodInDays"), 365),
        values=values,
    )


def _within(number: int | None, most: int) -> int | None:
    return number if number is not None and number <= most else None


def managers(machine: Machine, found: UpdatePolicy, arc: Arc) -> dict[Manager, str]:
    """Return what else manages updates of this machine, and by what it shows."""
    seen: dict[Manager, str] = {}
    if found.wsus_server:
        seen["wsus"] = f"WUServer is {found.wsus_server}"
    deferrals = [name for name in _DEFERRALS if number_of(machine, POLICY_KEY, name)]
    if deferrals or found.defer_quality_days:
        seen["windows-update-for-business"] = ", ".join(deferrals) or "DeferQualityUpdatesPeriodInDays"
    if intune_managed(machine):
        seen["intune"] = f"an enrollment in {ENROLLMENTS_KEY}"
    if machine.service("CcmExec") is not None:
        seen["configuration-manager"] = "service CcmExec"
    if arc.installed:
        seen["azure-arc"] = "connected" if arc.connected else f"service {ARC_SERVICE}"
    if found.values and not seen.keys() & {"wsus", "windows-update-for-business"}:
        seen["group-policy"] = f"{len(found.values)} values of the update client's policy"
    return seen


def arc(machine: Machine, reach: Reach, notes: Notes) -> Arc:
    """Return what is known of the Arc agent; endpoints are tried only where it is installed."""
    service = machine.service(ARC_SERVICE)
    if service is None:
        return Arc(installed=False, connected=False, service_running=False)
    shown = notes.ask("windows.arc.connected", lambda: _agent_shown(machine))
    status = shown.get("status") if shown else None
    return Arc(
        installed=True,
        connected=None if status is None else str(status) == "Connected",
        version=str(shown.get("agentVersion") or "") or None if shown else None,
        service_running=service.running,
        endpoints={host: reach(host) for host in ENDPOINTS},
    )


def _agent_shown(machine: Machine) -> dict[str, Any]:
    """Return what `azcmagent show` says."""
    program = PureWindowsPath(machine.folder("ProgramFiles") or r"C:\Program Files") / _AGENT
    ran = machine.run((str(program), "show", "-j"), _AGENT_SECONDS_MAX)
    try:
        return msgspec.json.decode(ran.text.strip().encode(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise OSError(f"azcmagent show: exit code {ran.code}, and no JSON") from error


def client(machine: Machine, notes: Notes) -> Client:
    """Return what counts on Windows 11."""
    notes.unknown("windows.client.licence", "licences are assigned to people; the directory tells, not the machine")
    chpe = number_of(machine, rf"{CONTROL_KEY}\Session Manager\Memory Management", "HotPatchRestrictions")
    return Client(
        entra_joined=notes.ask("windows.client.entra_joined", lambda: _entra_joined(machine)),
        intune_managed=intune_managed(machine),
        chpe_disabled=chpe == 1,
    )


def _entra_joined(machine: Machine) -> bool | None:
    text = machine.run(("dsregcmd.exe", "/status"), _AGENT_SECONDS_MAX).text
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "AzureAdJoined":
            return value.strip().upper() == "YES"
    return None


def intune_managed(machine: Machine) -> bool:
    """Return whether an enrollment of this machine is one of Intune."""
    keys = (rf"{ENROLLMENTS_KEY}\{name}" for name in machine.subkeys(ENROLLMENTS_KEY) or ())
    return any(text_of(machine, key, "ProviderID") == "MS DM Server" for key in keys)


def workaround(machine: Machine) -> LicenceWorkaround:
    """Return what of the workarounds of October 2025 is in place; set at the last writing of the key at the latest."""
    write = preview_policy(machine)
    override = number_of(machine, OVERRIDES_KEY, OVERRIDE_NAME)
    preview = write is not None and value_or_none(machine, write.key, write.name) == write.value
    moments: list[datetime | None] = []
    if preview and write is not None:
        moments.append(machine.written_at(write.key))
    if override == 1:
        moments.append(machine.written_at(OVERRIDES_KEY))
    return LicenceWorkaround(
        preview_installed=write is not None,
        preview_policy=preview,
        override=override,
        override_known=True,
        mutex_present=value_or_none(machine, SUBSCRIPTIONS_KEY, MUTEX_NAME) is not None,
        changed_at=max((moment for moment in moments if moment is not None), default=None),
    )
