"""Which builds a channel needs, and which releases their results make. Pure.

A hotpatch is *cumulative*: it holds a bundle for each package that has had a security update since its baseline, and
for each old build that a machine of this baseline may be running: the baseline's own, and those that earlier releases
brought. Where a package's newest fix cannot be hot-patched, the hotpatch keeps what the one before it had for the
package, and an unplanned baseline says what to install.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hotmend.image.deb import version_order
from hotmend.publisher.release import brief
from hotmend.publisher.release.builds import URGENCY_ORDER, Built
from hotmend.publisher.release.mirror import Current
from hotmend.publisher.release.work import Answer
from hotmend.repository.releases import (
    AnyRelease,
    Baseline,
    HotpatchRelease,
    PackageStep,
    ReleaseFile,
    ReleaseImage,
    UnplannedBaseline,
    Urgency,
)

ARCHITECTURE: Final = "amd64"
Pair = tuple[str, str, str]
"""Package, old version, new version."""


@dataclass(frozen=True, slots=True)
class Line:
    """A baseline and what was released for it.

    Attributes:
        baseline: that stands.
        releases: hotpatches and unplanned baselines that stand, oldest first.
        history: all of them; what was withdrawn may be running somewhere all the same.
        blocked: names of bundles that only withdrawn releases have: nobody gets them again by himself.
    """

    baseline: Baseline
    releases: tuple[HotpatchRelease | UnplannedBaseline, ...]
    history: tuple[HotpatchRelease | UnplannedBaseline, ...]
    blocked: frozenset[str] = frozenset()

    @property
    def hotpatches(self) -> tuple[HotpatchRelease, ...]:
        """The hotpatches that stand."""
        return tuple(release for release in self.releases if isinstance(release, HotpatchRelease))

    def levels(self, package: str) -> tuple[str, ...]:
        """Return the versions of a package that a machine of this baseline may be running."""
        first = [p.version for p in self.baseline.manifest.packages if p.name == package]
        later = [step.new_version for r in self.history for step in r.packages if step.name == package]
        return tuple(dict.fromkeys((*first, *later)))


def lines_of(releases: Iterable[AnyRelease], count: int, again: frozenset[str] = frozenset()) -> tuple[Line, ...]:
    """Return the newest `count` baselines that stand, newest first.

    Args:
        releases: all of a tier.
        count: of baselines.
        again: names of bundles that may be released once more although they were withdrawn.
    """
    ordered = sorted(releases, key=lambda r: (r.made, r.id))
    baselines = [r for r in ordered if isinstance(r, Baseline) and r.withdrawn is None]
    return tuple(_line(baseline, ordered, again) for baseline in baselines[: -count - 1 : -1])


def _line(baseline: Baseline, ordered: list[AnyRelease], again: frozenset[str]) -> Line:
    history = tuple(r for r in ordered if not isinstance(r, Baseline) and r.requires == baseline.id)
    standing = tuple(r for r in history if r.withdrawn is None)
    names = [
        {file.name for release in releases if isinstance(release, HotpatchRelease) for file in release.files}
        for releases in (history, standing)
    ]
    return Line(baseline, standing, history, frozenset(names[0] - names[1] - again))


def wanted(line: Line, offers: Mapping[str, Current], sources: frozenset[str]) -> tuple[tuple[str, Pair], ...]:
    """Return source, package, old and new version of every build that the newest security updates need."""
    found = []
    for package, current in sorted(offers.items()):
        offer = current.offer
        if offer.source not in sources or not current.security or offer.architecture != ARCHITECTURE:
            continue
        for old in line.levels(package):
            if version_order(old, offer.version) < 0:
                found.append((offer.source, (package, old, offer.version)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Agreed:
    """What all builders found.

    Attributes:
        built: the result.
        bundle: its hotpatches, empty where there are none.
        builders: who made the same bytes.
    """

    built: Built
    bundle: bytes
    builders: tuple[str, ...]


def agree(answers: Sequence[Answer]) -> Agreed | str:
    """Return what builders agree on, or in one line why there is nothing."""
    errors = [answer.error for answer in answers if answer.built is None]
    if errors:
        return errors[0] or "no answer"
    results = [answer.built for answer in answers if answer.built is not None]
    if any(result != results[0] for result in results):
        names = ", ".join(answer.builder for answer in answers)
        return f"builders {names} made different hotpatches of the same builds"
    return Agreed(results[0], base64.b64decode(results[0].bundle), tuple(answer.builder for answer in answers))


@dataclass(frozen=True, slots=True)
class Draft:
    """A release without what only its moment can say.

    Attributes:
        sources: that it is about.
        packages: what changes.
        bundles: name -> content; empty for an unplanned baseline.
        kept: files of the hotpatch before it, which stay in.
        builders: name of a bundle -> who made it.
        images: that speak against a hotpatch.
        cves, urgency, notes: as in a release.
    """

    sources: tuple[str, ...]
    packages: tuple[PackageStep, ...]
    bundles: Mapping[str, bytes]
    kept: tuple[ReleaseFile, ...]
    builders: Mapping[str, tuple[str, ...]]
    images: tuple[ReleaseImage, ...]
    cves: tuple[str, ...]
    urgency: Urgency
    notes: str


@dataclass(frozen=True, slots=True)
class Composed:
    """What a run makes for a line: at most one hotpatch, and unplanned baselines. `problems` are for the operator."""

    hotpatch: Draft | None
    unplanned: tuple[Draft, ...]
    problems: tuple[str, ...]


def compose(line: Line, results: Mapping[tuple[str, Pair], Agreed | str], failed: frozenset[Pair]) -> Composed:
    """Return the releases that results make.

    Args:
        line: the baseline and what there is.
        results: source and pair to what the builders agree on, or why they do not.
        failed: pairs of which nothing is known yet because a package could not be had or a machine failed: their
            sources wait for the next run.
    """
    groups: dict[tuple[str, str], dict[Pair, Agreed | str]] = defaultdict(dict)
    for (source, pair), result in results.items():
        groups[source, pair[1]][pair] = result
    held: list[tuple[str, Pair, Agreed]] = []
    kept: dict[str, ReleaseFile] = {}
    refused: dict[str, dict[Pair, Agreed | str]] = defaultdict(dict)
    problems: list[str] = []
    for (source, _), group in sorted(groups.items()):
        good = {pair: result for pair, result in group.items() if isinstance(result, Agreed)}
        stopped = [bundle_name(pair[0], r.bundle) for pair, r in good.items() if r.bundle] if line.blocked else []
        stopped = [name for name in stopped if name in line.blocked]
        problems += [f"{_name(pair)}: {result}" for pair, result in group.items() if isinstance(result, str)]
        problems += [f"{source}: {name} was withdrawn with the release it was in" for name in stopped]
        waits = not failed.isdisjoint(group)
        lacks = len(good) < len(group)
        if not waits and (lacks or not all(result.built.whole for result in good.values())):
            refused[source] |= group
        if waits or lacks or stopped or not all(r.bundle or r.built.whole for r in good.values()):
            kept |= {file.name: file for pair in group for file in _files_before(line, pair)}
        else:
            held += [(source, pair, result) for pair, result in good.items() if result.bundle]
    others = {file.name: file for file in _files_without(line, {pair[0] for _, pair in results})}
    hotpatch = _hotpatch(line, held, tuple({**others, **kept}.values()))
    unplanned = tuple(d for source, group in sorted(refused.items()) if (d := _unplanned(line, source, group)))
    return Composed(hotpatch, unplanned, tuple(problems))


def _name(pair: Pair) -> str:
    return f"{pair[0]} {pair[1]} -> {pair[2]}"


def bundle_name(package: str, bundle: bytes) -> str:
    """Return a name that says what is in it: releases that hold the same bundle share the file."""
    plain = re.sub(r"[^a-z0-9.-]+", "-", package.lower()).strip("-.")[:60]
    return f"{plain}-{hashlib.sha256(bundle).hexdigest()[:32]}.hotmend"


def _files_before(line: Line, pair: Pair) -> tuple[ReleaseFile, ...]:
    """Return what the newest hotpatch has for a package and an old version."""
    if not line.hotpatches:
        return ()
    return tuple(
        file
        for file in line.hotpatches[-1].files
        if all((image.package, image.old_version) == pair[:2] for image in file.images)
    )


def _files_without(line: Line, packages: set[str]) -> tuple[ReleaseFile, ...]:
    """Return what the newest hotpatch has for packages that no result is about, such as those no longer watched."""
    if not line.hotpatches:
        return ()
    return tuple(f for f in line.hotpatches[-1].files if not packages & {image.package for image in f.images})


def _hotpatch(line: Line, held: Sequence[tuple[str, Pair, Agreed]], kept: tuple[ReleaseFile, ...]) -> Draft | None:
    """Return the next hotpatch, None where the newest one holds exactly this already."""
    by_name = {bundle_name(pair[0], result.bundle): result for _, pair, result in held}
    bundles = {name: result.bundle for name, result in by_name.items()}
    before = {file.name: file for file in line.hotpatches[-1].files} if line.hotpatches else {}
    names = {*bundles, *(file.name for file in kept)}
    if not names or names == before.keys():
        return None
    new = [(source, pair, result) for source, pair, result in held if bundle_name(pair[0], result.bundle) not in before]
    sources = tuple(dict.fromkeys(source for source, _, _ in new))
    texts = {source: f"{_name(pair)}\n{result.built.changes}" for source, pair, result in reversed(new)}
    return Draft(
        sources=sources,
        packages=tuple(dict.fromkeys((*(PackageStep(*pair) for _, pair, _ in held), *map(_step, kept)))),
        bundles=bundles,
        kept=kept,
        builders={name: result.builders for name, result in by_name.items()},
        images=(),
        cves=(),
        urgency=_urgency(result for _, _, result in held),
        notes="\n\n".join(texts[source] for source in sources),
    )


def _step(file: ReleaseFile) -> PackageStep:
    image = file.images[0]
    return PackageStep(image.package, image.old_version, image.new_version)


def _unplanned(line: Line, source: str, group: Mapping[Pair, Agreed | str]) -> Draft | None:
    """Return the unplanned baseline of a source, None where there is one for these versions."""
    first = {p.name: p.version for p in line.baseline.manifest.packages}
    packages = tuple(PackageStep(name, first.get(name, old), new) for name, old, new in group)
    packages = tuple(dict.fromkeys(packages))
    there = (release for release in line.releases if isinstance(release, UnplannedBaseline))
    if any({(p.name, p.new_version) for p in packages} <= {(p.name, p.new_version) for p in r.packages} for r in there):
        return None
    good = [result for result in group.values() if isinstance(result, Agreed)]
    built = [result.built for result in good]
    images = {(i.path, i.old_build_id): i for b in built if not b.whole for i in b.images}
    reasons = dict.fromkeys(reason for b in built for reason in b.reasons)
    reasons |= dict.fromkeys(f"{_name(pair)}: {text}" for pair, text in group.items() if isinstance(text, str))
    partial = any(result.bundle and not result.built.whole for result in good)
    part = "A part of it is in the hotpatch; these updates close the rest.\n" if partial else ""
    return Draft(
        sources=(source,),
        packages=packages,
        bundles={},
        kept=(),
        builders={},
        images=brief.telling(images.values()),
        cves=tuple(dict.fromkeys(cve for b in built for cve in b.cves)),
        urgency=_urgency(good),
        notes=f"{part}Why there is no hotpatch:\n"
        + "\n".join(brief.sentences(reasons))
        + "\n\n"
        + (built[0].changes if built else ""),
    )


def _urgency(results: Iterable[Agreed]) -> Urgency:
    return max((result.built.urgency for result in results), key=URGENCY_ORDER.index, default="unknown")
