"""From hotpatch bundles to a release: everything that the bundles themselves say is taken from them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from hotmend.model.errors import InputError
from hotmend.model.hotpatch import Hotpatch
from hotmend.package.bundle import unpack
from hotmend.repository.layout import file_name
from hotmend.repository.releases import (
    Classification,
    HotpatchRelease,
    KnownIssue,
    PackageStep,
    ReleaseFile,
    ReleaseImage,
    Urgency,
)


@dataclass(frozen=True, slots=True)
class About:
    """What no bundle says.

    Attributes:
        channel: it is for.
        requires: id of the baseline.
        id, title: "" to derive them from packages and versions.
        supersedes: earlier hotpatches that this one holds.
        classification, urgency, notes, known_issues: as in `Release`.
    """

    channel: str
    requires: str
    id: str = ""
    title: str = ""
    supersedes: tuple[str, ...] = ()
    classification: Classification = "security"
    urgency: Urgency = "unknown"
    notes: str = ""
    known_issues: tuple[KnownIssue, ...] = ()


def hotpatch_release(bundles: tuple[bytes, ...], about: About, made: datetime) -> HotpatchRelease:
    """Return the release of `bundles`, one for each package and old build.

    Raises:
        InputError: a bundle is damaged, or two of them are about the same old build.
    """
    contents = [unpack(data) for data in bundles]
    packages = tuple(dict.fromkeys(_step(hotpatch) for hotpatches in contents for hotpatch in hotpatches))
    identity = about.id or _identity(made, packages)
    files = tuple(release_file(file_name(identity, number), data) for number, data in enumerate(bundles))
    return HotpatchRelease(
        format=1,
        id=identity,
        channel=about.channel,
        title=about.title or ", ".join(f"{p.name} {p.new_version}" for p in packages),
        made=made,
        classification=about.classification,
        urgency=about.urgency,
        cves=tuple(dict.fromkeys(cve for hotpatches in contents for hotpatch in hotpatches for cve in hotpatch.cves)),
        notes=about.notes,
        known_issues=about.known_issues,
        withdrawn=None,
        requires=about.requires,
        supersedes=about.supersedes,
        packages=packages,
        files=files,
    )


def release_file(name: str, bundle: bytes, builders: tuple[str, ...] = ()) -> ReleaseFile:
    """Return what a release says about a bundle.

    Raises:
        InputError: it is damaged.
    """
    images = tuple(image_of(hotpatch) for hotpatch in unpack(bundle))
    return ReleaseFile(name, len(bundle), hashlib.sha256(bundle).hexdigest(), images, builders)


def image_of(hotpatch: Hotpatch) -> ReleaseImage:
    """Return what a release says about one hotpatch."""
    counts = hotpatch.statistics
    return ReleaseImage(
        path=hotpatch.path,
        package=hotpatch.package,
        old_version=hotpatch.versions[0],
        new_version=hotpatch.versions[1],
        old_build_id=hotpatch.old_build_id,
        new_build_id=hotpatch.new_build_id,
        verdict=hotpatch.verdict,
        reasons=hotpatch.reasons,
        reconstructed=counts.reconstructed,
        reconstructible=counts.reconstructible,
        changed=counts.changed,
        added=counts.added,
        types=counts.types,
    )


def check_content(file: ReleaseFile, data: bytes) -> tuple[Hotpatch, ...]:
    """Return the hotpatches of a bundle that must be exactly what the release says of it.

    Raises:
        InputError: it is damaged, or another.
    """
    if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
        raise InputError(f"{file.name}: not the file that the release names")
    return check_hotpatches(file, unpack(data))


def check_hotpatches(file: ReleaseFile, hotpatches: tuple[Hotpatch, ...]) -> tuple[Hotpatch, ...]:
    """Return the hotpatches, which must be those that the release says.

    Raises:
        InputError: they are others.
    """
    if tuple(image_of(hotpatch) for hotpatch in hotpatches) != file.images:
        raise InputError(f"{file.name}: holds other hotpatches than the release says")
    return hotpatches


def _step(hotpatch: Hotpatch) -> PackageStep:
    return PackageStep(hotpatch.package or hotpatch.name, *hotpatch.versions)


def _identity(made: datetime, packages: tuple[PackageStep, ...]) -> str:
    if not packages:
        raise InputError("the bundles hold no hotpatch")
    first = packages[0]
    text = f"{made:%Y.%m}-{first.name}-{first.new_version}".lower()
    return re.sub(r"[^a-z0-9.-]+", "-", text).strip("-")[:100]
