"""Values of a machine's resource: what its licence profile says, what an assessment and an installation gave.

Words are Azure Resource Manager's own. Source: Microsoft.HybridCompute, `machines`, `licenseProfiles`, `assessPatches`
and `installPatches`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

from hotmend.model.errors import InputError

PROVIDER: Final = "Microsoft.HybridCompute"
FEATURE: Final = "Hotpatch"
PRODUCT: Final = "WindowsServer"
CLASSIFICATIONS: Final = {
    "critical": "Critical",
    "security": "Security",
    "update-rollup": "UpdateRollUp",
    "feature-pack": "FeaturePack",
    "service-pack": "ServicePack",
    "definition": "Definition",
    "tools": "Tools",
    "updates": "Updates",
}
"""How commands call a classification, and how the API does."""
LINUX_CLASSIFICATIONS: Final = frozenset({"Critical", "Security", "Other"})
"""What the API calls them on Linux."""
REBOOT_SETTINGS: Final = {"if-required": "IfRequired", "never": "Never", "always": "Always"}
SUBSCRIPTIONS: Final = ("Unknown", "Enabling", "Enabled", "Disabled", "Disabling", "Failed")
DURATION_MIN, DURATION_MAX = timedelta(minutes=60), timedelta(minutes=235)
"""Limits of an installation: an hour, and a bit less than four."""

Subscription = Literal["Unknown", "Enabling", "Enabled", "Disabled", "Disabling", "Failed"]

_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._()-]{0,89}")
_ID: Final = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.HybridCompute/machines/([^/]+)/?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Where:
    """Which machine.

    Raises:
        InputError: a part has letters that the API does not take.
    """

    subscription: str
    resource_group: str
    name: str

    def __post_init__(self) -> None:
        """Check the parts: they become a path."""
        for part in (self.subscription, self.resource_group, self.name):
            if not _PART.fullmatch(part) or part.endswith("."):
                raise InputError("not a name that Azure takes: '{name}'", name=part)

    @property
    def id(self) -> str:
        """The resource's id."""
        group = f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
        return f"{group}/providers/{PROVIDER}/machines/{self.name}"


def where_of(text: str) -> Where:
    """Return the machine that an id names.

    Raises:
        InputError: it names none.
    """
    match = _ID.fullmatch(text)
    if match is None:
        raise InputError(
            "not the id of a machine: {text}",
            "/subscriptions/../machines/NAME, as the portal has it",
            text=text[:200],
        )
    return Where(*match.groups())


@dataclass(frozen=True, slots=True)
class Licence:
    """The Hotpatch feature of a licence profile.

    Attributes:
        product, feature: subscription status of the product, and of the feature; None: there is no profile.
        enrolled_at, disenrolled_at, billing_from, billing_until: of the feature.
        error: what the service says went wrong.
    """

    product: Subscription | None = None
    feature: Subscription | None = None
    enrolled_at: datetime | None = None
    disenrolled_at: datetime | None = None
    billing_from: datetime | None = None
    billing_until: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class ArcMachine:
    """A machine's resource.

    Attributes:
        where: which.
        location: region of the resource.
        status: of the agent's connection: `Connected`, `Disconnected`, `Error`, ...
        os_type: `windows` or `linux`.
        agent_version: "" where it is not said.
        enablement: `hotpatchEnablementStatus`.
        enable_hotpatching: the setting; None: not said.
        patch_mode, assessment_mode: of the patch settings.
        licence: see `Licence`.
        error: of the patch settings.
    """

    where: Where
    location: str
    status: str
    os_type: str = "windows"
    agent_version: str = ""
    enablement: str = "Unknown"
    enable_hotpatching: bool | None = None
    patch_mode: str = ""
    assessment_mode: str = ""
    licence: Licence = Licence()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Assessed:
    """What an assessment gave; `counts` is by the API's classification."""

    activity: str
    status: str
    started_at: datetime | None
    modified_at: datetime | None
    reboot_pending: bool | None
    counts: dict[str, int]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be installed.

    Attributes:
        classifications: by the API's names.
        include, exclude: numbers of KBs, on Linux masks of package names; an exclude beats everything.
        without_reboot: leave out what needs a reboot.
        reboot: `IfRequired`, `Never`, `Always`.
        duration: the most that it may take, 60 to 235 minutes.
        published_until: nothing that was published later; None: whatever is offered.

    Raises:
        InputError: a duration out of these limits, or nothing wanted.
    """

    classifications: tuple[str, ...]
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    without_reboot: bool = False
    reboot: str = "Never"
    duration: timedelta = field(default=timedelta(minutes=120))
    published_until: datetime | None = None

    def __post_init__(self) -> None:
        """Check what the API would refuse."""
        if not DURATION_MIN <= self.duration <= DURATION_MAX:
            raise InputError(
                "an installation may take 60 to 235 minutes, not {minutes}",
                minutes=round(self.duration.total_seconds() / 60),
            )
        if not self.classifications and not self.include:
            raise InputError("nothing is wanted: no classification and no update")
        if self.reboot not in REBOOT_SETTINGS.values():
            raise InputError("no reboot setting: {name}", name=self.reboot)


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation gave: how many updates ended how."""

    activity: str
    status: str
    reboot_status: str
    window_exceeded: bool
    counts: dict[str, int]
    error: str = ""
