"""Values of the Windows Update Agent: updates, what became of them, and what its numbers mean.

Source: Microsoft's reference of the Windows Update Agent API (`IUpdate`, `OperationResultCode`,
`InstallationRebootBehavior`, 'WSUS Classification GUIDs', 'WUA Success and Error Codes').
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

from hotmend.servicing.facts import Offer

CLASSIFICATIONS: Final = {
    "e6cf1350-c01b-414d-a61f-263d14d133b4": "Critical Updates",
    "0fa1201d-4330-4fa8-8ae9-b877473b6441": "Security Updates",
    "28bc880e-0592-4cbf-8f95-c79b17911d5f": "Update Rollups",
    "b54e7d24-7add-428f-8b75-90a396fa584f": "Feature Packs",
    "68c5b0a3-d1a6-4553-ae49-01d3a7827828": "Service Packs",
    "e0789628-ce08-4437-be74-2495b842f43b": "Definition Updates",
    "b4832bd8-e735-4761-8daf-37f882276dab": "Tools",
    "cd5ffd1e-e932-4e3a-bf74-18bf0b1bbd83": "Updates",
    "ebfc1fc5-71a4-4f7b-9aca-3b9a503104a0": "Drivers",
    "3689bdc8-b205-4af4-8d4a-a63924c5e9d5": "Upgrades",
}
"""Category to the English name of a classification: names that the agent gives are in the language of the machine."""

CLASS_NAMES: Final = {
    "critical": "Critical Updates",
    "security": "Security Updates",
    "update-rollup": "Update Rollups",
    "feature-pack": "Feature Packs",
    "service-pack": "Service Packs",
    "definition": "Definition Updates",
    "tools": "Tools",
    "updates": "Updates",
    "drivers": "Drivers",
    "upgrades": "Upgrades",
}
"""How commands call a classification; the first eight are what Azure counts, too."""


class Result(StrEnum):
    """`OperationResultCode`, in the order of its numbers from 0 on."""

    NOT_STARTED = "not-started"
    IN_PROGRESS = "in-progress"
    SUCCEEDED = "succeeded"
    SUCCEEDED_WITH_ERRORS = "succeeded-with-errors"
    FAILED = "failed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, code: int) -> Result:
        """Return what a number means; one that is not documented is no success."""
        return list(cls)[code] if 0 <= code < len(cls) - 1 else cls.UNKNOWN

    @property
    def succeeded(self) -> bool:
        """Whether the update is in place, or gone, as was asked."""
        return self in {Result.SUCCEEDED, Result.SUCCEEDED_WITH_ERRORS}


class Reboots(IntEnum):
    """`InstallationRebootBehavior`."""

    NEVER = 0
    ALWAYS = 1
    CAN_REQUEST = 2


class Found(msgspec.Struct, frozen=True):
    """One update that the agent knows.

    Attributes:
        identity: `UpdateID.RevisionNumber`, what the agent takes it by.
        kbs: such as `KB5066835`; most have one, drivers have none.
        title: in the language of the machine.
        classification: English; None where no category says it.
        severity: `MsrcSeverity`; "" where there is none.
        reboots: None: not said.
        uninstallable: the agent takes it away again.
        hidden: the agent does not offer it by itself.
        reboot_pending: it is installed, or gone, with the next boot.
    """

    identity: str
    kbs: tuple[str, ...]
    title: str
    classification: str | None = None
    severity: str = ""
    reboots: Reboots | None = None
    downloaded: bool = False
    uninstallable: bool = False
    hidden: bool = False
    reboot_pending: bool = False

    @property
    def name(self) -> str:
        """What people call it: its KB, else its identity."""
        return self.kbs[0] if self.kbs else self.identity

    @property
    def offer(self) -> Offer:
        """The update as the rules of servicing know one."""
        needs = None if self.reboots is None else self.reboots is not Reboots.NEVER
        return Offer(self.name, self.title[:1000], self.classification, needs)


class Search(msgspec.Struct, frozen=True):
    """What a search found; `warnings` is not empty where the agent could not look everywhere."""

    updates: tuple[Found, ...]
    warnings: tuple[str, ...] = ()

    def with_kb(self, kb: str) -> Found | None:
        """Return the update of a KB."""
        return next((update for update in self.updates if kb in update.kbs), None)


class Entry(msgspec.Struct, frozen=True):
    """One entry of the update history.

    Attributes:
        at: when, UTC.
        title: in the language of the machine.
        operation: `install` or `uninstall`.
        result: what became of it.
        code: HRESULT.
        kbs: that its title names.
        client: which program asked for it; "" where that is not on record.
    """

    at: datetime
    title: str
    operation: str
    result: Result
    code: int
    kbs: tuple[str, ...]
    client: str = ""


class Became(msgspec.Struct, frozen=True):
    """What became of one update."""

    update: Found
    result: Result
    code: int
    reboot: bool


class Work(msgspec.Struct, frozen=True):
    """What became of an installation or removal.

    Attributes:
        result: of all together.
        code: HRESULT.
        reboot: a reboot is needed to complete it.
        each: one by one.
    """

    result: Result
    code: int
    reboot: bool
    each: tuple[Became, ...]


def kbs_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the KBs that texts name, each once, in order."""
    found = (f"KB{digits}" for text in texts for digits in re.findall(r"\bKB([0-9]{6,8})\b", text, re.IGNORECASE))
    return tuple(dict.fromkeys(found))


_CODES: Final = {
    0x00240005: "WU_S_REBOOT_REQUIRED",
    0x00240006: "WU_S_ALREADY_INSTALLED",
    0x00240007: "WU_S_ALREADY_UNINSTALLED",
    0x80004001: "E_NOTIMPL",
    0x80070005: "E_ACCESSDENIED",
    0x80070070: "ERROR_DISK_FULL",
    0x80070422: "ERROR_SERVICE_DISABLED",
    0x80072EE2: "ERROR_INTERNET_TIMEOUT",
    0x80072EE7: "ERROR_INTERNET_NAME_NOT_RESOLVED",
    0x80073712: "ERROR_SXS_COMPONENT_STORE_CORRUPT",
    0x800F0922: "CBS_E_INSTALLERS_FAILED",
    0x80240009: "WU_E_OPERATIONINPROGRESS",
    0x8024000B: "WU_E_CALL_CANCELLED",
    0x80240016: "WU_E_INSTALL_NOT_ALLOWED",
    0x80240017: "WU_E_NOT_APPLICABLE",
    0x8024001E: "WU_E_SERVICE_STOP",
    0x8024001F: "WU_E_NO_CONNECTION",
    0x80240021: "WU_E_TIME_OUT",
    0x80240022: "WU_E_ALL_UPDATES_FAILED",
    0x80240023: "WU_E_EULAS_DECLINED",
    0x80240024: "WU_E_NO_UPDATE",
    0x80240028: "WU_E_UNINSTALL_NOT_ALLOWED",
    0x8024002E: "WU_E_WU_DISABLED",
    0x80240438: "WU_E_PT_ENDPOINT_UNREACHABLE",
    0x8024402C: "WU_E_PT_WINHTTP_NAME_NOT_RESOLVED",
}


def code_text(code: int) -> str:
    """Return an HRESULT as people look it up: hexadecimal, with its name where it is one of the known."""
    number = code & 0xFFFFFFFF
    name = _CODES.get(number, "")
    return f"{number:#010x} {name}".rstrip()
