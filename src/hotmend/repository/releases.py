"""Releases: what a channel publishes, as frozen values. `documents` reads and writes them.

There are three kinds. A *baseline* is a dated manifest of the suite and ends in a reboot. A *hotpatch* builds on one
baseline and replaces the hotpatches it names. An *unplanned baseline* is what a fix becomes that cannot be hot-patched.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from hotmend.model.hotpatch import TypeCoverage
from hotmend.model.verdict import Reason, Verdict
from hotmend.servicing.known_issues import Condition, Option, check

RELEASE_FORMAT: Final = 1
PACKAGES_MAX: Final = 200_000
FILES_MAX: Final = 4096
IMAGES_MAX: Final = 10_000
RELEASES_MAX: Final = 50_000
ITEMS_MAX: Final = 10_000

ReleaseId = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9.-]{0,99}\Z")]
"""Part of file names and addresses: nothing in it needs quoting."""
MaybeId = Annotated[str, Meta(pattern=r"\A([a-z0-9][a-z0-9.-]{0,99})?\Z")]
"""A release's id, or "" for none."""
Line = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z", max_length=2000)]
"""Text without control characters: it is shown on terminals."""
Prose = Annotated[str, Meta(pattern=r"\A[^\x00-\x09\x0b-\x1f\x7f-\x9f]*\Z", max_length=100_000)]
"""The same, with ends of lines."""
BuildIdText = Annotated[str, Meta(pattern=r"\A([0-9a-f]{2}){1,64}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
CveId = Annotated[str, Meta(pattern=r"\ACVE-[0-9]{4}-[0-9]{4,12}\Z")]
Moment = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0, le=1 << 62)]

