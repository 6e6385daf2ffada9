"""One file out to the signer, one file back.

A *request* is an archive with the proposed metadata, what is in force, and every file that is new, so that whoever
holds an offline key sees what he signs without any network: `review` derives all that is said about a request from its
content and nothing from what the publishing host claims. What goes back is a small JSON file of signatures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, Signer
from tuf.api.metadata import Metadata, Root, Targets

from hotmend.model.errors import InputError
from hotmend.repository import layout, metadata
from hotmend.repository.archive import archive_bytes, archive_read
from hotmend.repository.documents import release_decode
from hotmend.repository.layout import ROOT, TARGETS
from hotmend.repository.releases import AnyRelease, Baseline, HotpatchRelease, KnownIssue
from hotmend.repository.state import check_roots
from hotmend.repository.tiers import check_proposed

REQUEST_BYTES_MAX: Final = 4 << 30
MEMBER_BYTES_MAX: Final = 256 << 20
SIGNATURES_BYTES_MAX: Final = 1 << 20
_PROPOSED, _CURRENT, _ROOTS, _FILES = "proposed", "current", "roots", "files"


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be signed.

    Attributes:
        proposed: role to its unsigned or partly signed metadata.
        roots: all roots in force; empty before the first.
        current: targets and the roles of tiers in force, as files.
        files: target path to content of new files; `before/PATH` for an index in force.
    """

    proposed: Mapping[str, bytes]
    roots: tuple[bytes, ...] = ()
    current: Mapping[str, bytes] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def root(self) -> Metadata[Root] | None:
        """The proposed root, else the one in force."""
        data = self.proposed.get(ROOT, self.roots[-1] if self.roots else None)
        return None if data is None else metadata.parse(data, Root, ROOT)

    def role(self, name: str) -> Metadata[Any]:
        """Return the proposed metadata of a role."""
        return metadata.parse(self.proposed[name], metadata.kind_of(name), name)

    def delegator(self, role: str) -> Metadata[Root] | Metadata[Targets]:
        """Return who says which keys sign for a role, once the request is in force."""
        if layout.role_tier(role):
            data = self.proposed.get(TARGETS) or self.current.get(TARGETS)
            if data is None:
                raise InputError("request: there is no targets role")
            return metadata.parse(data, Targets, TARGETS)
        root = self.root
        if root is None:
            raise InputError("request: there is no root")
        return root


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a request does: `role`, and a sentence about it."""

    role: str
    sentence: str


class SignatureShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature, as TUF has it."""

    keyid: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    sig: Annotated[str, Meta(pattern=r"\A([0-9a-f]{2}){1,4096}\Z")]


class Signatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What comes back from a signer.

    Attributes:
        request: SHA-256 of the request's file.
        signatures: role to signatures.
    """

    format: Literal[1]
    request: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    signatures: dict[str, tuple[SignatureShape, ...]]


def request_encode(request: Request) -> bytes:
    """Return the request as one file."""
    members = {f"{_PROPOSED}/{role}.json": data for role, data in sorted(request.proposed.items())}
    members |= {f"{_ROOTS}/{number}.json": data for number, data in enumerate(request.roots, 1)}
    members |= {f"{_CURRENT}/{role}.json": data for role, data in sorted(request.current.items())}
    members |= {f"{_FILES}/{path}": data for path, data in sorted(request.files.items())}
    return archive_bytes(members)


def request_decode(data: bytes) -> Request:
    """Return the request that a file holds; nothing is checked yet (`review`).

    Raises:
        InputError: damaged, too long, or no request.
    """
    if len(data) > REQUEST_BYTES_MAX:
        raise InputError(f"request: longer than {REQUEST_BYTES_MAX} bytes")
    sorted_: dict[str, dict[str, bytes]] = {_PROPOSED: {}, _CURRENT: {}, _ROOTS: {}, _FILES: {}}
    for name, content in archive_read(data, MEMBER_BYTES_MAX).items():
        folder, _, rest = name.partition("/")
        if folder not in sorted_ or not rest:
            raise InputError(f"request: member {name[:80]!r} does not belong in a request")
        sorted_[folder][rest if folder == _FILES else rest.removesuffix(".json")] = content
    if not sorted_[_PROPOSED]:
        raise InputError("request: proposes nothing")
    if sorted_[_ROOTS].keys() != {str(n + 1) for n in range(len(sorted_[_ROOTS]))}:
        raise InputError("request: roots are missing")
    roots = tuple(sorted_[_ROOTS][str(n + 1)] for n in range(len(sorted_[_ROOTS])))
    return Request(sorted_[_PROPOSED], roots, sorted_[_CURRENT], sorted_[_FILES])


def review(request: Request, trusted: bytes | None = None) -> tuple[Change, ...]:
    """Return what a request does, everything in it having been checked.

    Args:
        request: as it came.
        trusted: a root that the signer keeps himself; must be among the roots in force.

    Raises:
        InputError: the request does not hold together; nobody should sign it.
    """
    before = check_roots(request.roots) if request.roots else None
    if trusted is not None and trusted not in request.roots:
        raise InputError("request: is not about the repository whose root you trust")
    current = _current_roles(request, before)
    changes: list[Change] = []
    for role in request.proposed:
        proposed = request.role(role)
        old = before if role == ROOT else current.get(role)
        expected = old.signed.version + 1 if old is not None else 1
        if proposed.signed.version != expected:
            raise InputError(f"request: {role} has version {proposed.signed.version}, not {expected}")
        changes += _changes(request, role, proposed, old)
        changes.append(Change(role, f"valid until {proposed.signed.expires:%Y-%m-%d}"))
    return tuple(changes)


def sign(request_file: bytes, signers: tuple[Signer, ...]) -> Signatures:
    """Return signatures of everything in the request that these keys may sign.

    Raises:
        InputError: none of them may sign anything.
    """
    request = request_decode(request_file)
    made: dict[str, tuple[SignatureShape, ...]] = {}
    for role in request.proposed:
        proposed = request.role(role)
        allowed = keys_of(request, role)
        usable = [signer for signer in signers if signer.public_key.keyid in allowed]
        found = [signer.sign(proposed.signed_bytes) for signer in usable]
        if found:
            made[role] = tuple(SignatureShape(signature.keyid, signature.signature) for signature in found)
    if not made:
        raise InputError("none of these keys may sign anything in this request")
    return Signatures(1, hashlib.sha256(request_file).hexdigest(), made)


def keys_of(request: Request, role: str) -> dict[str, Key]:
    """Return the keys whose signature means something for a role, by id: those to come, and those in force.

    The latter are not needed, except for a root; with them, a client that does not know the new keys yet can follow.
    """
    keys = {key.keyid: key for key in metadata.key_set_of(request.delegator(role), role).keys}
    before: Metadata[Root] | Metadata[Targets] | None = None
    if layout.role_tier(role) and TARGETS in request.current:
        before = metadata.parse(request.current[TARGETS], Targets, TARGETS)
    elif request.roots and not layout.role_tier(role):
        before = metadata.parse(request.roots[-1], Root, ROOT)
    if before is None or (layout.role_tier(role) and role not in metadata.delegated_roles(before)):
        return keys
    return keys | {key.keyid: key for key in metadata.key_set_of(before, role).keys}


def is_good(proposed: Metadata[Any], keys: Mapping[str, Key], shape: SignatureShape) -> bool:
    """Return whether a signature is one of what is proposed, by one of `keys`."""
    try:
        keys[shape.keyid].verify_signature(Signature(shape.keyid, shape.sig), proposed.signed_bytes)
    except (KeyError, UnverifiedSignatureError):
        return False
    return True


def signatures_encode(signatures: Signatures) -> bytes:
    """Return the file that goes back."""
    return msgspec.json.format(msgspec.json.encode(signatures)) + b"\n"


def signatures_decode(data: bytes, source: str) -> Signatures:
    """Return the signatures that a file holds; whether they are good is another question.

    Raises:
        InputError: too long or not this form.
    """
    if len(data) > SIGNATURES_BYTES_MAX:
        raise InputError(f"{source}: longer than {SIGNATURES_BYTES_MAX} bytes")
    try:
        return msgspec.json.decode(data, type=Signatures)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InputError(f"{source}: {error}") from None


def as_signatures(shapes: tuple[SignatureShape, ...]) -> tuple[Signature, ...]:
    """Return signatures as TUF's library has them."""
    return tuple(Signature(shape.keyid, shape.sig) for shape in shapes)


