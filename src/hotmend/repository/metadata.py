"""TUF metadata as values: made, changed, checked. Bytes and objects in, objects out; no files, no keys, no clock.

What is returned is always a copy without signatures and one version on; nothing that was given is changed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from securesystemslib.signer import Key, Signature
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    T,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from hotmend.model.errors import InputError
from hotmend.repository import layout
from hotmend.repository.layout import ROOT, SNAPSHOT, TIMESTAMP, Tier


@dataclass(frozen=True, slots=True)
class KeySet:
    """Who may sign for a role: these keys, `threshold` of them together."""

    keys: tuple[Key, ...]
    threshold: int

    @property
    def ids(self) -> frozenset[str]:
        """Ids of the keys."""
        return frozenset(key.keyid for key in self.keys)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a role's signatures have come: ids of keys that signed, and how many more are needed."""

    signed: frozenset[str]
    missing: int


def parse(data: bytes, kind: type[T], source: str) -> Metadata[T]:
    """Return the metadata of one role.

    Raises:
        InputError: not metadata, or of another kind of role.
    """
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except (DeserializationError, RecursionError) as error:
        raise InputError(f"{source}: no TUF metadata: {error.__cause__ or error}") from None
    if not isinstance(metadata.signed, kind):
        raise InputError(f"{source}: metadata of kind {metadata.signed.type}, not {kind.type}")
    return metadata


def parse_any(data: bytes) -> Metadata[Any]:
    """Return metadata of any role that was made here."""
    return Metadata.from_bytes(data)


def version_of(data: bytes) -> int:
    """Return the version of metadata that was made here."""
    return int(parse_any(data).signed.version)


def root_first(keys: Mapping[str, KeySet], expires: datetime) -> Metadata[Root]:
    """Return version 1 of the root: `keys` for root, targets, snapshot and timestamp."""
    root = Root(version=1, expires=expires, consistent_snapshot=True)
    for role, key_set in keys.items():
        _fill(root.roles[role], root.keys, key_set)
    return Metadata(root)


def targets_first(expires: datetime) -> Metadata[Targets]:
    """Return version 1 of a role without files."""
    return Metadata(Targets(version=1, expires=expires))


def following(current: Metadata[T], expires: datetime) -> Metadata[T]:
    """Return the next version of a role with the same content, unsigned."""
    signed = copy.deepcopy(current.signed)
    signed.version += 1
    signed.expires = expires
    return Metadata(signed)


def delegated(targets: Metadata[Targets], channel: str, tier: Tier, key_set: KeySet) -> Metadata[Targets]:
    """Return `targets` with a tier of a channel delegated to `key_set`, in place of who had it; same version."""
    signed = copy.deepcopy(targets.signed)
    name = layout.tier_role(channel, tier)
    delegations = signed.delegations or Delegations({}, {})
    roles = dict(delegations.roles or {})
    role = roles.get(name) or DelegatedRole(name, [], 1, True, [f"{layout.folder(channel, tier)}*"])
    roles[name] = role
    _fill(role, delegations.keys, key_set)
    signed.delegations = Delegations(_used(delegations.keys, roles.values()), roles)
    return Metadata(signed)


def rekeyed(root: Metadata[Root], role: str, key_set: KeySet) -> Metadata[Root]:
    """Return `root` with other keys for a top-level role; same version."""
    signed = copy.deepcopy(root.signed)
    _fill(signed.roles[role], signed.keys, key_set)
    signed.keys = _used(signed.keys, signed.roles.values())
    return Metadata(signed)


def with_files(role: Metadata[Targets], files: Mapping[str, TargetFile]) -> Metadata[Targets]:
    """Return the role with exactly these files; same version."""
    signed = copy.deepcopy(role.signed)
    signed.targets = dict(sorted(files.items()))
    return Metadata(signed)


def target_of(path: str, data: bytes) -> TargetFile:
    """Return what metadata says of a file."""
    return TargetFile.from_data(path, data, ["sha256"])


def is_file(target: TargetFile, data: bytes) -> bool:
    """Return whether `data` are the file that metadata name; what else they say of it does not matter."""
    found = target_of(target.path, data)
    return (found.length, found.hashes) == (target.length, target.hashes)


