"""The client: from an address that nobody trusts to releases and hotpatches that the right keys have signed.

TUF's own client (`tuf.ngclient`) does the verifying and keeps on disk what protects against going back. Here are the
limits, what its errors mean for an operator, and the checks behind it: that index, release and bundle say the same of
one another. Everything that is refused is a `Reason`; exceptions are for what could not be read or reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, ParamSpec, TypeVar

import msgspec
from msgspec import Meta
from tuf.api.metadata import Root
from tuf.ngclient import Updater, UpdaterConfig

from hotmend.model.errors import HotmendError, InputError, UsageError
from hotmend.model.hotpatch import Hotpatch
from hotmend.model.verdict import Reason
from hotmend.repository import layout, metadata
from hotmend.repository.bundles import Arrival, Bundles, OldImage
from hotmend.repository.deltas import images_of
from hotmend.repository.documents import index_decode, release_decode
from hotmend.repository.fetchers import fetcher_for
from hotmend.repository.keeping import KeepingFetcher
from hotmend.repository.layout import Tier
from hotmend.repository.refusal import Refusal, refused
from hotmend.repository.releases import AnyRelease, HotpatchRelease, Index, ReleaseFile, ReleaseImage, index_of
from hotmend.repository.store import Store
from hotmend.repository.targets import SignedFiles, decoded, explained

CLOCK_TOLERANCE: Final = timedelta(hours=1)
_TRUSTED, _CLOCK = "trusted-root.json", "clock.json"
_FILES: Final = "files"
_CLOCK_BYTES_MAX: Final = 1000

P = ParamSpec("P")
R = TypeVar("R")


class Clock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The latest moment at which this client knows that it was not earlier."""

    seen: Annotated[datetime, Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A release and its hotpatches, verified.

    Attributes:
        release: in full.
        files: each bundle's place on disk and its hotpatches; empty for baselines.
    """

    release: AnyRelease
    files: tuple[tuple[Path, tuple[Hotpatch, ...]], ...]


def trust(folder: Path, root: bytes) -> None:
    """Make `root` what a new client in `folder` begins with; it has to come by a way that is trusted.

    Raises:
        UsageError: the client trusts another root already.
        InputError: no root, or one that is not signed by its own keys.
    """
    if len(root) > layout.ROOT_BYTES_MAX:
        raise InputError(f"root: longer than {layout.ROOT_BYTES_MAX} bytes")
    parsed = metadata.parse(root, Root, layout.ROOT)
    metadata.check_signed(parsed, layout.ROOT, parsed)
    store = Store(folder)
    if store.exists(_TRUSTED) and store.read(_TRUSTED, layout.ROOT_BYTES_MAX) != root:
        raise UsageError(f"{folder}: trusts another root", "another repository needs another folder")
    store.write(_TRUSTED, root)


def _answer(work: Callable[P, R]) -> Callable[P, R | Reason]:
    """Turn a refusal into the value it is."""

    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R | Reason:
        try:
            return work(*args, **kwargs)
        except Refusal as refusal:
            return refusal.reason

    return wrapper


class Channel:
    """One tier of one channel as it was when it was opened (`open_channel`).

    Attributes:
        index: all releases.
        tier: of this machine.
    """

    def __init__(
        self,
        updater: Updater,
        folder: Path,
        index: Index,
        tier: Tier,
        keeping: KeepingFetcher | None = None,
        old: OldImage | None = None,
    ) -> None:
        self._updater = updater
        self._keeping = keeping
        self._files = SignedFiles(updater, folder / _FILES)
        self._bundles = Bundles(self._files, folder / _FILES, (index.channel, tier), old)
        self.index = index
        self.tier = tier

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """Bundles that were asked for, in order."""
        return tuple(self._bundles.arrivals)

    def release(self, identity: str) -> AnyRelease | Reason:
        """Return a release in full, or why not. Withdrawn ones are returned: their documents say so."""
        return _answer(self._release)(identity)

    def fetch(self, identity: str) -> Fetched | Reason:
        """Return a release with its hotpatches, downloaded and checked, or why not."""
        return _answer(self._fetch)(identity)

    def bundle(self, file: ReleaseFile) -> tuple[Hotpatch, ...] | Reason:
        """Return the hotpatches of one file of a release that `release` returned, or why not."""
        return _answer(lambda: self._bundles.get(file)[1])()

    def against(self, file: ReleaseFile) -> tuple[ReleaseImage, ...]:
        """Return the images against whose old files there is a delta of a bundle; () where there is none."""
        try:
            delta = self._bundles.delta(file)
        except HotmendError:
            return ()
        return () if delta is None else tuple(file.images[number] for number in images_of(delta, file))

    def has(self, file: ReleaseFile) -> bool:
        """Return whether a bundle is here already, whole or made from its delta."""
        try:
            return self._bundles.here(file) is not None
        except HotmendError:
            return False

    def carry(self, file: ReleaseFile) -> Reason | None:
        """Fetch the delta of a bundle for another client to read, which has the old images; or return why not.

        Raises:
            FetchError: it could not be reached.
            UsageError: there is none.
        """
        answer = _answer(self._bundles.carry)(file)
        return answer if isinstance(answer, Reason) else None

    def kept(self) -> None:
        """Let the copy that `open_channel` was asked to keep lead to all that was fetched."""
        if self._keeping is not None:
            self._keeping.finish()

    def _release(self, identity: str) -> AnyRelease:
        entry = self.index.find(identity)
        if entry is None:
            sentence = f"{self.index.channel} offers no release {identity} to the {self.tier} tier"
            raise refused("release-unknown", sentence, identity)
        path = layout.document_path(self.index.channel, self.tier, identity)
        data = self._files.fetch(path, layout.DOCUMENT_BYTES_MAX)
        release = decoded(release_decode, data, path)
        if release.channel != self.index.channel or _entry(release, self.tier) != entry:
            raise refused("release-does-not-fit", f"{identity}: the release is another than the index says", path)
        return release

    def _fetch(self, identity: str) -> Fetched:
        release = self._release(identity)
        if release.withdrawn is not None:
            raise refused("release-withdrawn", f"{identity} was withdrawn: {release.withdrawn.reason}", identity)
        if not isinstance(release, HotpatchRelease):
            return Fetched(release, ())
        return Fetched(release, tuple(self._bundles.get(file) for file in release.files))


def open_channel(
    source: str,
    folder: Path,
    channel: str,
    tier: Tier,
    now: datetime | None = None,
    keep: Path | None = None,
    old: OldImage | None = None,
) -> Channel | Reason:
    """Return what a channel offers to a tier now, verified, or why it cannot be believed.

    Args:
        source: folder, archive or address of a repository or mirror.
        folder: this client's own: what it trusts (`trust`) and what it has seen.
        channel: name.
        tier: of this machine.
        now: for the check that the clock was not set back; the system's time by default.
        keep: folder for a copy of what is fetched, in the form of a repository; `Channel.kept` ends it.
        old: reads old images, so that bundles need not be fetched whole.

    Raises:
        FetchError: the source could not be reached.
        HotmendError: the folder cannot be read or written.
        UsageError: the source is none, or no root is trusted yet.
    """
    return _answer(_open)(source, folder, channel, tier, now or datetime.now(UTC), keep, old)


def _open(
    source: str, folder: Path, channel: str, tier: Tier, now: datetime, keep: Path | None, old: OldImage | None
) -> Channel:
    layout.check_channel(channel)
    store = Store(folder)
    if not store.exists(_TRUSTED):
        raise UsageError(f"{folder}: no root is trusted yet", "--root FILE, from a source that you trust")
    _check_clock(store, now)
    fetcher, address = fetcher_for(source)
    keeping = None if keep is None else KeepingFetcher(fetcher, address, keep)
    store.make_folder(folder / "metadata")
    with explained(source):
        updater = Updater(
            metadata_dir=str(folder / "metadata"),
            metadata_base_url=f"{address}{layout.METADATA_FOLDER}/",
            target_base_url=f"{address}{layout.TARGETS_FOLDER}/",
            fetcher=keeping or fetcher,
            config=_limits(),
            bootstrap=store.read(_TRUSTED, layout.ROOT_BYTES_MAX),
        )
        updater.refresh()
    path = layout.index_path(channel, tier)
    data = SignedFiles(updater, folder / _FILES).fetch(path, layout.INDEX_BYTES_MAX)
    index = decoded(index_decode, data, path)
    if (index.channel, index.tier) != (channel, tier):
        raise refused("release-does-not-fit", f"{path}: is the index of {index.tier} of {index.channel}", path)
    store.write(_CLOCK, msgspec.json.encode(Clock(now)))
    return Channel(updater, folder, index, tier, keeping, old)


def _limits() -> UpdaterConfig:
    return UpdaterConfig(
        max_root_rotations=layout.ROOT_ROTATIONS_MAX,
        max_delegations=layout.DELEGATIONS_MAX,
        root_max_length=layout.ROOT_BYTES_MAX,
        timestamp_max_length=layout.TIMESTAMP_BYTES_MAX,
        snapshot_max_length=layout.SNAPSHOT_BYTES_MAX,
        targets_max_length=layout.TARGETS_BYTES_MAX,
        app_user_agent="hotmend",
    )


def _check_clock(store: Store, now: datetime) -> None:
    """A clock that was set back makes metadata valid again that had expired."""
    if not store.exists(_CLOCK):
        return
    try:
        clock = msgspec.json.decode(store.read(_CLOCK, _CLOCK_BYTES_MAX), type=Clock)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InputError(f"{store.root / _CLOCK}: {error}", "remove the file once the clock is right") from None
    if now < clock.seen - CLOCK_TOLERANCE:
        sentence = f"the clock says {now:%Y-%m-%d %H:%M}, but it has been {clock.seen:%Y-%m-%d %H:%M} already"
        raise refused("clock-set-back", sentence)


def _entry(release: AnyRelease, tier: Tier) -> object:
    return index_of(release.channel, tier.value, (release,)).releases[0]
