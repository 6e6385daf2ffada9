"""The part of the agent that has a network: it copies what concerns this machine, and is believed nothing."""

from __future__ import annotations

import contextlib
from typing import Final

from hotmend.agent.apt.installed import dpkg_query
from hotmend.agent.configuration import ChannelSource
from hotmend.agent.old_images import OldBuilds, delta_will_do, read_old_builds
from hotmend.agent.owner import as_owner
from hotmend.agent.paths import Places
from hotmend.agent.sources import newest_baselines, newest_standing, newest_withdrawn
from hotmend.model.errors import HotmendError
from hotmend.model.verdict import Reason
from hotmend.repository.bundles import Arrival
from hotmend.repository.client import Channel, open_channel, trust
from hotmend.repository.layout import Tier
from hotmend.repository.refusal import unless_refused
from hotmend.repository.releases import HotpatchRelease, ReleaseFile

_STATE: Final = "state"


def trust_root(places: Places, root: bytes) -> None:
    """Make a root what both parts of the agent begin with; it has to come by a way that is trusted.

    Raises:
        UsageError: one of them trusts another root already.
        InputError: no root, or one that its own keys have not signed.
        OSError: a folder cannot be written.
    """
    trust(places.channel, root)
    places.mirror.mkdir(parents=True, exist_ok=True)
    with as_owner(places.mirror):  # whoever the folder was given to writes there
        trust(places.mirror / _STATE, root)


def copy_channel(channel: ChannelSource, places: Places) -> tuple[Arrival, ...]:
    """Copy what a channel offers for the packages of this machine; return what came of each bundle, and how.

    Of a bundle with a delta that will do, the delta is copied and the bundle is not.

    Args:
        channel: which.
        places: where the copy goes.

    Raises:
        HotmendError: it cannot be reached, or is refused.
        UsageError: no root is trusted yet.
    """
    state = places.mirror / _STATE
    opened = unless_refused(
        open_channel(channel.address, state, channel.name, Tier(channel.tier), keep=places.mirror_copy)
    )
    installed = frozenset(dpkg_query("--show", "--showformat=${Package}\\n").split())
    told = read_old_builds(places)
    for entry in opened.index.in_force:
        release = unless_refused(opened.release(entry.id))
        for file in release.files if isinstance(release, HotpatchRelease) else ():
            if any(image.package in installed for image in file.images):
                _copy_bundle(opened, file, told)
    for identity in (*newest_baselines(opened.index), *(entry.id for entry in newest_withdrawn(opened.index))):
        unless_refused(opened.release(identity))
    for identity in newest_standing(opened.index):
        with contextlib.suppress(HotmendError):  # for their known issues alone
            opened.release(identity)
    opened.kept()
    return opened.arrivals


def _copy_bundle(opened: Channel, file: ReleaseFile, told: OldBuilds) -> None:
    """Copy a bundle or its delta. Whatever is wrong with the delta, the bundle can be had instead."""
    if not opened.has(file) and delta_will_do(opened.against(file), file.name, told):
        with contextlib.suppress(HotmendError):
            if not isinstance(opened.carry(file), Reason):
                return
    unless_refused(opened.bundle(file))
