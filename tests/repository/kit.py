"""A repository with real keys and the real client, in a few lines: what an attack needs to be two lines long."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata

from hotmend.model.verdict import Reason
from hotmend.package.bundle import decompress, pack
from hotmend.package.delta import delta_encode
from hotmend.repository import metadata, requests
from hotmend.repository.bundles import OldImage
from hotmend.repository.client import Channel, open_channel, trust
from hotmend.repository.deltas import Delta
from hotmend.repository.keys import key_generate, public_key_load, signer_load
from hotmend.repository.layout import Tier
from hotmend.repository.making import About, hotpatch_release
from hotmend.repository.metadata import KeySet
from hotmend.repository.publish import Founding, Publisher
from hotmend.repository.releases import Baseline, HotpatchRelease, Manifest, ManifestPackage, ReleaseImage
from hotmend.repository.state import state_load, target_name
from hotmend.repository.store import Disk, Store
from hotmend.repository.waiting import Pending
from tests.hotpatches import sample

CHANNEL = "debian-12"
BASELINE = "2026.10-baseline"
HOTPATCH = "2026.11-server-1.22.1-9-deb12u3"


def no_secret(what: str) -> str:
    raise AssertionError(f"asked for {what}")


@cache
def bundle() -> bytes:
    """Return a bundle with one hotpatch; compressing it takes a while."""
    return pack((sample(),))


@cache
def old_file() -> bytes:
    """Return what stands for the old build of the one image of `bundle()`: it has much in common with the new."""
    return bytes(5000) + decompress(bundle())[512:]


@cache
def delta() -> Delta:
    """Return the delta of `bundle()` against `old_file()`."""
    return Delta(delta_encode(decompress(bundle()), [old_file()]))


def old_image(image: ReleaseImage) -> bytes | None:
    """Return the old file of the image, as a machine that has it does."""
    return old_file() if image.old_build_id == "ab" * 20 else None


def baseline(now: datetime, identity: str = BASELINE) -> Baseline:
    """Return a baseline with two packages."""
    packages = (
        ManifestPackage("server", "1.22.1-9+deb12u2", "amd64", security=True, build_ids=("ab" * 20,)),
        ManifestPackage("tzdata", "2026b-0+deb12u1", "all", security=False),
    )
    manifest = Manifest("bookworm", now, packages)
    return Baseline(1, identity, CHANNEL, "Baseline", now, "security", "unknown", (), "", (), None, manifest)


def hotpatch(now: datetime, identity: str = HOTPATCH, **about: object) -> HotpatchRelease:
    """Return the release of `bundle()`."""
    return hotpatch_release((bundle(),), About(CHANNEL, BASELINE, identity, **about), now)  # type: ignore[arg-type]


@dataclass
class World:
    """A publisher, its signers, and clients.

    Attributes:
        folder: for everything.
        now: the publisher's clock.
        address: where clients look; "" for the folder itself.
    """

    folder: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    clients: int = 0
    keys: Path | None = None
    address: str = ""

    def make_keys(self) -> World:
        for name in ("root1", "root2", "root3", "targets1", "targets2", "stable1", "stable2", "online", "canary"):
            self.make_key(name)
        return self

    def make_key(self, name: str) -> None:
        key_generate(self.key(name))

    def copy(self, folder: Path) -> World:
        """Return the same repository in another folder, with the same keys."""
        shutil.copytree(self.repository, folder / "repository")
        return World(folder, self.now, keys=self.keys or self.folder / "keys")

    def key(self, name: str) -> Path:
        path = (self.keys or self.folder / "keys") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def public(self, *names: str, threshold: int) -> KeySet:
        return KeySet(tuple(public_key_load(Path(f"{self.key(name)}.pub")) for name in names), threshold)

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def mirror(self) -> Path:
        """What a web server would serve."""
        return self.repository / "public"

    def publisher(self, disk: Disk | None = None) -> Publisher:
        return Publisher(self.repository, no_secret, lambda: self.now, disk)

    def founding(self) -> Founding:
        return Founding(
            root=self.public("root1", "root2", "root3", threshold=2),
            targets=self.public("targets1", "targets2", threshold=2),
            stable=self.public("stable1", "stable2", threshold=2),
            online=(str(self.key("online")),),
            canary=(str(self.key("canary")),),
        )

    def found(self) -> World:
        """Make the repository and its first channel."""
        pending = self.publisher().init(CHANNEL, self.founding())
        assert self.sign(pending, "root1", "root2", "targets1", "targets2", "stable1", "stable2") is None
        return self

    def sign(self, pending: Pending | None, *names: str) -> Pending | None:
        """Take the request to the signer, and back."""
        assert pending is not None
        return self.publisher().accept(self.signatures(pending, *names))

    def signatures(self, pending: Pending, *names: str) -> requests.Signatures:
        signers = tuple(signer_load(str(self.key(name)), no_secret) for name in names)
        return requests.sign(pending.path.read_bytes(), signers)

    def fill(self) -> World:
        """Add a baseline and a hotpatch to the canary tier."""
        publisher = self.publisher()
        publisher.add(baseline(self.now), {})
        release = hotpatch(self.now)
        name = release.files[0].name
        publisher.add(release, {name: bundle()}, {name: delta()})
        return self

    def promote(self, *identities: str) -> World:
        """Promote, with the signatures that takes."""
        pending = self.publisher().promote(CHANNEL, identities or (BASELINE, HOTPATCH))
        assert self.sign(pending, "stable1", "stable2") is None
        return self

    def signed(self, unsigned: Metadata[Any], *names: str) -> bytes:
        signers = [signer_load(str(self.key(name)), no_secret) for name in names]
        return metadata.merged(unsigned, [s.sign(unsigned.signed_bytes) for s in signers]).to_bytes()

    @property
    def first_root(self) -> bytes:
        return (self.mirror / "metadata" / "1.root.json").read_bytes()

    def client(self, tier: Tier = Tier.STABLE, old: OldImage | None = None) -> Client:
        """Return a new machine; `old` reads the old images that it has."""
        self.clients += 1
        folder = self.folder / f"client{self.clients}"
        trust(folder, self.first_root)
        return Client(self, folder, tier, old)

    def later(self, **delta: float) -> None:
        self.now += timedelta(**delta)


@dataclass
class Client:
    """One machine: what it has seen stays in its folder."""

    world: World
    folder: Path
    tier: Tier
    old: OldImage | None = None

    def open(self, source: str | Path | None = None) -> Channel | Reason:
        place = str(source or self.world.address or self.world.mirror)
        return open_channel(place, self.folder, CHANNEL, self.tier, old=self.old)

    def channel(self, source: str | Path | None = None) -> Channel:
        opened = self.open(source)
        assert isinstance(opened, Channel), opened
        return opened

    def code(self, source: str | Path | None = None) -> str:
        """Return the code of the refusal that opening the channel must give."""
        opened = self.open(source)
        assert isinstance(opened, Reason), opened
        return opened.code


def forge(world: World, role: str, edit: Callable[[Any], None], *keys: str) -> None:
    """Put a next version of a role in force, signed by `keys`, with snapshot and timestamp by the online key.

    What whoever has these keys can do: no rule of the publisher stands in the way.
    """
    state = state_load(Store(world.repository))
    assert state is not None
    changed: Metadata[Any] = metadata.following(state.role(role), world.now + timedelta(days=30))
    edit(changed.signed)
    data = world.signed(changed, *keys)
    _serve(world, f"{changed.signed.version}.{role}.json", data)
    if role == "root":
        return
    if role == "timestamp":
        _serve(world, "timestamp.json", data)
        return
    roles = {name: content for name, content in state.files.items() if name not in {"snapshot", "timestamp"}}
    expires = world.now + timedelta(days=7)
    snapshot = metadata.snapshot_of(state.snapshot.signed.version + 1, roles | {role: data}, expires)
    snapshot_data = world.signed(snapshot, "online")
    _serve(world, f"{snapshot.signed.version}.snapshot.json", snapshot_data)
    timestamp = metadata.timestamp_of(state.timestamp.signed.version + 1, snapshot_data, expires)
    _serve(world, "timestamp.json", world.signed(timestamp, "online"))


def _serve(world: World, name: str, data: bytes) -> None:
    (world.mirror / "metadata" / name).write_bytes(data)


def target_file(world: World, path: str) -> Path:
    """Return the file of a target that is in force."""
    state = state_load(Store(world.repository))
    assert state is not None
    for role in state.delegated.values():
        if path in role.signed.targets:
            return world.repository / target_name(path, role.signed.targets[path].hashes["sha256"])
    raise AssertionError(path)
