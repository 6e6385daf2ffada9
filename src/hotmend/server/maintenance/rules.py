"""Whether machines may do more by one configuration than by another: rules without I/O."""

from __future__ import annotations

from typing import Final

from hotmend.servicing.maintenance import Policy
from hotmend.wire.maintenance import ConfigurationWanted, FreezeWanted

MODES: Final = ("observe", "notify", "download", "automatic")
REBOOTS: Final = ("never", "if-required", "always")
_USUAL: Final = frozenset(Policy().classifications)


def widened(before: ConfigurationWanted, after: ConfigurationWanted) -> tuple[str, ...]:
    """Return the fields by which machines may do more than before; what cannot be compared counts as more.

    Windows are compared by what they say and not by the times that they stand for: only one that was there already, in
    the same zone, opens nothing new.
    """
    more = {
        "mode": MODES.index(after.mode) > MODES.index(before.mode),
        "restart": after.restart and not before.restart,
        "reboot": REBOOTS.index(after.reboot) > REBOOTS.index(before.reboot),
        "windows": _opened(before, after),
        "freezes": thawed(before.freezes, after.freezes),
        "event_minutes": bool(before.event_minutes and not after.event_minutes),
        "slots": bool(before.slots and (not after.slots or after.slots > before.slots)),
        "classifications": not _classes(after) <= _classes(before),
        "include": not set(after.include) <= set(before.include),
        "exclude": not set(before.exclude) <= set(after.exclude),
    }
    return tuple(name for name, is_so in more.items() if is_so)


def thawed(before: dict[str, FreezeWanted], after: dict[str, FreezeWanted]) -> bool:
    """Say whether a day may be free that was frozen."""
    return not all(any(_covers(each, freeze) for each in after.values()) for freeze in before.values())


def _opened(before: ConfigurationWanted, after: ConfigurationWanted) -> bool:
    if before.windows == after.windows:
        return before.zone != after.zone
    if not before.windows or not after.windows:  # none is the off-peak hours
        return True
    return before.zone != after.zone or not all(window in before.windows for window in after.windows)


def _covers(after: FreezeWanted, before: FreezeWanted) -> bool:
    if after.yearly != before.yearly:
        return False
    return after.first <= before.first and before.last <= after.last


def _classes(wanted: ConfigurationWanted) -> frozenset[str]:
    return frozenset(wanted.classifications) or _USUAL
