"""All that a channel offers, verified by the client, in short."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hotmend.model.verdict import Reason
from hotmend.repository.client import open_channel
from hotmend.repository.layout import Tier
from hotmend.repository.releases import AnyRelease, Baseline
from hotmend.wire.catalogue import Offered


def catalogue(source: str, folder: Path, channel: str, tier: Tier) -> list[Offered] | Reason:
    """Return what a channel offers to a tier now, or why it cannot be believed.

    Documents that were fetched before are not fetched again; hotpatches are not fetched at all.

    Raises:
        HotmendError: as `client.open_channel`.
    """
    opened = open_channel(source, folder, channel, tier)
    if isinstance(opened, Reason):
        return opened
    found = []
    for entry in opened.index.releases:
        release = opened.release(entry.id)
        if isinstance(release, Reason):
            return release
        found.append(_offered(release, entry.kind))
    return found


def _offered(release: AnyRelease, kind: str) -> Offered:
    packages = () if isinstance(release, Baseline) else release.packages
    return Offered(
        release.id,
        kind,
        release.title,
        release.made,
        release.classification,
        release.urgency,
        "" if isinstance(release, Baseline) else release.requires,
        list(release.cves),
        [(each.name, each.old_version, each.new_version) for each in packages],
        msgspec.to_builtins(release.known_issues),
        release.withdrawn.reason if release.withdrawn is not None else None,
    )
