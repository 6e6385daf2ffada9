"""Azure Resource Manager's JSON for a machine's resource, both ways: what routes answer, and what they are asked."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final

from hotmend.arc.machine import (
    CLASSIFICATIONS,
    FEATURE,
    LINUX_CLASSIFICATIONS,
    PRODUCT,
    PROVIDER,
    ArcMachine,
    Assessed,
    Installed,
    Wanted,
)
from hotmend.model.errors import InputError

_DURATION: Final = re.compile(r"P(?:0D)?T(?:([0-9]{1,2})H)?(?:([0-9]{1,3})M)?(?:([0-9]{1,5})S)?")
_COUNTS: Final = (
    "security",
    "critical",
    "definition",
    "updateRollup",
    "featurePack",
    "servicePack",
    "tools",
    "updates",
)


def moment(at: datetime | None) -> str | None:
    """Return a time as the API writes it."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def machine_json(machine: ArcMachine) -> dict[str, Any]:
    """Return the resource of a machine."""
    status = {"hotpatchEnablementStatus": machine.enablement, "error": _error(machine.error)}
    settings = {
        "enableHotpatching": machine.enable_hotpatching,
        "patchMode": machine.patch_mode or None,
        "assessmentMode": machine.assessment_mode or None,
        "status": status,
    }
    configuration = "linuxConfiguration" if machine.os_type == "linux" else "windowsConfiguration"
    return {
        "id": machine.where.id,
        "name": machine.where.name,
        "type": f"{PROVIDER}/machines",
        "location": machine.location,
        "properties": {
            "status": machine.status,
            "osType": machine.os_type,
            "agentVersion": machine.agent_version,
            "osProfile": {configuration: {"patchSettings": settings}},
            "provisioningState": "Succeeded",
        },
    }


def profile_json(machine: ArcMachine) -> dict[str, Any] | None:
    """Return the resource of a machine's licence profile; None where there is none."""
    licence = machine.licence
    if licence.product is None:
        return None
    feature = {
        "name": FEATURE,
        "subscriptionStatus": licence.feature,
        "enrollmentDate": moment(licence.enrolled_at),
        "disenrollmentDate": moment(licence.disenrolled_at),
        "billingStartDate": moment(licence.billing_from),
        "billingEndDate": moment(licence.billing_until),
        "error": _error(licence.error),
    }
    product = {"productType": PRODUCT, "subscriptionStatus": licence.product, "productFeatures": [feature]}
    return {
        "id": f"{machine.where.id}/licenseProfiles/default",
        "name": "default",
        "type": f"{PROVIDER}/machines/licenseProfiles",
        "location": machine.location,
        "properties": {"productProfile": product, "provisioningState": "Succeeded"},
    }


def hotpatch_wanted(body: dict[str, Any], *, patched: bool) -> bool:
    """Return whether a licence profile, sent whole or as a patch, wants the feature.

    Raises:
        InputError: it says nothing of it, or something that is not understood.
    """
    words = {"Enable": True, "Disable": False} if patched else {"Enabled": True, "Disabled": False}
    product = _dict(_dict(body.get("properties")).get("productProfile"))
    if product.get("productType") != PRODUCT:
        raise InputError(f"productType: {PRODUCT} is needed")
    features = product.get("productFeatures")
    for feature in features if isinstance(features, list) else []:
        if _dict(feature).get("name") == FEATURE:
            status = _dict(feature).get("subscriptionStatus")
            if status not in words:
                raise InputError(f"subscriptionStatus of {FEATURE}: one of {', '.join(words)} is needed")
            return words[status]
    raise InputError(f"productFeatures: {FEATURE} is needed")


def wanted_of(body: dict[str, Any]) -> Wanted:
    """Return what a request for an installation wants.

    Raises:
        InputError: something in it is not what the API takes.
    """
    windows, linux = _dict(body.get("windowsParameters")), _dict(body.get("linuxParameters"))
    if windows and linux:
        raise InputError("windowsParameters or linuxParameters, not both")
    classes = _texts(windows or linux, "classificationsToInclude")
    unknown = set(classes) - (LINUX_CLASSIFICATIONS if linux else set(CLASSIFICATIONS.values()))
    if unknown:
        raise InputError(f"classificationsToInclude: {', '.join(sorted(unknown))} is not known")
    match = _DURATION.fullmatch(str(body.get("maximumDuration")))
    if match is None or not any(match.groups()):
        raise InputError("maximumDuration: an ISO 8601 duration such as PT2H is needed")
    without = windows.get("excludeKbsRequiringReboot", False)
    if not isinstance(without, bool):
        raise InputError("excludeKbsRequiringReboot: true or false is needed")
    return Wanted(
        classifications=classes,
        include=_texts(linux, "packageNameMasksToInclude") if linux else _texts(windows, "kbNumbersToInclude"),
        exclude=_texts(linux, "packageNameMasksToExclude") if linux else _texts(windows, "kbNumbersToExclude"),
        without_reboot=without,
        reboot=str(body.get("rebootSetting")),
        duration=timedelta(hours=int(match[1] or 0), minutes=int(match[2] or 0), seconds=int(match[3] or 0)),
        published_until=_published(windows.get("maxPatchPublishDate")),
    )


def _published(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        found = datetime.min
    if found.tzinfo is None:
        raise InputError("maxPatchPublishDate: an ISO 8601 time with its offset is needed")
    return found


def assessed_json(found: Assessed, os_type: str = "windows") -> dict[str, Any]:
    """Return the result of an assessment."""
    return {
        "assessmentActivityId": found.activity,
        "status": found.status,
        "startDateTime": moment(found.started_at),
        "lastModifiedDateTime": moment(found.modified_at),
        "startedBy": "User",
        "osType": os_type.capitalize(),
        "rebootPending": found.reboot_pending,
        "availablePatchCountByClassification": {name: found.counts.get(name, 0) for name in _COUNTS},
        "errorDetails": _error(found.error),
    }


def installed_json(found: Installed, os_type: str = "windows") -> dict[str, Any]:
    """Return the result of an installation."""
    return {
        "installationActivityId": found.activity,
        "status": found.status,
        "rebootStatus": found.reboot_status,
        "maintenanceWindowExceeded": found.window_exceeded,
        "installedPatchCount": found.counts.get("installed", 0),
        "pendingPatchCount": found.counts.get("pending", 0),
        "failedPatchCount": found.counts.get("failed", 0),
        "excludedPatchCount": found.counts.get("excluded", 0),
        "notSelectedPatchCount": found.counts.get("not_selected", 0),
        "startedBy": "User",
        "osType": os_type.capitalize(),
        "errorDetails": _error(found.error),
    }


def _error(text: str) -> dict[str, Any] | None:
    return {"code": "Failed", "message": text} if text else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(body: dict[str, Any], name: str) -> tuple[str, ...]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InputError(f"{name}: a list of texts is needed")
    return tuple(value)
