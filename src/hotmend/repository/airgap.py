"""A repository in one file, for machines that no network reaches: what is in force and nothing older."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hotmend.model.errors import InputError
from hotmend.repository import layout
from hotmend.repository.archive import archive_write
from hotmend.repository.layout import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Tier
from hotmend.repository.state import PUBLIC, State, metadata_name, state_load, target_name
from hotmend.repository.store import Store


def airgap_write(store: Store, path: Path, channels: tuple[str, ...], tiers: tuple[Tier, ...]) -> int:
    """Write channels and tiers of a repository to `path`; return how many files are in it.

    Nothing is signed anew: a client checks it as it checks a mirror, and it expires as the mirror does.

    Args:
        store: the repository's folder.
        path: where to.
        channels: names; empty for all.
        tiers: which of their tiers.

    Raises:
        InputError: there is no such channel, or files are missing.
        HotmendError: it cannot be written.
    """
    state = state_load(store)
    if state is None or state.torn:
        raise InputError("there is nothing in force that could be taken along")
    unknown = set(channels) - set(state.channels)
    if unknown:
        raise InputError(f"there is no channel {min(unknown)}", f"channels: {', '.join(state.channels)}")
    roles = tuple(layout.tier_role(channel, tier) for channel in channels or state.channels for tier in tiers)
    files = tuple(_files(state, roles))
    prefix = f"{PUBLIC}/"
    archive_write(path, ((name.removeprefix(prefix), store.read(name, limit)) for name, limit in files))
    return len(files)


def _files(state: State, roles: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Yield names and sizes at most, in the order in which a client wants them."""
    for number in range(1, len(state.roots) + 1):
        yield metadata_name(ROOT, number), layout.ROOT_BYTES_MAX
    for role in (TIMESTAMP, SNAPSHOT, TARGETS, *roles):
        yield metadata_name(role, state.role(role).signed.version), len(state.files[role])
    for role in roles:
        for path, target in state.delegated[role].signed.targets.items():
            yield target_name(path, target.hashes["sha256"]), target.length
