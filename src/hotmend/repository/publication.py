"""From one state of a repository to the next, with nothing half published in between.

The order of writing is what makes it so: files of targets (named by their content), metadata (named by its version),
then `timestamp.json`, by a rename. Only then does anything refer to what was written before, and until then it is as if
it were not there. A new root has a name of its own that clients look for, so it comes last, and what it signs is signed
for the root before it as well. Where the keys for that are gone, the root comes first, and clients refuse everything
until the timestamp is there, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tuf.api.metadata import Metadata, Root, Targets

from hotmend.model.errors import InputError
from hotmend.repository import layout, metadata
from hotmend.repository.layout import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Tier
from hotmend.repository.signing import Delegator, OnlineSigners
from hotmend.repository.state import State, metadata_name, target_name
from hotmend.repository.store import Store
from hotmend.repository.tiers import Content, content_files, files_of


@dataclass(frozen=True, slots=True)
class Change:
    """What is new.

    Attributes:
        root: a new root, signed.
        roles: targets and tiers, signed.
        files: target path to content.
    """

    root: Metadata[Root] | None = None
    roles: Mapping[str, Metadata[Targets]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Next:
    """The next state while it is put together: `written` is file name to content, in the order of writing."""

    root: Metadata[Root]
    delegators: tuple[Metadata[Root], ...]
    targets: Metadata[Targets]
    roles: dict[str, Metadata[Targets]]
    files: dict[str, bytes]
    role_files: dict[str, bytes] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)


def publish(
    store: Store, state: State | None, change: Change, signers: OnlineSigners, days: dict[str, int], now: datetime
) -> None:
    """Put the next state in force.

    Raises:
        InputError: it would not verify; nothing has been written.
        HotmendError: writing failed; what was in force still is.
    """
    following = _begin(state, change)
    _complete_tiers(following, state, signers, days, now)
    _encode_roles(following, state)
    _encode_top(following, state, signers, days, now)
    _check_files(store, following)
    _write(store, following, change, state)


def _begin(state: State | None, change: Change) -> _Next:
    root = change.root or (state.root if state else None)
    targets = change.roles.get(TARGETS) or (state.targets if state else None)
    if root is None or targets is None:
        raise InputError("a new repository needs a root and a targets role")
    before = state.root if state else None
    if change.root is not None:
        for delegator in (before, root):
            if delegator is not None:
                metadata.check_signed(delegator, ROOT, root)
    delegators = (root, before) if before is not None and change.root is not None else (root,)
    roles = {**(state.delegated if state else {}), **change.roles}
    roles.pop(TARGETS, None)
    return _Next(root, delegators, targets, roles, dict(change.files))


def _complete_tiers(
    following: _Next, state: State | None, signers: OnlineSigners, days: dict[str, int], now: datetime
) -> None:
    """Make the canary roles that are new, and sign anew those whose keys have changed."""
    before: tuple[Delegator, ...] = (state.targets,) if state else ()
    for name in metadata.delegated_roles(following.targets):
        current = following.roles.get(name)
        if current is not None and not metadata.standing(following.targets, name, current).missing:
            continue
        where = layout.role_tier(name)
        if where is None or where[0] is not Tier.CANARY:
            raise InputError(f"{name}: is not signed as the targets role says")
        expires = metadata.expires_at(name, days, now)
        if current is None:
            empty = Content(where[1], where[0])
            first = metadata.targets_first(expires)
            unsigned = metadata.with_files(first, files_of(empty, first, {}))
            following.files |= content_files(empty, {})
        else:
            unsigned = metadata.following(current, expires)
        following.roles[name] = signers.sign(name, unsigned, (following.targets, *before))


def _encode_roles(following: _Next, state: State | None) -> None:
    """Give each role its file: the one there is, where nothing changed."""
    metadata.check_signed(following.root, TARGETS, following.targets)
    for name, role in {TARGETS: following.targets, **following.roles}.items():
        if name != TARGETS:
            metadata.check_signed(following.targets, name, role)
        old = state.files.get(name) if state else None
        same = old is not None and state is not None and state.role(name) == role
        data = old if same and old is not None else role.to_bytes()
        following.role_files[name] = data
        if not same:
            following.written[metadata_name(name, role.signed.version)] = data


def _encode_top(
    following: _Next, state: State | None, signers: OnlineSigners, days: dict[str, int], now: datetime
) -> None:
    snapshot, changed = _snapshot(following, state, signers, days, now)
    if changed:
        version = metadata.version_of(snapshot)
        following.written[metadata_name(SNAPSHOT, version)] = snapshot
    version = state.timestamp.signed.version + 1 if state else 1
    timestamp = metadata.timestamp_of(version, snapshot, metadata.expires_at(TIMESTAMP, days, now))
    signed = signers.sign(TIMESTAMP, timestamp, following.delegators)
    following.written[metadata_name(TIMESTAMP, version)] = signed.to_bytes()


def _snapshot(
    following: _Next, state: State | None, signers: OnlineSigners, days: dict[str, int], now: datetime
) -> tuple[bytes, bool]:
    """Return the snapshot's file, and whether it is a new one."""
    if state is not None and not following.written:
        valid = all(not metadata.standing(d, SNAPSHOT, state.snapshot).missing for d in following.delegators)
        fresh = (state.snapshot.signed.expires - now).days * 2 > days[SNAPSHOT]
        if valid and fresh:
            return state.files[SNAPSHOT], False
    version = state.snapshot.signed.version + 1 if state else 1
    expires = metadata.expires_at(SNAPSHOT, days, now)
    snapshot = metadata.snapshot_of(version, following.role_files, expires)
    return signers.sign(SNAPSHOT, snapshot, following.delegators).to_bytes(), True


def _check_files(store: Store, following: _Next) -> None:
    """Every file that a role names is there, or comes along."""
    for role in following.roles.values():
        for path, target in role.signed.targets.items():
            if path in following.files and metadata.is_file(target, following.files[path]):
                continue
            if not store.exists(target_name(path, target.hashes["sha256"])):
                raise InputError(f"{path}: is named by the metadata and is not there")


def _write(store: Store, following: _Next, change: Change, state: State | None) -> None:
    wanted = {path for role in following.roles.values() for path in role.signed.targets}
    for path, data in following.files.items():
        if path in wanted:
            name = target_name(path, metadata.target_of(path, data).hashes["sha256"])
            if not store.exists(name):
                store.write(name, data)
    root = change.root.to_bytes() if change.root else None
    root_first = root is not None and state is not None and not _both_valid(following)
    root_name = metadata_name(ROOT, following.root.signed.version)
    timestamp_name = metadata_name(TIMESTAMP, 0)
    for name, data in following.written.items():
        if name != timestamp_name:
            store.write(name, data)
    if root is not None and root_first:
        store.write(root_name, root)
    store.write(timestamp_name, following.written[timestamp_name])
    if root is not None and not root_first:
        store.write(root_name, root)


def _both_valid(following: _Next) -> bool:
    """Return whether a client with the root before can follow as well."""
    before = following.delegators[-1]
    timestamp = metadata.parse_any(following.written[metadata_name(TIMESTAMP, 0)])
    snapshots = [data for name, data in following.written.items() if name.endswith(f".{SNAPSHOT}.json")]
    roles = [(TIMESTAMP, timestamp), *((SNAPSHOT, metadata.parse_any(data)) for data in snapshots)]
    roles.append((TARGETS, following.targets))
    return all(not metadata.standing(before, role, found).missing for role, found in roles)
