r"""The remedies: what each of them changes, in which order, and where a reboot stands between two steps.

Sources: Microsoft's articles on Hotpatch prerequisites (VSM) and on the licence problem of October 2025.
Pure: the table says what is to be done; `perform` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hotmend.model.errors import InputError
from hotmend.windows.regfile import Keys
from hotmend.windows.registry import Value

DEVICE_GUARD_KEY: Final = r"HKLM\SYSTEM\CurrentControlSet\Control\DeviceGuard"
VSM_NAME: Final = "EnableVirtualizationBasedSecurity"
OVERRIDES_KEY: Final = r"HKLM\SYSTEM\CurrentControlSet\Policies\Microsoft\FeatureManagement\Overrides"
OVERRIDE_NAME: Final = "4264695439"
SUBSCRIPTIONS_KEY: Final = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Subscriptions"
MUTEX_NAME: Final = "DeviceLicensingServiceCommandMutex"
POLICY_KEY: Final = r"HKLM\SOFTWARE\Policies\Microsoft\Windows\WindowsUpdate"
POLICY_AU_KEY: Final = rf"{POLICY_KEY}\AU"
ARC_SERVICE: Final = "HIMDS"


@dataclass(frozen=True, slots=True)
class Write:
    """A value is written; its key is created where it is absent."""

    key: str
    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class Remove:
    """A value is removed; it may be absent already. Its key stays."""

    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Stop:
    """A service is stopped; the next boot starts it again."""

    service: str


@dataclass(frozen=True, slots=True)
class Reboot:
    """What came before counts only after a boot that is later than it."""


Step = Write | Remove | Stop | Reboot


@dataclass(frozen=True, slots=True)
class Remedy:
    """One remedy.

    Attributes:
        name: as in the command.
        steps: in order.
        proven_by_vsm: done only when virtual secure mode runs, whatever the registry says.
    """

    name: str
    steps: tuple[Step, ...]
    proven_by_vsm: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys it touches."""
        return tuple(dict.fromkeys(step.key for step in self.steps if isinstance(step, Write | Remove)))


VSM: Final = Remedy("vsm", (Write(DEVICE_GUARD_KEY, VSM_NAME, Value.dword(1)), Reboot()), proven_by_vsm=True)
LICENCE_OPTION_2: Final = Remedy(
    "licence-bug-option-2",
    (
        Stop(ARC_SERVICE),
        Write(OVERRIDES_KEY, OVERRIDE_NAME, Value.dword(1)),
        Remove(SUBSCRIPTIONS_KEY, MUTEX_NAME),
        Reboot(),
    ),
)
NAMES: Final = ("vsm", "licence-bug-option-1", "licence-bug-option-2", "client-policy")


def licence_option_1(policy: Write) -> Remedy:
    """Return option 1: the feature preview's policy, a reboot, and only then the value is removed."""
    return Remedy("licence-bug-option-1", (policy, Reboot(), Remove(SUBSCRIPTIONS_KEY, MUTEX_NAME)))


def client_policy(keys: Keys) -> Remedy:
    """Return the remedy that brings the update client's policy to what a registration file says; it needs no reboot.

    Raises:
        InputError: the file touches another key.
    """
    allowed = {key.lower(): key for key in (POLICY_KEY, POLICY_AU_KEY)}
    steps: list[Step] = []
    for key, values in keys.items():
        if key.lower() not in allowed:
            raise InputError(
                "{key}: not a key of the update client's policy", "only {own} and its AU key", key=key, own=POLICY_KEY
            )
        own = allowed[key.lower()]
        for name, value in values.items():
            steps.append(Remove(own, name) if value is None else Write(own, name, value))
    if not steps:
        raise InputError("the registration file sets nothing")
    return Remedy("client-policy", tuple(steps))