def snapshot_of(version: int, roles: Mapping[str, bytes], expires: datetime) -> Metadata[Snapshot]:
    """Return the snapshot of all targets roles, each given as the bytes of its file.

    Length and hash stand there, so that no two states can be mixed.
    """
    meta = {}
    for role, data in sorted(roles.items()):
        number = parse(data, Targets, role).signed.version
        meta[f"{role}.json"] = MetaFile.from_data(number, data, ["sha256"])
    return Metadata(Snapshot(version=version, expires=expires, meta=meta))


def timestamp_of(version: int, snapshot: bytes, expires: datetime) -> Metadata[Timestamp]:
    """Return the timestamp that names a snapshot, given as the bytes of its file."""
    number = parse(snapshot, Snapshot, SNAPSHOT).signed.version
    return Metadata(
        Timestamp(version=version, expires=expires, snapshot_meta=MetaFile.from_data(number, snapshot, ["sha256"]))
    )


def key_set_of(delegator: Metadata[Root] | Metadata[Targets], role: str) -> KeySet:
    """Return who may sign for a role.

    Raises:
        InputError: the delegator does not know it.
    """
    signed = delegator.signed
    try:
        found = signed.get_delegated_role(role)
        return KeySet(tuple(signed.get_key(keyid) for keyid in found.keyids), found.threshold)
    except ValueError as error:
        raise InputError(f"there is no role {role}: {error}") from None


def standing(delegator: Metadata[Root] | Metadata[Targets], role: str, metadata: Metadata[Any]) -> Standing:
    """Return how many valid signatures a role's metadata has by what `delegator` says."""
    result = delegator.signed.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    return Standing(frozenset(result.signed), result.missing)


def check_signed(delegator: Metadata[Root] | Metadata[Targets], role: str, metadata: Metadata[Any]) -> None:
    """Raise InputError unless enough keys have signed."""
    try:
        delegator.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise InputError(f"{role}: {error}") from None


def merged(metadata: Metadata[T], signatures: Iterable[Signature]) -> Metadata[T]:
    """Return the metadata with more signatures."""
    return Metadata(metadata.signed, {**metadata.signatures, **{s.keyid: s for s in signatures}})


def channels_of(targets: Metadata[Targets]) -> tuple[str, ...]:
    """Return the channels that are delegated, sorted."""
    delegations = targets.signed.delegations
    found = (layout.role_tier(name) for name in (delegations.roles or {} if delegations else {}))
    return tuple(sorted({pair[1] for pair in found if pair}))


def delegated_roles(targets: Metadata[Root] | Metadata[Targets]) -> tuple[str, ...]:
    """Return the names of all delegated roles; a root delegates none of that kind."""
    delegations = targets.signed.delegations if isinstance(targets.signed, Targets) else None
    return tuple(delegations.roles or {}) if delegations else ()


def kind_of(role: str) -> type[Signed]:
    """Return the class of a role's metadata."""
    kinds: dict[str, type[Signed]] = {ROOT: Root, SNAPSHOT: Snapshot, TIMESTAMP: Timestamp}
    return kinds.get(role, Targets)


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a role's signatures end.

    Attributes:
        role, version: which.
        expires: when.
        alert: soon, or already over.
    """

    role: str
    version: int
    expires: datetime
    alert: bool


def expiry_of(role: str, metadata: Metadata[Any], days: dict[str, int], now: datetime) -> Expiry:
    """Return when a role expires, and whether that is soon.

    Soon are `ALERT_DAYS`, or half of the lifetime for signatures that are always short and renewed by a timer.
    """
    limit = min(timedelta(days=layout.ALERT_DAYS), timedelta(days=layout.lifetime_days(role, days)) / 2)
    expires = metadata.signed.expires
    return Expiry(role, metadata.signed.version, expires, expires - now <= limit)


def expires_at(role: str, days: dict[str, int], now: datetime) -> datetime:
    """Return when signatures made now end."""
    return now.astimezone(UTC).replace(microsecond=0) + timedelta(days=layout.lifetime_days(role, days))


def _fill(role: Role, keys: dict[str, Key], key_set: KeySet) -> None:
    role.keyids = [key.keyid for key in key_set.keys]
    role.threshold = key_set.threshold
    keys.update({key.keyid: key for key in key_set.keys})


def _used(keys: dict[str, Key], roles: Iterable[Role]) -> dict[str, Key]:
    wanted = {keyid for role in roles for keyid in role.keyids}
    return {keyid: key for keyid, key in keys.items() if keyid in wanted}
