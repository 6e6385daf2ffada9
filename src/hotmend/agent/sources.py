"""Where updates come from: the machine's own apt, with hotpatches made on the spot, or a signed channel."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from hotmend.agent.apt.disk import download_only, fetch
from hotmend.agent.apt.earlier import read_earlier
from hotmend.agent.apt.installed import InstalledFile, dpkg_query, elf_files, read_installed
from hotmend.agent.apt.later import UNKNOWN, needed_later
from hotmend.agent.apt.pending import Pending, pending_updates
from hotmend.agent.census.assessment import Assessment
from hotmend.agent.configuration import ChannelSource
from hotmend.agent.line import Published, Standing, standing
from hotmend.agent.memory import Coverage, Group, Prepared, compared, grouped, mapping_of
from hotmend.agent.old_images import old_image, write_old_builds
from hotmend.agent.paths import Places
from hotmend.diff.options import Options as BuildOptions
from hotmend.image.deb import read_deb, version_order
from hotmend.linux.process import ProcessImages, processes_mapping
from hotmend.model.addresses import BuildId
from hotmend.model.errors import FetchError, HotmendError
from hotmend.model.hotpatch import Hotpatch, Outcome
from hotmend.model.verdict import Reason, Verdict
from hotmend.publisher import feed
from hotmend.repository.client import Channel, open_channel
from hotmend.repository.layout import Tier
from hotmend.repository.refusal import unless_refused
from hotmend.repository.releases import (
    AnyRelease,
    Baseline,
    HotpatchRelease,
    Index,
    IndexEntry,
    ReleaseFile,
    UnplannedBaseline,
)
from hotmend.servicing.releases import Line
from hotmend.wire.report import RELEASE_LETTERS_MAX

BASELINES_MAX = 2
"""So many are looked at: a machine that is on an older one has to take the newest first."""
WITHDRAWN_MAX = 50
"""So many documents of withdrawn releases are looked at, the newest: whether what was taken is in force elsewhere."""
STANDING_MAX = 50
"""So many releases that stand are looked at, the newest: whether their known issues concern this machine."""
_LEFT = "left-for-baseline"
"""Code of the note in hotpatches that hold a part of an update."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One update that is offered to this machine.

    Attributes:
        key: how history and quarantine name it.
        package: binary package.
        version: that it brings.
        release: of the channel; "" for none.
        builds: old builds that it concerns, as its publisher says; none where it is compared here.
        pending: how apt offers the package; None where it does not.
        refused: why it cannot be hot-patched, as its publisher says; "" where it can.
        cves: that it fixes, as its publisher says; of an update of apt's they are in the package, and not known yet.
        file: SHA-256 of a channel's bundle, whichever of its releases offers it; "" for none.
    """

    key: str
    package: str
    version: str
    release: str
    builds: frozenset[BuildId]
    pending: Pending | None
    refused: str = ""
    cves: tuple[str, ...] = ()
    file: str = ""

    @property
    def names(self) -> frozenset[str]:
        """How orders and quarantine may call it: by key, PACKAGE=VERSION or release."""
        return frozenset({self.key, f"{self.package}={self.version}", self.release} - {""})


@dataclass(frozen=True, slots=True)
class Ready:
    """An update that can be applied now.

    Attributes:
        prepared: what may be done.
        cves: what it fixes.
        reasons: why parts of it cannot be done.
        outcomes: of the comparison, where one was made here.
    """

    prepared: Prepared
    cves: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()
    outcomes: tuple[Outcome, ...] = ()


class Source(Protocol):
    """Where updates come from."""

    @property
    def name(self) -> str:
        """`apt`, or the channel with its tier."""

    @property
    def folder(self) -> Path:
        """Where downloaded packages are while `opened` is."""

    def offers(self, running: Sequence[ProcessImages]) -> tuple[Offer, ...]:
        """Return what is offered, given what runs.

        Raises:
            HotmendError: it cannot be learnt.
        """

    def withdrawn(self, updates: Iterable[str]) -> dict[str, str]:
        """Return why each update was withdrawn, "" for one that stands; of those alone that this source knows.

        `offers` comes before it.

        Raises:
            HotmendError: it cannot be learnt.
        """

    def opened(self, offers: Sequence[Offer]) -> contextlib.AbstractContextManager[None]:
        """Download what belongs to the offers; it is there for the block.

        Raises:
            HotmendError: it cannot be had.
        """

    def download(self, offers: Sequence[Offer]) -> None:
        """Have what belongs to the offers here for later, and change nothing.

        Raises:
            HotmendError: it cannot be had.
        """

    def groups(self, offer: Offer, running: Sequence[ProcessImages]) -> tuple[Group, ...]:
        """Return the processes that an offer concerns, those together that have the same old side.

        Raises:
            HotmendError: it cannot be learnt.
        """

    def ready(self, offer: Offer, group: Group) -> Ready:
        """Verify and prepare one of them for a group of processes.

        Raises:
            HotmendError: it is refused, with the reason.
        """


class AptSource:
    """The machine's own security updates."""

    name = "apt"

    def __init__(self, options: BuildOptions, places: Places, packages: Sequence[str] = ()) -> None:
        self._options = options
        self._places = places
        self._packages = packages
        self._files: dict[str, tuple[InstalledFile, ...]] = {}
        self._downloads: dict[str, Path] = {}
        self.folder = Path()

    def offers(self, running: Sequence[ProcessImages]) -> tuple[Offer, ...]:  # noqa: ARG002 - all of them concern the disk
        """Return apt's waiting updates."""
        waiting = self._waiting
        return tuple(Offer(str(one), one.package, one.new_version, "", frozenset(), one) for one in waiting)

    def withdrawn(self, updates: Iterable[str]) -> dict[str, str]:  # noqa: ARG002 - of any source
        """Return nothing: apt withdraws nothing."""
        return {}

    @functools.cached_property
    def _waiting(self) -> tuple[Pending, ...]:
        return pending_updates(self._packages, memory=self._places.simulation)

    @contextlib.contextmanager
    def opened(self, offers: Sequence[Offer]) -> Iterator[None]:
        """Have apt download the packages, and read what is installed of them."""
        cache = feed.cache_directory()
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="agent-") as folder:
            self.folder = Path(folder)
            wanted = [offer.pending for offer in offers if offer.pending is not None and offer.pending.old_version]
            self._downloads = fetch(wanted, self.folder)
            self._files = {one.package: elf_files(one.installed_name) for one in wanted}
            yield

    def download(self, offers: Sequence[Offer]) -> None:
        """Fill apt's own cache, from which `fetch` takes what is in it."""
        download_only([offer.pending for offer in offers if offer.pending is not None])

    def groups(self, offer: Offer, running: Sequence[ProcessImages]) -> tuple[Group, ...]:
        """Return who runs what is installed, and who runs what was installed before."""
        files = self._files.get(offer.package, ())
        return grouped(running, files) if files else ()

    def ready(self, offer: Offer, group: Group) -> Ready:
        """Compare what is installed with what was downloaded."""
        file = self._downloads.get(offer.package)
        if offer.pending is None or file is None:
            return Ready(Prepared((), {}), ())
        files = self._files[offer.package]
        update, ready = compared(offer.pending, files, file, self._options, earlier=group.earlier)
        reasons = dict.fromkeys(reason for outcome in update.refused for reason in outcome.reasons)
        return Ready(ready, update.cves, tuple(reasons), update.outcomes)


