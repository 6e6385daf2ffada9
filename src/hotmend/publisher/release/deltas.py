"""The deltas of a release's bundles, against the old packages that the channel keeps."""

from __future__ import annotations

from collections.abc import Mapping

from hotmend.image.deb import read_deb
from hotmend.image.elf import read_image
from hotmend.model.errors import HotmendError, InputError
from hotmend.publisher.feed import PackageVersion
from hotmend.publisher.release.session import Session
from hotmend.repository import layout
from hotmend.repository.deltas import Delta, delta_make
from hotmend.repository.layout import Tier
from hotmend.repository.releases import HotpatchRelease


def deltas_of(session: Session, release: HotpatchRelease, bundles: Mapping[str, bytes]) -> dict[str, Delta]:
    """Return the deltas of those bundles that the canary tier does not have yet, by the name of the bundle.

    A bundle without one is fetched whole; so nothing that goes wrong here keeps a release back.
    """
    state, _, _ = session.publisher.contents()
    there = state.role(layout.tier_role(session.plan.channel, Tier.CANARY)).signed.targets
    new = [f for f in release.files if layout.file_path(session.plan.channel, Tier.CANARY, f.name) not in there]
    found: dict[str, Delta] = {}
    for number, file in enumerate(new):
        session.progress("compressing against old images", number, len(new))
        image = file.images[0]
        try:
            files = _old_files(session, PackageVersion(image.package, image.old_version))
            delta = delta_make(bundles[file.name], [files.get(one.old_build_id) for one in file.images])
        except HotmendError as error:
            session.done.problems.append(f"{file.name} travels whole: {error}")
            continue
        if delta is not None:
            found[file.name] = delta
    return found


def _old_files(session: Session, version: PackageVersion) -> dict[str, bytes]:
    """Return the programs and libraries of a package, by build-id."""
    found: dict[str, bytes] = {}
    for file in read_deb(session.mirror.fetch([version])[version]).elf_files:
        try:
            found[read_image(file.content, file.path).build_id] = file.content
        except InputError:
            continue
    return found