Classification = Literal["security", "non-security"]
Urgency = Literal["unknown", "low", "medium", "high", "critical"]


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all parts have in common. A field this version does not know is an error: it might have meant no."""


class KnownIssue(_Value, frozen=True, omit_defaults=True):
    """Something that goes wrong with a release.

    Attributes:
        title, workaround: for people; `workaround` may be empty.
        since: when it became known.
        resolved_by: the release that ends it, "" where none does.
        affected: whom it concerns, of those that have the release; None: all of them.
        options: workarounds, each with its steps and how they are proven.
        deadline: one of them must be complete before this day.
        cost: of doing nothing.
    """

    title: Line
    since: Moment
    workaround: Prose = ""
    resolved_by: MaybeId = ""
    affected: Condition | None = None
    options: Annotated[tuple[Option, ...], Meta(max_length=20)] = ()
    deadline: date | None = None
    cost: Line = ""

    def __post_init__(self) -> None:
        """Raise ValueError where a condition says nothing, or asks for what does not exist."""
        check([self.affected] if self.affected is not None else [], self.options)
        if self.deadline is not None and not self.options:
            raise ValueError("a deadline needs a workaround with steps: nobody could keep it")


class Withdrawal(_Value, frozen=True):
    """That a release must not be installed any more, since when and why."""

    at: Moment
    reason: Line


class ManifestPackage(_Value, frozen=True):
    """One package of a baseline.

    Attributes:
        name, version, architecture: as apt has them.
        security: this version came through the security suite.
        build_ids: of its programs and libraries; empty where it has none.
    """

    name: Line
    version: Line
    architecture: Line
    security: bool
    build_ids: Annotated[tuple[BuildIdText, ...], Meta(max_length=IMAGES_MAX)] = ()


class Manifest(_Value, frozen=True):
    """A suite on one day.

    Attributes:
        suite: such as `bookworm`.
        at: the moment whose state it is.
        packages: all of them, by name and architecture.
    """

    suite: Line
    at: Moment
    packages: Annotated[tuple[ManifestPackage, ...], Meta(max_length=PACKAGES_MAX)]


class PackageStep(_Value, frozen=True):
    """A binary package and the version a release brings."""

    name: Line
    old_version: Line
    new_version: Line


class ReleaseImage(_Value, frozen=True):
    """One image of a release: what it applies to exactly, and what the verdict on it rests on.

    Attributes:
        path: in the package.
        package, old_version, new_version: where it comes from; empty for a bare ELF file.
        old_build_id, new_build_id: the only build it applies to, and the one whose code it brings.
        verdict, reasons: of the comparison.
        reconstructed, reconstructible: unchanged functions that came out byte for byte in the proof, and all of them.
        changed, added: functions.
        types: whether types were compared exactly.
    """

    path: Line
    package: Line
    old_version: Line
    new_version: Line
    old_build_id: BuildIdText
    new_build_id: BuildIdText
    verdict: Verdict
    reasons: Annotated[tuple[Reason, ...], Meta(max_length=ITEMS_MAX)]
    reconstructed: Count
    reconstructible: Count
    changed: Count
    added: Count
    types: TypeCoverage


class ReleaseFile(_Value, frozen=True):
    """A bundle of hotpatches.

    Attributes:
        name: beside the document.
        bytes, sha256: of the file.
        images: what is in it, in order.
        builders: processes that each built it, byte for byte the same; empty where nobody compared.
    """

    name: Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9.-]{0,119}\.hotmend\Z")]
    bytes: Annotated[int, Meta(ge=1, le=256 << 20)]
    sha256: Sha256
    images: Annotated[tuple[ReleaseImage, ...], Meta(min_length=1, max_length=IMAGES_MAX)]
    builders: Annotated[tuple[Line, ...], Meta(max_length=100)] = ()


class Release(_Value, frozen=True, tag_field="kind"):
    """What the kinds have in common.

    Attributes:
        format: `RELEASE_FORMAT`.
        id: exact identity.
        channel: that it belongs to.
        title: one line.
        made: when it was made.
        classification, urgency: of what it brings.
        cves: that it fixes.
        notes: for people, plain text.
        known_issues, withdrawn: may change after publication; nothing else does.
    """

    format: Literal[1]
    id: ReleaseId
    channel: Line
    title: Line
    made: Moment
    classification: Classification
    urgency: Urgency
    cves: Annotated[tuple[CveId, ...], Meta(max_length=ITEMS_MAX)]
    notes: Prose
    known_issues: Annotated[tuple[KnownIssue, ...], Meta(max_length=ITEMS_MAX)]
    withdrawn: Withdrawal | None


class Baseline(Release, frozen=True, tag="baseline"):
    """A planned baseline."""

    manifest: Manifest


class HotpatchRelease(Release, frozen=True, tag="hotpatch"):
    """A hotpatch.

    Attributes:
        requires: the baseline it builds on.
        supersedes: hotpatches whose content it holds as well.
        packages: what it brings up to date in memory.
        files: one for each package and old build.
    """

    requires: ReleaseId
    supersedes: Annotated[tuple[ReleaseId, ...], Meta(max_length=ITEMS_MAX)]
    packages: Annotated[tuple[PackageStep, ...], Meta(max_length=ITEMS_MAX)]
    files: Annotated[tuple[ReleaseFile, ...], Meta(min_length=1, max_length=FILES_MAX)]

    @property
    def applies_to(self) -> frozenset[str]:
        """Build-ids of the old images."""
        return frozenset(image.old_build_id for file in self.files for image in file.images)


class UnplannedBaseline(Release, frozen=True, tag="unplanned_baseline"):
    """A fix that cannot be hot-patched: packages to install and restart.

    Attributes:
        requires: the baseline after which it came.
        packages: what to install.
        images: that were compared, with the reasons that speak against a hotpatch.
    """

    requires: ReleaseId
    packages: Annotated[tuple[PackageStep, ...], Meta(min_length=1, max_length=ITEMS_MAX)]
    images: Annotated[tuple[ReleaseImage, ...], Meta(max_length=IMAGES_MAX)]


AnyRelease = Baseline | HotpatchRelease | UnplannedBaseline


class IndexEntry(_Value, frozen=True):
    """One release in short: enough to choose. `withdrawn` is the reason, None for a release that stands."""

    id: ReleaseId
    kind: Literal["baseline", "hotpatch", "unplanned_baseline"]
    title: Line
    made: Moment
    classification: Classification
    urgency: Urgency
    requires: MaybeId
    supersedes: Annotated[tuple[ReleaseId, ...], Meta(max_length=ITEMS_MAX)]
    withdrawn: Line | None


class Index(_Value, frozen=True):
    """All releases of a tier, oldest first."""

    format: Literal[1]
    channel: Line
    tier: Literal["canary", "stable"]
    releases: Annotated[tuple[IndexEntry, ...], Meta(max_length=RELEASES_MAX)]

    def find(self, identity: str) -> IndexEntry | None:
        """Return the entry of that identity."""
        return next((entry for entry in self.releases if entry.id == identity), None)

    @property
    def in_force(self) -> tuple[IndexEntry, ...]:
        """What a machine may take now: neither withdrawn nor held by a later one; planned baselines are no updates."""
        standing = [entry for entry in self.releases if entry.withdrawn is None]
        superseded = {identity for entry in standing for identity in entry.supersedes}
        return tuple(entry for entry in standing if entry.kind != "baseline" and entry.id not in superseded)


def index_of(channel: str, tier: Literal["canary", "stable"], releases: tuple[AnyRelease, ...]) -> Index:
    """Return the list of releases; it follows from them alone."""
    ordered = sorted(releases, key=lambda release: (release.made, release.id))
    return Index(1, channel, tier, tuple(_entry(release) for release in ordered))


def _entry(release: AnyRelease) -> IndexEntry:
    kind: Literal["baseline", "hotpatch", "unplanned_baseline"] = "baseline"
    requires, supersedes = "", tuple[str, ...]()
    if isinstance(release, HotpatchRelease):
        kind, requires, supersedes = "hotpatch", release.requires, release.supersedes
    elif isinstance(release, UnplannedBaseline):
        kind, requires = "unplanned_baseline", release.requires
    return IndexEntry(
        id=release.id,
        kind=kind,
        title=release.title,
        made=release.made,
        classification=release.classification,
        urgency=release.urgency,
        requires=requires,
        supersedes=supersedes,
        withdrawn=release.withdrawn.reason if release.withdrawn else None,
    )
