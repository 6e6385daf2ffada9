"""What a repository's files say now, read from disk and checked from the root on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from hotmend.model.errors import InputError
from hotmend.repository import layout, metadata
from hotmend.repository.layout import ROOT, SNAPSHOT, TARGETS, TIMESTAMP
from hotmend.repository.store import Store

PUBLIC: Final = "public"
"""The folder that a web server serves."""
SETTINGS_NAME: Final = "settings.json"
SETTINGS_BYTES_MAX: Final = 1 << 20


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The publishing host's own settings; no secret, and nothing that a client believes.

    Attributes:
        signers: role that is signed here to references of its keys (`keys`).
        days: how long signatures last.
    """

    format: Literal[1] = 1
    signers: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    days: dict[str, Annotated[int, Meta(ge=1, le=3650)]] = msgspec.field(default_factory=lambda: dict(layout.DAYS))


@dataclass(frozen=True, slots=True)
class State:
    """Signed metadata in force.

    Attributes:
        roots: all versions of the root, as files; the last is `root`.
        root, targets, snapshot, timestamp: the top-level roles.
        delegated: the tiers' roles, by name.
        files: role to the bytes of its file: targets, the tiers, snapshot, timestamp.
        torn: a publisher died between writing a root and what it signs, where both could not be valid at once; the
            root before it says who signed the rest. Accepting the request again, or a refresh, mends it.
    """

    roots: tuple[bytes, ...]
    root: Metadata[Root]
    targets: Metadata[Targets]
    delegated: Mapping[str, Metadata[Targets]]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]
    files: Mapping[str, bytes]
    torn: bool = False

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return metadata.channels_of(self.targets)

    def role(self, name: str) -> Metadata[Any]:
        """Return a role's metadata.

        Raises:
            InputError: there is no such role.
        """
        top: dict[str, Metadata[Any]] = {
            ROOT: self.root,
            TARGETS: self.targets,
            SNAPSHOT: self.snapshot,
            TIMESTAMP: self.timestamp,
        }
        found = top.get(name) or self.delegated.get(name)
        if found is None:
            raise InputError(f"there is no role {name}", f"roles: {', '.join((*top, *self.delegated))}")
        return found

    def delegator(self, name: str) -> Metadata[Root] | Metadata[Targets]:
        """Return the metadata that says who signs for a role."""
        return self.targets if layout.role_tier(name) else self.root


def settings_load(store: Store) -> Settings:
    """Return the settings; those of a new repository where there are none.

    Raises:
        InputError: the file is damaged.
    """
    if not store.exists(SETTINGS_NAME):
        return Settings()
    data = store.read(SETTINGS_NAME, SETTINGS_BYTES_MAX)
    try:
        settings = msgspec.json.decode(data, type=Settings)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InputError(f"{store.root / SETTINGS_NAME}: {error}") from None
    if settings.days.keys() != layout.DAYS.keys():
        raise InputError(f"{store.root / SETTINGS_NAME}: `days` needs {', '.join(layout.DAYS)}")
    return settings


def settings_write(store: Store, settings: Settings) -> None:
    """Write the settings."""
    store.write(SETTINGS_NAME, msgspec.json.format(msgspec.json.encode(settings)) + b"\n")


def metadata_name(role: str, version: int) -> str:
    """Return the file of a role's version below the repository's folder; the timestamp has one name for all."""
    file = f"{TIMESTAMP}.json" if role == TIMESTAMP else f"{version}.{role}.json"
    return f"{PUBLIC}/{layout.METADATA_FOLDER}/{file}"


def target_name(path: str, sha256: str) -> str:
    """Return the file of a target below the repository's folder: content decides the name."""
    folder, _, name = path.rpartition("/")
    return f"{PUBLIC}/{layout.TARGETS_FOLDER}/{folder}/{sha256}.{name}"


def state_load(store: Store) -> State | None:
    """Return what is in force, None where nothing has been published yet.

    Raises:
        InputError: files are missing or damaged, or not signed by whom they have to be.
    """
    roots = _roots_load(store)
    if not roots:
        return None
    root = metadata.parse(roots[-1], Root, ROOT)
    try:
        return _below_load(store, roots, root)
    except InputError:
        if len(roots) == 1:
            raise
        before = _below_load(store, roots, metadata.parse(roots[-2], Root, ROOT))
        return replace(before, root=root, torn=True)


def _below_load(store: Store, roots: tuple[bytes, ...], root: Metadata[Root]) -> State:
    """Return the state in which all other roles are signed as `root` says."""
    files = {TIMESTAMP: store.read(metadata_name(TIMESTAMP, 0), layout.TIMESTAMP_BYTES_MAX)}
    timestamp = metadata.parse(files[TIMESTAMP], Timestamp, TIMESTAMP)
    metadata.check_signed(root, TIMESTAMP, timestamp)
    version = timestamp.signed.snapshot_meta.version
    files[SNAPSHOT] = store.read(metadata_name(SNAPSHOT, version), layout.SNAPSHOT_BYTES_MAX)
    snapshot = metadata.parse(files[SNAPSHOT], Snapshot, SNAPSHOT)
    metadata.check_signed(root, SNAPSHOT, snapshot)
    targets = _role_load(store, root, snapshot, TARGETS, files)
    names = metadata.delegated_roles(targets)
    delegated = {name: _role_load(store, targets, snapshot, name, files) for name in names}
    return State(roots, root, targets, delegated, snapshot, timestamp, files)


def check_roots(roots: tuple[bytes, ...]) -> Metadata[Root]:
    """Return the last of a chain of roots, each signed as the one before it asks for.

    Raises:
        InputError: the chain is empty or broken.
    """
    before: Metadata[Root] | None = None
    for number, data in enumerate(roots, 1):
        root = metadata.parse(data, Root, f"root {number}")
        if root.signed.version != number:
            raise InputError(f"root {number}: says that it is version {root.signed.version}")
        for delegator in (before, root):
            if delegator is not None:
                metadata.check_signed(delegator, ROOT, root)
        before = root
    if before is None:
        raise InputError("there is no root")
    return before


def _roots_load(store: Store) -> tuple[bytes, ...]:
    roots: list[bytes] = []
    while store.exists(metadata_name(ROOT, len(roots) + 1)):
        roots.append(store.read(metadata_name(ROOT, len(roots) + 1), layout.ROOT_BYTES_MAX))
    if roots:
        check_roots(tuple(roots))
    return tuple(roots)


def _role_load(
    store: Store,
    delegator: Metadata[Root] | Metadata[Targets],
    snapshot: Metadata[Snapshot],
    role: str,
    files: dict[str, bytes],
) -> Metadata[Targets]:
    meta = snapshot.signed.meta.get(f"{role}.json")
    if meta is None:
        raise InputError(f"the snapshot does not name {role}")
    files[role] = store.read(metadata_name(role, meta.version), layout.TARGETS_BYTES_MAX)
    found = metadata.parse(files[role], Targets, role)
    metadata.check_signed(delegator, role, found)
    return found
