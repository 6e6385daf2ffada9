"""What one tier of a channel offers, and the rules for what may be added to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Final

import msgspec
from tuf.api.metadata import Metadata, TargetFile, Targets

from hotmend.model.errors import InputError
from hotmend.repository import layout, metadata
from hotmend.repository.deltas import Delta, check_delta
from hotmend.repository.documents import index_decode, index_encode, release_decode, release_encode
from hotmend.repository.layout import Tier
from hotmend.repository.making import check_content
from hotmend.repository.refusal import refused
from hotmend.repository.releases import AnyRelease, Baseline, HotpatchRelease, KnownIssue, Withdrawal, index_of

_DOCUMENT_SUFFIX: Final = ".release.json"


@dataclass(frozen=True, slots=True)
class Content:
    """All releases of a tier.

    Attributes:
        channel, tier: which.
        releases: by id.
        documents: id to the bytes of its document.
    """

    channel: str
    tier: Tier
    releases: Mapping[str, AnyRelease] = field(default_factory=dict)
    documents: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def index(self) -> bytes:
        """The index file."""
        return index_encode(index_of(self.channel, self.tier.value, tuple(self.releases.values())))


def document_ids(role: Metadata[Targets], channel: str, tier: Tier) -> dict[str, str]:
    """Return the id of each release that a role's metadata has a document of, with the document's path."""
    start = layout.folder(channel, tier)
    return {
        path.removeprefix(start).removesuffix(_DOCUMENT_SUFFIX): path
        for path in role.signed.targets
        if path.startswith(start) and path.endswith(_DOCUMENT_SUFFIX)
    }


def content_of(channel: str, tier: Tier, documents: Mapping[str, bytes]) -> Content:
    """Return the content that documents make, by id.

    Raises:
        InputError: a document is damaged or another's.
    """
    releases = {identity: release_decode(data, identity) for identity, data in documents.items()}
    for identity, release in releases.items():
        if (release.id, release.channel) != (identity, channel):
            raise InputError(f"{identity}: the document is that of {release.id} in {release.channel}")
    return Content(channel, tier, releases, documents)


def with_release(content: Content, release: AnyRelease, document: bytes | None = None) -> Content:
    """Return the content with a release added or put in the place of its earlier state."""
    data = release_encode(release) if document is None else document
    return replace(
        content,
        releases={**content.releases, release.id: release},
        documents={**content.documents, release.id: data},
    )


def check_addition(content: Content, release: AnyRelease) -> None:
    """Raise Refusal where a release cannot go in as a new one."""
    if release.channel != content.channel:
        raise refused("release-of-another-channel", f"{release.id} is for the channel {release.channel}", release.id)
    if release.id in content.releases:
        raise refused("release-exists", f"{release.id} is in the {content.tier} tier already", release.id)
    if isinstance(release, Baseline):
        return
    base = content.releases.get(release.requires)
    if not isinstance(base, Baseline) or base.withdrawn:
        sentence = (
            f"{release.id} builds on the baseline {release.requires}, which the {content.tier} tier does not offer"
        )
        raise refused("release-without-baseline", sentence, release.id, release.requires)
    if isinstance(release, HotpatchRelease):
        _check_superseded(content, release)


def _check_superseded(content: Content, release: HotpatchRelease) -> None:
    for identity in release.supersedes:
        earlier = content.releases.get(identity)
        # One that this tier never had cannot be on its machines.
        if earlier is None:
            continue
        if not isinstance(earlier, HotpatchRelease) or earlier.requires != release.requires:
            sentence = f"{release.id} cannot hold {identity}, which is no hotpatch of the same baseline"
            raise refused("release-supersedes-another", sentence, release.id, identity)


def withdrawn(release: AnyRelease, reason: str, at: datetime) -> AnyRelease:
    """Return the release as withdrawn."""
    return msgspec.structs.replace(release, withdrawn=Withdrawal(at, reason))


def with_issue_replaced(release: AnyRelease, before: KnownIssue, issue: KnownIssue) -> AnyRelease:
    """Return the release with a known issue in the place of another, which it may have got from an earlier release."""
    same = (before.title, before.since)
    issues = (issue if (each.title, each.since) == same else each for each in release.known_issues)
    return msgspec.structs.replace(release, known_issues=tuple(issues))


def with_issue(release: AnyRelease, issue: KnownIssue) -> AnyRelease:
    """Return the release with one more known issue."""
    return msgspec.structs.replace(release, known_issues=(*release.known_issues, issue))


def lagging(canary: Content, stable: Content) -> tuple[str, ...]:
    """Return the releases of which the canary tier says something else than the stable tier that has them too."""
    return tuple(i for i, data in stable.documents.items() if canary.documents.get(i, data) != data)


def files_of(
    content: Content,
    role: Metadata[Targets],
    bundles: Mapping[str, bytes],
    deltas: Mapping[str, Delta] = MappingProxyType({}),
) -> dict[str, TargetFile]:
    """Return what the role's metadata has to say: index, documents, bundles and deltas of all releases that stand.

    Args:
        content: to be published.
        role: the metadata before, which knows the bundles that are there already.
        bundles: new bundles, by name.
        deltas: theirs, by the name of the bundle. One of a bundle that was published without stays out.

    Raises:
        InputError: a bundle is missing, or is not what its release says.
    """
    where = (content.channel, content.tier)
    files = {layout.index_path(*where): metadata.target_of(layout.index_path(*where), content.index)}
    for identity, data in content.documents.items():
        path = layout.document_path(*where, identity)
        files[path] = metadata.target_of(path, data)
    for release in content.releases.values():
        if not isinstance(release, HotpatchRelease) or release.withdrawn:
            continue
        for file in release.files:
            path = layout.file_path(*where, file.name)
            if file.name in bundles:
                check_content(file, bundles[file.name])
            elif path not in role.signed.targets:
                raise InputError(f"{file.name}: the bundle is missing")
            target = TargetFile(file.bytes, {"sha256": file.sha256}, path)
            if path in role.signed.targets and role.signed.targets[path].hashes != target.hashes:
                raise InputError(f"{file.name}: another bundle of this name has been published")
            files[path] = target
            delta_path = layout.delta_path(*where, file.name)
            if delta_path in role.signed.targets:
                files[delta_path] = role.signed.targets[delta_path]
            elif file.name in deltas and path not in role.signed.targets:
                files[delta_path] = deltas[file.name].target(delta_path)
    return files


def content_files(
    content: Content, bundles: Mapping[str, bytes], deltas: Mapping[str, Delta] = MappingProxyType({})
) -> dict[str, bytes]:
    """Return the files to write, by target path."""
    where = (content.channel, content.tier)
    files = {layout.index_path(*where): content.index}
    files |= {layout.document_path(*where, identity): data for identity, data in content.documents.items()}
    files |= {layout.file_path(*where, name): data for name, data in bundles.items()}
    return files | {layout.delta_path(*where, name): delta.data for name, delta in deltas.items()}


def check_proposed(
    role: Metadata[Targets], current: Metadata[Targets] | None, where: tuple[str, Tier], files: Mapping[str, bytes]
) -> tuple[AnyRelease, ...]:
    """Return the releases that a proposal adds or changes, all of it checked by what the files themselves hold.

    Args:
        role: proposed metadata of a tier.
        current: what is in force, None before the first.
        where: channel and tier.
        files: target path to content; must have everything that is new, and the new and the old index.

    Raises:
        InputError: something does not fit; then nobody should sign.
    """
    before = current.signed.targets if current is not None else {}
    changed = {path: target for path, target in role.signed.targets.items() if before.get(path) != target}
    for path, target in changed.items():
        if not path.startswith(layout.folder(*where)) or path not in files:
            raise InputError(f"{path}: does not belong to the {where[1]} tier of {where[0]}, or did not come along")
        if not metadata.is_file(target, files[path]):
            raise InputError(f"{path}: is not the file that the metadata names")
        if target.custom is not None and not path.endswith(layout.DELTA_SUFFIX):
            raise InputError(f"{path}: the metadata say more of it than they should")
    documents = {i: files[path] for i, path in document_ids(role, *where).items() if path in changed}
    content = content_of(*where, documents)
    _check_removed(before.keys() - role.signed.targets.keys(), content)
    if changed or current is None:
        _check_index(role, current, content, files)
    deltas = {path for path in changed if path.endswith(layout.DELTA_SUFFIX)}
    for release in content.releases.values():
        deltas -= _check_bundles(role, release, where, files)
    if deltas:
        raise InputError(f"{min(deltas)}: belongs to no bundle that came along")
    return tuple(content.releases.values())


def _check_removed(paths: Set[str], content: Content) -> None:
    gone = (r for r in content.releases.values() if isinstance(r, HotpatchRelease) and r.withdrawn)
    where = (content.channel, content.tier)
    names = {file.name for release in gone for file in release.files}
    allowed = {path(*where, name) for name in names for path in (layout.file_path, layout.delta_path)}
    if paths - allowed:
        raise InputError(f"{min(paths - allowed)}: would disappear without being withdrawn")


def _check_index(
    role: Metadata[Targets], current: Metadata[Targets] | None, content: Content, files: Mapping[str, bytes]
) -> None:
    """The index must say of changed releases what their documents say, and of all others what it said before."""
    path = layout.index_path(content.channel, content.tier)
    index = index_decode(files[path]) if path in files else None
    if index is None or (index.channel, index.tier) != (content.channel, content.tier):
        raise InputError(f"{path}: missing, or the index of another tier")
    expected = {
        e.id: e for e in index_of(content.channel, content.tier.value, tuple(content.releases.values())).releases
    }
    known = document_ids(role, content.channel, content.tier)
    if {entry.id for entry in index.releases} != known.keys():
        raise InputError(f"{path}: names other releases than the metadata")
    old_name = f"before/{path}"
    old = index_decode(files[old_name]) if current is not None and old_name in files else None
    if old is not None and current is not None:
        if metadata.target_of(path, files[old_name]) != current.signed.targets.get(path):
            raise InputError(f"{path}: the index before is not the one in force")
        expected = {entry.id: entry for entry in old.releases} | expected
    if any(expected.get(entry.id) != entry for entry in index.releases):
        raise InputError(f"{path}: says something else of a release than its document")


def _check_bundles(
    role: Metadata[Targets], release: AnyRelease, where: tuple[str, Tier], files: Mapping[str, bytes]
) -> frozenset[str]:
    """Check what came along of a release's bundles and deltas; return the paths of these deltas."""
    if not isinstance(release, HotpatchRelease) or release.withdrawn:
        return frozenset()
    deltas: set[str] = set()
    for file in release.files:
        path, delta_path = layout.file_path(*where, file.name), layout.delta_path(*where, file.name)
        target, delta = role.signed.targets.get(path), role.signed.targets.get(delta_path)
        if target is None or (target.length, target.hashes) != (file.bytes, {"sha256": file.sha256}):
            raise InputError(f"{path}: the metadata names another bundle than the release")
        if path in files:
            check_content(file, files[path])
            if delta is not None and delta_path in files:
                check_delta(delta, file, files[path], files[delta_path])
                deltas.add(delta_path)
    return frozenset(deltas)