def _current_roles(request: Request, root: Metadata[Root] | None) -> dict[str, Metadata[Targets]]:
    """Return the roles in force, each checked from the root on."""
    if root is None:
        if request.current:
            raise InputError("request: roles in force without a root")
        return {}
    if TARGETS not in request.current:
        raise InputError("request: the targets role in force did not come along")
    targets = metadata.parse(request.current[TARGETS], Targets, TARGETS)
    metadata.check_signed(root, TARGETS, targets)
    found = {TARGETS: targets}
    for role, data in request.current.items():
        if role != TARGETS:
            found[role] = metadata.parse(data, Targets, role)
            metadata.check_signed(targets, role, found[role])
    known = {role for role in request.proposed if role in metadata.delegated_roles(targets)}
    if known - found.keys():
        raise InputError(f"request: {min(known - found.keys())} in force did not come along")
    return found


def _changes(request: Request, role: str, proposed: Metadata[Any], old: Metadata[Any] | None) -> list[Change]:
    if role == ROOT:
        return [c for name in proposed.signed.roles for c in _key_changes(name, proposed, old)]
    if role == TARGETS:
        if proposed.signed.targets:
            raise InputError("request: the targets role would sign files itself")
        return [c for name in metadata.delegated_roles(proposed) for c in _delegation_changes(name, proposed, old)]
    where = layout.role_tier(role)
    if where is None:
        raise InputError(f"request: {role} is not signed offline")
    releases = check_proposed(proposed, old, (where[1], where[0]), request.files)
    if old is not None and not releases and old.signed.targets != proposed.signed.targets:
        raise InputError(f"request: {role} changes files that belong to no release")
    return [Change(role, release_sentence(release, request, where)) for release in releases]


def _delegation_changes(name: str, proposed: Metadata[Targets], old: Metadata[Targets] | None) -> list[Change]:
    where = layout.role_tier(name)
    role = proposed.signed.get_delegated_role(name)
    paths = getattr(role, "paths", None)
    if where is None or paths != [f"{layout.folder(where[1], where[0])}*"]:
        raise InputError(f"request: {name} would sign for {paths}")
    known = old if old is not None and name in metadata.delegated_roles(old) else None
    return _key_changes(name, proposed, known)


def _key_changes(
    name: str,
    proposed: Metadata[Root] | Metadata[Targets],
    old: Metadata[Root] | Metadata[Targets] | None,
) -> list[Change]:
    new_keys = metadata.key_set_of(proposed, name)
    old_keys = metadata.key_set_of(old, name) if old is not None else metadata.KeySet((), 0)
    changes = [Change(name, f"key {key[:16]} may sign") for key in sorted(new_keys.ids - old_keys.ids)]
    changes += [Change(name, f"key {key[:16]} may sign no more") for key in sorted(old_keys.ids - new_keys.ids)]
    if new_keys.threshold != old_keys.threshold:
        changes.append(Change(name, f"{new_keys.threshold} of {len(new_keys.keys)} keys have to sign"))
    return changes


def release_sentence(release: AnyRelease, request: Request, where: tuple[layout.Tier, str]) -> str:
    """Return what happens to a release, for the person who signs."""
    path = layout.document_path(where[1], where[0], release.id)
    data = request.files.get(f"before/{path}")
    old = release_decode(data) if data is not None else None
    verb = "changes" if old is not None and old.id == release.id else "adds"
    if release.withdrawn is not None:
        return f"withdraws {release.id}: {release.withdrawn.reason}"
    said = "".join(_issue_sentence(i) for i in release.known_issues if old is None or i not in old.known_issues)
    if isinstance(release, Baseline):
        count, suite = len(release.manifest.packages), release.manifest.suite
        return f"{verb} the baseline {release.id}: {count} packages of {suite}{said}"
    packages = ", ".join(f"{p.name} {p.old_version} -> {p.new_version}" for p in release.packages)
    cves = f"; fixes {', '.join(release.cves)}" if release.cves else ""
    if isinstance(release, HotpatchRelease):
        return f"{verb} the hotpatch {release.id}: {packages}, {len(release.applies_to)} images{cves}{said}"
    return f"{verb} the unplanned baseline {release.id}: {packages}{cves}{said}"


def _issue_sentence(issue: KnownIssue) -> str:
    """Return what a known issue says, with what it has people do: a person signs it."""
    commands = [command for option in issue.options for step in option.steps for command in step.commands]
    parts = [f"known issue: {issue.title}"]
    parts += [f"resolved by {issue.resolved_by}"] * bool(issue.resolved_by)
    parts += [f"to be done before {issue.deadline}"] * (issue.deadline is not None)
    parts += [f"commands: {'; '.join(commands)}"] * bool(commands)
    return f"; {', '.join(parts)}"