class ChannelUpdates:
    """A signed channel, read from a copy, or (`direct`, or a folder) from where it is."""

    def __init__(
        self, channel: ChannelSource, places: Places, now: datetime, *, disk: bool, direct: bool = False
    ) -> None:
        self._wanted = channel
        self._source = channel.address if direct else copy_of(channel.address, places)
        self._disk = disk
        self._places = places
        self._now = now
        self._channel: Channel | None = None
        self._in_force: list[HotpatchRelease] = []
        self._updates: list[HotpatchRelease | UnplannedBaseline] = []
        self._files: dict[str, tuple[HotpatchRelease, ReleaseFile]] = {}
        self._hotpatches: dict[str, tuple[Hotpatch, ...]] = {}
        self._whole: set[str] = set()
        self._downloads: dict[str, Path] = {}
        self.folder = Path()

    @property
    def name(self) -> str:
        """Return channel and tier."""
        return f"{self._wanted.name}/{self._wanted.tier}"

    def offers(self, running: Sequence[ProcessImages]) -> tuple[Offer, ...]:
        """Return what stands in the channel, is not withdrawn or superseded, and concerns what runs."""
        tier, old = Tier(self._wanted.tier), old_image(running)
        channel = unless_refused(
            open_channel(self._source, self._places.channel, self._wanted.name, tier, self._now, old=old)
        )
        self._channel = channel
        self._in_force, self._updates = [], []
        offers: list[Offer] = []
        for entry in channel.index.in_force:
            release = unless_refused(channel.release(entry.id))
            if isinstance(release, (HotpatchRelease, UnplannedBaseline)):
                self._updates.append(release)
            if isinstance(release, HotpatchRelease):
                self._in_force.append(release)
                offers += self._of_hotpatch(release, running)
            elif isinstance(release, UnplannedBaseline):
                offers += self._of_baseline(release, running)
        if self._source != self._wanted.address:
            builds = frozenset[str]().union(*(release.applies_to for release in self._in_force))
            write_old_builds(self._places, running, builds, self._whole)
        return tuple(offers)

    def withdrawn(self, updates: Iterable[str]) -> dict[str, str]:
        """Return what the index says of the updates' releases. A file that another release in force has too stands."""
        if self._channel is None:
            raise FetchError("the channel was not opened")
        reasons = {entry.id: entry.withdrawn or "" for entry in self._channel.index.releases}
        known = {update: reasons[release] for update in updates if (release := update.partition("/")[0]) in reasons}
        standing = {file.sha256 for release in self._in_force for file in release.files}
        return {
            update: "" if reason and _sha256(self._channel, update) in standing else reason
            for update, reason in known.items()
        }

    def withdrawn_with(self, package: str, version: str) -> tuple[str, str] | None:
        """Return the newest release that was withdrawn and had hotpatches to a package's version, and why; or None."""
        if self._channel is None:
            return None
        for entry in reversed(newest_withdrawn(self._channel.index)):
            release = self._channel.release(entry.id)
            files = release.files if isinstance(release, HotpatchRelease) else ()
            if any((i.package, i.new_version) == (package, version) for file in files for i in file.images):
                return entry.id, entry.withdrawn or ""
        return None

    def standing(self, found: Assessment) -> Standing:
        """Return where the machine is in the channel; `offers` comes before it."""
        if self._channel is None:
            return Standing(Line.UNKNOWN, "", ("The channel was not opened.",))
        try:
            identities = newest_baselines(self._channel.index)
            releases = [unless_refused(self._channel.release(identity)) for identity in identities]
            listed = dpkg_query("--show", "--showformat=${Package} ${Version}\\n")
        except HotmendError as error:
            return Standing(Line.UNKNOWN, "", (f"Which baseline this is on is not known: {error}",))
        baselines = tuple(release for release in releases if isinstance(release, Baseline))
        installed = dict(line.split(" ", 1) for line in listed.splitlines() if not line.endswith(" "))
        published = Published(baselines, tuple(self._updates))
        return standing(published, found.processes, installed, lambda a, b: version_order(a, b) < 0, found.reboot)

    def standing_releases(self) -> tuple[tuple[AnyRelease, ...], tuple[str, ...]]:
        """Return the newest releases that are not withdrawn, oldest first, and a sentence for each that cannot be read.

        `offers` comes before it.
        """
        if self._channel is None:
            return (), ("The channel was not opened.",)
        releases, unread = list[AnyRelease](), list[str]()
        for identity in newest_standing(self._channel.index):
            try:
                release = self._channel.release(identity)
            except HotmendError as error:  # one that is no longer in force may be missing from a copy
                unread.append(f"Whether {identity} has known issues cannot be told: {error}")
                continue
            if isinstance(release, Reason):
                unread.append(f"Whether {identity} has known issues cannot be told: {release.sentence}")
                continue
            releases.append(release)
            if release.known_issues and len(release.id) > RELEASE_LETTERS_MAX:
                unread.append(f"The known issues of {release.id} are not judged: its name is too long.")
        return tuple(releases), tuple(unread)

    @functools.cached_property
    def _apt(self) -> Mapping[str, Pending]:
        """What apt has waiting, by package; it is asked once, and only where something may be installed."""
        if not self._disk:
            return {}
        return {one.package: one for one in pending_updates(every=True, memory=self._places.simulation)}

    def _of_hotpatch(self, release: HotpatchRelease, running: Sequence[ProcessImages]) -> Iterator[Offer]:
        for file in release.files:
            builds = frozenset(BuildId(image.old_build_id) for image in file.images)
            if not mapping_of(running, builds):
                continue
            key = f"{release.id}/{file.name}"
            self._files[key] = (release, file)
            self._make(file)
            image = file.images[0]
            pending = self._apt.get(image.package)
            fits = pending is not None and pending.new_version == image.new_version
            yield Offer(
                key,
                image.package,
                image.new_version,
                release.id,
                builds,
                pending if fits else None,
                cves=release.cves,
                file=file.sha256,
            )

    def _make(self, file: ReleaseFile) -> None:
        """Make a bundle from its delta while the old images are there; what cannot be made is asked for as a whole."""
        if self._channel is not None and self._channel.against(file) and not self._channel.has(file):
            try:
                self._channel.bundle(file)
            except FetchError:
                self._whole.add(file.name)

    def _of_baseline(self, release: UnplannedBaseline, running: Sequence[ProcessImages]) -> Iterator[Offer]:
        """Yield packages whose old code runs, and which no hotpatch can help."""
        refused = [image for image in release.images if image.verdict is Verdict.BASELINE_REQUIRED]
        for step in release.packages:
            images = [image for image in refused if image.package == step.name]
            builds = frozenset(BuildId(image.old_build_id) for image in images)
            if not mapping_of(running, builds):
                continue
            why = next((f"{r.sentence} [{r.code}]" for image in images for r in image.reasons), "it needs a baseline")
            pending = self._apt.get(step.name)
            fits = pending is not None and pending.new_version == step.new_version
            key = f"{release.id}/{step.name}"
            yield Offer(
                key, step.name, step.new_version, release.id, builds, pending if fits else None, why, release.cves
            )

    @contextlib.contextmanager
    def opened(self, offers: Sequence[Offer]) -> Iterator[None]:
        """Verify the hotpatches, and have apt download packages that belong to them."""
        if self._channel is None:
            raise FetchError("the channel was not opened")
        cache = feed.cache_directory()
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix="agent-") as folder:
            self.folder = Path(folder)
            wanted = [o.pending for o in offers if o.pending is not None and o.pending.old_version]
            self._downloads = fetch(wanted, self.folder)
            yield

    def download(self, offers: Sequence[Offer]) -> None:
        """Verify the hotpatches, which keeps them, and fill apt's own cache."""
        for offer in offers:
            if not offer.refused:
                self.ready(offer)
        download_only([offer.pending for offer in offers if offer.pending is not None])

    def groups(self, offer: Offer, running: Sequence[ProcessImages]) -> tuple[Group, ...]:
        """Return who runs one of the old builds."""
        mapping = mapping_of(running, offer.builds)
        return (Group(mapping),) if mapping else ()

    def ready(self, offer: Offer, group: Group | None = None) -> Ready:
        """Read and verify its hotpatches; with a group, also what it could not load of the package that comes along."""
        if offer.refused or self._channel is None:
            raise HotmendError(offer.refused or "the channel was not opened")
        _, file = self._files[offer.key]
        hotpatches = unless_refused(self._channel.bundle(file))
        covered = {
            hotpatch.old_build_id: Coverage.PART if any(r.code == _LEFT for r in hotpatch.reasons) else Coverage.WHOLE
            for hotpatch in hotpatches
        }
        cves = tuple(dict.fromkeys(cve for hotpatch in hotpatches for cve in hotpatch.cves))  # a release has more files
        later = () if group is None else self._needed_later(offer, group)
        return Ready(Prepared(hotpatches, covered, later), cves)

    def _needed_later(self, offer: Offer, group: Group) -> tuple[str, ...]:
        """Return what new files of the package need of its new images, as `Prepared` has it."""
        pending, file = offer.pending, self._downloads.get(offer.package)
        if pending is None or file is None:
            return ()
        pids = {process.pid for process in group.mapping}
        try:
            files = elf_files(pending.installed_name)
            installed, new = read_installed(pending.installed_name, files), read_deb(file)
            if installed.version != pending.old_version:
                return (UNKNOWN,)
            sides = [
                installed if those.earlier is None else read_earlier(installed, those.earlier)
                for those in grouped(processes_mapping(), files)
                if pids.intersection(process.pid for process in those.mapping)
            ]
        except HotmendError:
            return (UNKNOWN,)
        return tuple(sorted({name for old in sides for name in needed_later(old.elf_files, new.elf_files)}))


