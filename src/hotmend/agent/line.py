"""Where this machine is in its channel: on which baseline, with which hotpatch, and whether it is on the line.

A machine is on a baseline when each package of it that is installed has at least its version, and no reboot is due: a
baseline ends in one. It has left the line when a process runs a build of a version that the channel does not know: no
hotpatch is made for that, until the next baseline has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hotmend.agent.census.assessment import RunningProcess, plain_name
from hotmend.agent.census.code_state import RunningImage
from hotmend.repository.releases import Baseline, HotpatchRelease, ReleaseImage, UnplannedBaseline
from hotmend.servicing.facts import Linux
from hotmend.servicing.facts import RunningImage as ImageFacts
from hotmend.servicing.level import linux_level
from hotmend.servicing.products import Channel
from hotmend.servicing.releases import Calendar, Kind, Line, Release, month_of

Older = Callable[[str, str], bool]
"""Whether one version of a package is older than another."""
_TOLD_MAX = 5


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a machine is.

    Attributes:
        line: on it, off it, or not known.
        level: baseline and hotpatch, for people; "" where no baseline is known.
        why: what that rests on, a sentence each.
    """

    line: Line
    level: str
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """What a channel has: neither withdrawn nor superseded, oldest first."""

    baselines: tuple[Baseline, ...]
    updates: tuple[HotpatchRelease | UnplannedBaseline, ...]
    by_path: Mapping[str, tuple[ReleaseImage, ...]] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[str, tuple[ReleaseImage, ...]] = {}
        for image in (image for update in self.updates for image in _images(update)):
            name = plain_name(image.path)
            found[name] = (*found.get(name, ()), image)
        object.__setattr__(self, "by_path", found)


def standing(
    published: Published,
    processes: Sequence[RunningProcess],
    installed: Mapping[str, str],
    older: Older,
    reboot: Sequence[str],
) -> Standing:
    """Return where a machine is.

    Args:
        published: what its channel has.
        processes: what runs.
        installed: version of each package.
        older: compares versions.
        reboot: why a reboot is due; none: none is.
    """
    if reboot:
        return Standing(Line.UNKNOWN, "", ("Which baseline was booted last is not known: a reboot is due.",))
    baseline, missing = _baseline(published.baselines, installed, older)
    if baseline is None:
        return Standing(Line.UNKNOWN, "", (missing or "The channel has no baseline.",))
    images = list({image: None for process in processes for image in process.images})
    foreign = _foreign(images, published, baseline)
    versions = _versions(published, baseline)
    if left := sorted(p for p, package in foreign.items() if installed.get(package) not in versions.get(package, ())):
        told = f"The channel does not know the builds that run of {', '.join(left[:_TOLD_MAX])}."
        return Standing(Line.OFF, baseline.id, (told, "The next baseline leads back."))
    if foreign:
        told = f"The channel does not name the builds that run of {', '.join(sorted(foreign)[:_TOLD_MAX])}."
        return Standing(Line.UNKNOWN, baseline.id, (told,))
    facts = Linux(baseline=baseline.id, images=tuple(_facts(image, published) for image in images if image.build_id))
    channel = Channel(baseline.channel, "linux", ())
    level = linux_level(facts, channel, Calendar(_rows(published, baseline)))
    names = [each.id for each in (level.baseline, level.hotpatch) if each is not None]
    return Standing(level.line, ", ".join(names), tuple(str(each.message) for each in level.causes))


def _baseline(baselines: Sequence[Baseline], installed: Mapping[str, str], older: Older) -> tuple[Baseline | None, str]:
    """Return the newest baseline that is here whole; or None, and what is missing of the newest."""
    missing = ""
    for baseline in reversed(baselines):
        behind = [
            f"{package.name} {installed[package.name]}"
            for package in baseline.manifest.packages
            if package.name in installed and older(installed[package.name], package.version)
        ]
        if not behind:
            return baseline, ""
        missing = missing or f"Older than in baseline {baseline.id}: {', '.join(behind[:_TOLD_MAX])}."
    return None, missing


def _foreign(images: Iterable[RunningImage], published: Published, baseline: Baseline) -> dict[str, str]:
    """Return files, and their packages, whose running build is neither of the baseline nor of an update of theirs."""
    of_package = {package.name: package.build_ids for package in baseline.manifest.packages}
    found = {}
    for image in images:
        known = published.by_path.get(plain_name(image.path), ())
        builds = {build for each in known for build in (each.old_build_id, each.new_build_id)}
        builds.update(build for each in known for build in of_package.get(each.package, ()))
        if known and image.build_id not in builds:
            found[image.path] = known[0].package
    return found


def _versions(published: Published, baseline: Baseline) -> dict[str, set[str]]:
    """Return the versions of each package that the channel knows."""
    found = {package.name: {package.version} for package in baseline.manifest.packages}
    for step in (step for update in published.updates for step in update.packages):
        found.setdefault(step.name, set()).update((step.old_version, step.new_version))
    return found


def _facts(image: RunningImage, published: Published) -> ImageFacts:
    """Return an image as the rules see it; a hotpatch that a later one holds counts as the old code."""
    effective = image.build_id
    brought = {each.new_build_id for each in published.by_path.get(plain_name(image.path), ())}
    if image.patch is not None and image.patch.new_build_id in brought:
        effective = image.patch.new_build_id
    return ImageFacts(path=image.path, build_id=image.build_id, effective_build_id=effective)


def _rows(published: Published, baseline: Baseline) -> Iterable[Release]:
    yield _row(baseline, Kind.BASELINE, "", {})
    for update in published.updates:
        if isinstance(update, HotpatchRelease) and update.requires == baseline.id:
            pairs = {image.old_build_id: image.new_build_id for image in _images(update)}
            yield _row(update, Kind.HOTPATCH, update.requires, pairs)


def _row(release: Baseline | HotpatchRelease, kind: Kind, requires: str, images: Mapping[str, str]) -> Release:
    day = release.made.date()
    return Release(
        channel=release.channel,
        month=month_of(day),
        label=release.title,
        kind=kind,
        reboot=kind is Kind.BASELINE,
        published=day,
        planned=False,
        id=release.id,
        build="",
        requires=requires,
        line=Line.ON,
        line_basis="documented",
        confidence="high",
        source="channel",
        note="",
        images=images,
    )


def _images(update: HotpatchRelease | UnplannedBaseline) -> tuple[ReleaseImage, ...]:
    if isinstance(update, UnplannedBaseline):
        return update.images
    return tuple(image for file in update.files for image in file.images)
