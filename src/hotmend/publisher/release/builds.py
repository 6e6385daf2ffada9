"""What is done in a child of its own (`publisher.survey.child`): building a hotpatch, listing a package's builds."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

import msgspec

from hotmend.diff.options import Options
from hotmend.image.deb import ELF_BYTES_MAX, changelog_entries, read_control, read_deb, walk_files
from hotmend.image.elf import read_image
from hotmend.model.errors import InputError
from hotmend.model.hotpatch import Outcome
from hotmend.model.verdict import Severity, Verdict
from hotmend.package.bundle import pack
from hotmend.publisher.build import build_update
from hotmend.publisher.release.mirror import digest_of
from hotmend.publisher.survey.child import Task
from hotmend.repository.releases import ReleaseImage, Urgency

CHANGES_LETTERS_MAX: Final = 4000
_URGENCIES: Final[dict[str, Urgency]] = {
    "low": "low",
    "medium": "medium",
    "high": "high",
    "emergency": "critical",
    "critical": "critical",
}
URGENCY_ORDER: Final[tuple[Urgency, ...]] = ("unknown", "low", "medium", "high", "critical")


class Building(msgspec.Struct, frozen=True):
    """Two packages on disk, what they have to be (SHA-256), and how they are compared."""

    old: str
    new: str
    old_sha256: str
    new_sha256: str
    accept: tuple[str, ...]
    partial: bool


class Built(msgspec.Struct, frozen=True):
    """What became of an update of one package from one old build.

    Attributes:
        verdict: the worst of its images.
        whole: everything that changed is in the bundle, or no code changed.
        bundle: of hotpatches, base64; "" where there is none.
        images: all that were compared and could be read.
        cves, urgency, changes: from the changelog; what the update is about, not what the bundle holds.
        reasons: sentences of refusals, of images that could not be read as well.
    """

    verdict: str
    whole: bool
    bundle: str
    images: tuple[ReleaseImage, ...]
    cves: tuple[str, ...]
    urgency: Urgency
    changes: str
    reasons: tuple[str, ...]


class Identifying(msgspec.Struct, frozen=True):
    """A package on disk."""

    deb: str


class Identified(msgspec.Struct, frozen=True):
    """The build-ids of its programs and libraries; `unreadable` are files that have none or cannot be read."""

    build_ids: tuple[str, ...]
    unreadable: tuple[str, ...]


def build(argument: dict[str, object]) -> Built:
    """Build the hotpatches of a package, as `hotmend build` does."""
    given = msgspec.convert(argument, Building)
    for path, digest in ((given.old, given.old_sha256), (given.new, given.new_sha256)):
        if digest_of(Path(path)) != digest:
            raise InputError(f"{path}: is not the package that this build is about")
    old_version, new_version = (read_control(Path(path))["Version"] for path in (given.old, given.new))
    _, changelog = walk_files(Path(given.new), ELF_BYTES_MAX, lambda *_: None)
    urgency, changes = _changes(changelog, old_version, new_version)
    options = Options(frozenset(given.accept), partial=given.partial)
    try:
        update = build_update(given.old, given.new, lambda *_: None, options)
    except InputError as error:
        if read_deb(Path(given.new)).elf_files:
            raise
        # A package of scripts or data has no code in memory.
        return Built(Verdict.NO_CHANGE, True, "", (), (), urgency, changes, (str(error),))
    left = any(outcome.left for outcome in update.outcomes)
    taken = not update.refused and bool(update.hotpatches)
    return Built(
        verdict=update.verdict.value,
        whole=not update.refused and not left,
        bundle=base64.b64encode(pack(update.hotpatches)).decode() if taken else "",
        images=tuple(
            _image(outcome, update.new.package, (old_version, new_version))
            for outcome in update.outcomes
            if outcome.old_build_id and outcome.new_build_id
        ),
        cves=update.cves,
        urgency=urgency,
        changes=changes,
        reasons=tuple(
            f"{outcome.path}: {reason.sentence}"
            for outcome in update.refused
            for reason in outcome.reasons
            if reason.severity is Severity.REFUSAL
        ),
    )


def _image(outcome: Outcome, package: str, versions: tuple[str, str]) -> ReleaseImage:
    counts = outcome.statistics
    return ReleaseImage(
        path=outcome.path,
        package=package,
        old_version=versions[0],
        new_version=versions[1],
        old_build_id=outcome.old_build_id,
        new_build_id=outcome.new_build_id,
        verdict=outcome.verdict,
        reasons=outcome.reasons,
        reconstructed=counts.reconstructed,
        reconstructible=counts.reconstructible,
        changed=counts.changed,
        added=counts.added,
        types=counts.types,
    )


def _changes(changelog: str, old_version: str, new_version: str) -> tuple[Urgency, str]:
    """Return urgency and text of what the changelog says between two versions."""
    try:
        entries = changelog_entries(changelog, old_version, new_version) if changelog else ()
    except InputError:
        entries = ()
    urgencies = [_URGENCIES.get(entry.urgency, "unknown") for entry in entries]
    text = "\n".join(f"{entry.version}\n{entry.text}" for entry in entries)
    clean = "".join(letter for letter in text if letter == "\n" or letter.isprintable())
    return max(urgencies, key=URGENCY_ORDER.index, default="unknown"), clean[:CHANGES_LETTERS_MAX]


def identify(argument: dict[str, object]) -> Identified:
    """List the builds in a package."""
    given = msgspec.convert(argument, Identifying)
    found: dict[str, None] = {}
    unreadable = []
    for file in read_deb(Path(given.deb)).elf_files:
        try:
            found[read_image(file.content, file.path).build_id] = None
        except InputError:
            unreadable.append(file.path)
    return Identified(tuple(found), tuple(unreadable))


TASKS: Final[dict[str, Task]] = {"build": build, "identify": identify}