def newest_baselines(index: Index) -> tuple[str, ...]:
    """Return the baselines that a machine can be on: those newest that stand, oldest first."""
    return tuple(e.id for e in index.releases if e.kind == "baseline" and e.withdrawn is None)[-BASELINES_MAX:]


def newest_standing(index: Index) -> tuple[str, ...]:
    """Return the releases whose known issues may concern a machine, superseded ones among them, oldest first."""
    baselines = newest_baselines(index)
    others = [e.id for e in index.releases if e.withdrawn is None and e.kind != "baseline"][-STANDING_MAX:]
    wanted = frozenset(baselines).union(others)
    return tuple(entry.id for entry in index.releases if entry.id in wanted)


def newest_withdrawn(index: Index) -> tuple[IndexEntry, ...]:
    """Return hotpatches that were withdrawn, oldest first."""
    return tuple(e for e in index.releases if e.kind == "hotpatch" and e.withdrawn is not None)[-WITHDRAWN_MAX:]


def _sha256(channel: Channel, update: str) -> str:
    """Return the hash of an update's file; "" where its release cannot be read any more: then it is withdrawn."""
    identity, _, name = update.partition("/")
    try:
        release = channel.release(identity)
    except FetchError:
        return ""
    files = release.files if isinstance(release, HotpatchRelease) else ()
    return next((file.sha256 for file in files if file.name == name), "")


def copy_of(address: str, places: Places) -> str:
    """Return where a channel is read from: the copy that the part with network keeps, or a folder itself."""
    return str(places.mirror_copy) if address.startswith(("http://", "https://")) else address
