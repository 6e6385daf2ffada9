"""An independent builder: whoever has the plan and the packages can see whether a release is what it says."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hotmend.model.errors import HotmendError, UsageError
from hotmend.publisher.feed import PackageVersion
from hotmend.publisher.release.builds import Building, Built
from hotmend.publisher.release.mirror import Mirror, digest_of
from hotmend.publisher.release.plan import Plan
from hotmend.publisher.release.session import Progress
from hotmend.publisher.survey.nursery import Pool
from hotmend.repository.releases import AnyRelease, HotpatchRelease, ReleaseFile


@dataclass(frozen=True, slots=True)
class Rechecked:
    """One bundle. `same`: it was built here, byte for byte; None: it could not be built, for `error`."""

    name: str
    same: bool | None
    error: str = ""


def recheck(plan: Plan, release: AnyRelease, mirror: Mirror, pool: Pool, progress: Progress) -> tuple[Rechecked, ...]:
    """Build the hotpatches of a release again and compare.

    Args:
        plan: of the channel: how builds are compared.
        release: verified.
        mirror: where packages come from; those that the archive has forgotten have to be in its store.
        pool: to build in.
        progress: called while it goes on.

    Raises:
        UsageError: a release of another channel, or one without hotpatches.
    """
    if release.channel != plan.channel or not isinstance(release, HotpatchRelease):
        raise UsageError(f"{release.id} is no hotpatch of {plan.channel}")
    mirror.update()
    sources = _sources(mirror, release.files)
    results = []
    for number, file in enumerate(release.files):
        progress(f"building {file.images[0].package}", number, len(release.files))
        results.append(_recheck(plan, file, sources, mirror, pool))
    return tuple(results)


def _sources(mirror: Mirror, files: Sequence[ReleaseFile]) -> dict[str, str]:
    offers = mirror.offers()
    names = {image.package for file in files for image in file.images}
    return {name: offers[name].offer.source for name in names if name in offers}


def _recheck(plan: Plan, file: ReleaseFile, sources: dict[str, str], mirror: Mirror, pool: Pool) -> Rechecked:
    image = file.images[0]
    versions = (PackageVersion(image.package, image.old_version), PackageVersion(image.package, image.new_version))
    try:
        found = mirror.fetch(versions)
    except HotmendError as error:
        return Rechecked(file.name, None, str(error))
    old, new = (found[version] for version in versions)
    accept = plan.accept.get(sources.get(image.package, image.package), ())
    building = Building(str(old), str(new), digest_of(old), digest_of(new), accept, plan.partial)
    answer = pool.run("build", building)
    if answer.result is None:
        return Rechecked(file.name, None, answer.error or "no answer")
    bundle = base64.b64decode(msgspec.convert(answer.result, Built).bundle)
    return Rechecked(file.name, hashlib.sha256(bundle).hexdigest() == file.sha256)


def store_of(plan: Plan) -> Path:
    """Return the folder of the client that an independent builder reads a channel with."""
    return Path(plan.state) / "check"
