"""Reboots and restarts avoided so far, counted apart, and how long each fix took to arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from hotmend.servicing.facts import Linux, Windows
from hotmend.servicing.products import Channel
from hotmend.servicing.releases import Calendar, Release


@dataclass(frozen=True, slots=True)
class Exposure:
    """How long a fix took from its publication to memory.

    Attributes:
        id: of the update.
        published, installed: the two days.
        days: between them.
    """

    id: str
    published: date
    installed: date
    days: int


@dataclass(frozen=True, slots=True)
class Avoided:
    """What hotpatching has saved a machine, by its history.

    Attributes:
        reboots: months of which a hotpatch was installed: each month's regular update would have needed a reboot.
        restarts: of services, that hotpatches stood in for. None is known on Windows.
        reboots_had: updates in the history that needed one.
        uncounted: hotpatches of which it is not known which services they concerned.
        exposures: newest first.
        complete: the history was read; without that nothing is claimed.
    """

    reboots: int
    restarts: int
    reboots_had: int
    uncounted: int
    exposures: tuple[Exposure, ...]
    complete: bool


def windows_avoided(windows: Windows, channel: Channel, calendar: Calendar) -> Avoided:
    """Return what a Windows machine was spared."""
    if windows.updates is None:
        return Avoided(0, 0, 0, 0, (), complete=False)
    found = [
        (calendar.find(channel.name, update.kb), update.installed_at)
        for update in windows.updates
        if update.state == "installed"
    ]
    known = [(release, when) for release, when in found if release is not None]
    hotpatched = {release.month for release, _ in known if release.kind.is_hotpatch}
    rebooted = {release.month for release, _ in known if not release.kind.is_hotpatch}
    exposures = _exposures((release, when.date()) for release, when in known if when is not None)
    return Avoided(
        # A month in which the machine rebooted for a regular update anyway was not spared one.
        reboots=len(hotpatched - rebooted),
        restarts=0,
        reboots_had=sum(release.reboot is not False for release, _ in known),
        uncounted=0,
        exposures=exposures,
        complete=True,
    )


def _exposures(installed: Iterable[tuple[Release, date]]) -> tuple[Exposure, ...]:
    found = [
        Exposure(release.id, release.published, when, (when - release.published).days)
        for release, when in installed
        if release.published is not None and when >= release.published
    ]
    return tuple(sorted(found, key=lambda each: (each.published, each.id), reverse=True))


def linux_avoided(linux: Linux) -> Avoided:
    """Return what a Linux machine was spared: restarts of services alone. Kernels are not hot-patched yet."""
    if linux.hotpatches is None:
        return Avoided(0, 0, 0, 0, (), complete=False)
    units = sum(len(set(hotpatch.units)) for hotpatch in linux.hotpatches if hotpatch.units is not None)
    return Avoided(
        reboots=0,
        restarts=units,
        reboots_had=0,
        uncounted=sum(hotpatch.units is None for hotpatch in linux.hotpatches),
        exposures=(),
        complete=True,
    )
