"""From drafts to releases, and the planned baseline."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec

from hotmend.model.errors import InputError
from hotmend.package.bundle import unpack
from hotmend.publisher.feed import PackageVersion
from hotmend.publisher.release import compose
from hotmend.publisher.release.builds import Identified, Identifying
from hotmend.publisher.release.compose import Draft, Line
from hotmend.publisher.release.mirror import Current
from hotmend.publisher.release.session import Session
from hotmend.repository.layout import Tier
from hotmend.repository.making import release_file
from hotmend.repository.releases import Baseline, HotpatchRelease, Manifest, ManifestPackage, UnplannedBaseline


def publish_baseline(session: Session, offers: Mapping[str, Current], now: datetime) -> None:
    """Make the planned baseline if it is due."""
    lines = session.lines()
    last = lines[0].baseline.made.astimezone(UTC).date() if lines else None
    if not session.plan.cycle.due(last, now.astimezone(UTC).date()):
        return
    watched = frozenset(session.plan.packages)
    chosen = {
        name: current
        for name, current in sorted(offers.items())
        if session.plan.manifest == "all" or current.offer.source in watched
    }
    missing = watched - {current.offer.source for current in offers.values()}
    session.done.problems += [f"no suite has a package of the source {name}" for name in sorted(missing)]
    ids = _build_ids(session, [c for c in chosen.values() if c.offer.source in watched])
    packages = tuple(
        ManifestPackage(name, c.offer.version, c.offer.architecture, c.security, ids.get(name, ()))
        for name, c in chosen.items()
    )
    suites = ", ".join(dict.fromkeys(suite.name for suite in session.plan.suite))
    existing = session.content(Tier.CANARY).releases
    identity = free_identity(f"{now:%Y.%m}", existing)
    security = sum(package.security for package in packages)
    release = Baseline(
        format=1,
        id=identity,
        channel=session.plan.channel,
        title=f"Baseline {identity}",
        made=now,
        classification="security",
        urgency="unknown",
        cves=(),
        notes=f"{len(packages)} packages, {security} of them as the security updates have them. Ends in a reboot.",
        known_issues=(),
        withdrawn=None,
        manifest=Manifest(suites, now, packages),
    )
    session.publisher.add(release, {})
    session.done.published.append(identity)


def free_identity(identity: str, taken: Mapping[str, object]) -> str:
    """Return the identity, with a number behind it where it is taken."""
    names = (identity, *(f"{identity}-{number}" for number in range(2, 1000)))
    return next(name for name in names if name not in taken)


def _build_ids(session: Session, watched: list[Current]) -> dict[str, tuple[str, ...]]:
    """Return the build-ids of the packages whose updates will be built, which have to be kept for that anyway."""
    programs = [current.offer for current in watched if current.offer.architecture == compose.ARCHITECTURE]
    versions = [PackageVersion(offer.package, offer.version) for offer in programs]
    session.progress("fetching packages", 0, len(versions))
    files = session.mirror.fetch(versions)
    found: dict[str, tuple[str, ...]] = {}
    with ThreadPoolExecutor(session.pool.size) as threads:
        jobs = {v: threads.submit(session.pool.run, "identify", Identifying(str(files[v]))) for v in versions}
        for number, (version, job) in enumerate(jobs.items()):
            session.progress("reading build-ids", number, len(versions))
            answer = job.result()
            if answer.result is None:
                raise InputError(f"{version}: {answer.error}", "no baseline was made")
            found[version.package] = msgspec.convert(answer.result, Identified).build_ids
    return found


def hotpatch_release(session: Session, line: Line, draft: Draft, number: int, now: datetime) -> HotpatchRelease:
    """Return the `number`-th hotpatch of a line."""
    new = (release_file(name, data, draft.builders[name]) for name, data in draft.bundles.items())
    files = tuple(sorted((*new, *draft.kept), key=lambda file: file.name))
    last = line.hotpatches[-1].known_issues if line.hotpatches else ()
    cves = {cve for _, data in draft.bundles.items() for cve in _cves(data)}
    if draft.kept and line.hotpatches:
        # What stays in is not unpacked again: what the hotpatch before fixed, this one fixes as well.
        cves |= set(line.hotpatches[-1].cves)
    about = ", ".join(draft.sources) or "withdrawn content removed"
    return HotpatchRelease(
        format=1,
        id=f"{line.baseline.id}.h{number}",
        channel=session.plan.channel,
        title=f"Hotpatch {number} of {line.baseline.id}: {about}"[:300],
        made=now,
        classification="security",
        urgency=draft.urgency,
        cves=tuple(sorted(cves, key=_cve_order)),
        notes=draft.notes[:90_000],
        known_issues=tuple(issue for issue in last if not issue.resolved_by),
        withdrawn=None,
        requires=line.baseline.id,
        supersedes=tuple(release.id for release in line.hotpatches),
        packages=draft.packages,
        files=files,
    )


def _cves(bundle: bytes) -> set[str]:
    return {cve for hotpatch in unpack(bundle) for cve in hotpatch.cves}


def _cve_order(cve: str) -> list[int]:
    return [int(part) for part in cve.split("-")[1:]]


def unplanned_release(session: Session, line: Line, draft: Draft, identity: str, now: datetime) -> UnplannedBaseline:
    """Return an unplanned baseline of a line."""
    return UnplannedBaseline(
        format=1,
        id=identity,
        channel=session.plan.channel,
        title=f"Unplanned baseline after {line.baseline.id}: {', '.join(draft.sources)}"[:300],
        made=now,
        classification="security",
        urgency=draft.urgency,
        cves=draft.cves,
        notes=draft.notes[:90_000],
        known_issues=(),
        withdrawn=None,
        requires=line.baseline.id,
        packages=draft.packages,
        images=draft.images,
    )
