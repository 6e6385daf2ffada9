"""Names and limits that publisher and client share: roles, paths of targets, sizes, how long signatures last.

One repository serves any number of channels. `targets` (offline) says nothing but who may sign for which folder:

    targets            keys offline          delegates only
      stable.CHANNEL   keys offline          CHANNEL/stable/*
      canary.CHANNEL   a key on the build host   CHANNEL/canary/*

A machine of the stable tier asks for paths below `CHANNEL/stable/` alone, and the canary role is not asked about them.
Each folder has `index.json` (all releases in short), `ID.release.json` (one in full), the hotpatch bundles, and beside
some of them a *delta*: the same hotpatches, compressed against the old images (`package.delta`).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from hotmend.model.errors import UsageError

ROOT: Final = "root"
TARGETS: Final = "targets"
SNAPSHOT: Final = "snapshot"
TIMESTAMP: Final = "timestamp"

METADATA_FOLDER: Final = "metadata"
TARGETS_FOLDER: Final = "targets"

DELTA_SUFFIX: Final = ".delta"

ROOT_BYTES_MAX: Final = 512 << 10
TIMESTAMP_BYTES_MAX: Final = 16 << 10
SNAPSHOT_BYTES_MAX: Final = 2 << 20
TARGETS_BYTES_MAX: Final = 8 << 20
"""Longest metadata of one role: some 20,000 files."""
INDEX_BYTES_MAX: Final = 16 << 20
DOCUMENT_BYTES_MAX: Final = 64 << 20
"""Longest release in full; the manifest of a distribution with 60,000 packages has some 20 MiB."""
ROOT_ROTATIONS_MAX: Final = 256
DELEGATIONS_MAX: Final = 8
"""Most roles that looking a path up may visit; a well-formed repository needs two."""

ALERT_DAYS: Final = 14
"""What expires within that time raises an alert."""

DAYS: Final = {ROOT: 365, TARGETS: 180, "stable": 60, "canary": 30, SNAPSHOT: 14, TIMESTAMP: 7}
"""How long signatures last, by role or tier. The last is for how long a mirror can hold back news unnoticed."""

_CHANNEL: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")


class Tier(StrEnum):
    """Who gets a release."""

    CANARY = "canary"
    STABLE = "stable"


def check_channel(name: str) -> str:
    """Return the name of a channel.

    Raises:
        UsageError: it cannot be one.
    """
    if not _CHANNEL.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a channel", "small letters, digits, dots and dashes, up to 40")
    return name


def tier_role(channel: str, tier: Tier) -> str:
    """Return the role that signs for a tier of a channel."""
    return f"{tier}.{channel}"


def role_tier(role: str) -> tuple[Tier, str] | None:
    """Return tier and channel of a delegated role, None for another."""
    tier, dot, channel = role.partition(".")
    return (Tier(tier), channel) if dot and tier in Tier.__members__.values() else None


def folder(channel: str, tier: Tier) -> str:
    """Return the folder of a tier, with a slash at its end."""
    return f"{channel}/{tier}/"


def index_path(channel: str, tier: Tier) -> str:
    """Return the target path of the list of releases."""
    return f"{folder(channel, tier)}index.json"


def document_path(channel: str, tier: Tier, identity: str) -> str:
    """Return the target path of one release in full."""
    return f"{folder(channel, tier)}{identity}.release.json"


def file_path(channel: str, tier: Tier, name: str) -> str:
    """Return the target path of a hotpatch bundle."""
    return f"{folder(channel, tier)}{name}"


def delta_path(channel: str, tier: Tier, name: str) -> str:
    """Return the target path of the delta of a bundle of that name."""
    return f"{file_path(channel, tier, name)}{DELTA_SUFFIX}"


def file_name(identity: str, number: int) -> str:
    """Return the name of a release's bundle."""
    return f"{identity}.{number}.hotmend"


def lifetime_days(role: str, days: dict[str, int]) -> int:
    """Return for how long a role's signatures last."""
    found = role_tier(role)
    return days[found[0] if found else role]


def online_roles(channels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the roles that the publishing host signs itself."""
    return (*(tier_role(channel, Tier.CANARY) for channel in channels), SNAPSHOT, TIMESTAMP)
