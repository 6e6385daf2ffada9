"""Requests that wait for signatures: their files in `waiting/`, and how each stands beside what is in force."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tuf.api.metadata import Metadata, Root, Targets

from hotmend.repository import metadata, requests
from hotmend.repository.layout import ROOT, TARGETS
from hotmend.repository.refusal import refused
from hotmend.repository.requests import Request, Signatures, SignatureShape
from hotmend.repository.state import State
from hotmend.repository.store import Store

FOLDER: Final = "waiting"
_REQUEST, _SIGNATURES = ".request", ".signatures"


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that waits for signatures.

    Attributes:
        id: name of its file in `waiting/`, without the suffix.
        path: of the file, to be taken to the signer.
        changes: what it does.
        missing: role to the number of signatures that are still needed.
        since: when it was made.
        stale: something else was published since; it has to be made again.
        signed: somebody has signed it already, though not enough.
    """

    id: str
    path: Path
    changes: tuple[requests.Change, ...]
    missing: Mapping[str, int]
    since: datetime
    stale: bool = False
    signed: bool = False


class Waiting:
    """The folder in which they wait.

    Args:
        store: of the repository.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def identities(self) -> tuple[str, ...]:
        """Return the id of each."""
        names = self._store.names(FOLDER)
        return tuple(name.removesuffix(_REQUEST) for name in names if name.endswith(_REQUEST))

    def write(self, request: Request) -> str:
        """Keep a request and return its id."""
        data = requests.request_encode(request)
        identity = hashlib.sha256(data).hexdigest()[:16]
        self._store.write(f"{FOLDER}/{identity}{_REQUEST}", data)
        return identity

    def read(self, digest: str) -> Request:
        """Return a request by its id or its whole SHA-256.

        Raises:
            Refusal: it is not there, or another.
        """
        name = f"{FOLDER}/{digest[:16]}{_REQUEST}"
        if not self._store.exists(name):
            raise refused("request-unknown", "no such request is waiting: it was published, or made elsewhere", digest)
        data = self._store.read(name, requests.REQUEST_BYTES_MAX)
        if not hashlib.sha256(data).hexdigest().startswith(digest):
            raise refused("request-unknown", "the request that is waiting is another", digest)
        return requests.request_decode(data)

    def pending(self, identity: str, request: Request, missing: Mapping[str, int], *, stale: bool = False) -> Pending:
        """Return how a request is told of."""
        path = self._store.root / FOLDER / f"{identity}{_REQUEST}"
        since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return Pending(identity, path, requests.review(request), missing, since, stale)

    def known(self, identity: str) -> dict[str, tuple[SignatureShape, ...]]:
        """Return the signatures that have come back, by role."""
        name = f"{FOLDER}/{identity}{_SIGNATURES}"
        if not self._store.exists(name):
            return {}
        return requests.signatures_decode(self._store.read(name, requests.SIGNATURES_BYTES_MAX), name).signatures

    def merge(self, identity: str, request: Request, signatures: Signatures) -> dict[str, tuple[SignatureShape, ...]]:
        """Return all signatures there are, each checked, and keep them.

        Raises:
            Refusal: one is not good.
        """
        known = self.known(identity)
        for role, shapes in signatures.signatures.items():
            if role not in request.proposed:
                raise refused("signature-not-good", f"the request proposes nothing for {role}", role)
            keys = requests.keys_of(request, role)
            for shape in shapes:
                if not requests.is_good(request.role(role), keys, shape):
                    sentence = f"a signature of {role} is not good, or by a key that may not sign for it"
                    raise refused("signature-not-good", sentence, shape.keyid)
            merged = {shape.keyid: shape for shape in (*known.get(role, ()), *shapes)}
            known[role] = tuple(merged.values())
        everything = Signatures(1, signatures.request, known)
        self._store.write(f"{FOLDER}/{identity}{_SIGNATURES}", requests.signatures_encode(everything))
        return known

    def forget(self, identity: str) -> None:
        """Take a request and its signatures away."""
        self._store.remove(f"{FOLDER}/{identity}{_REQUEST}")
        self._store.remove(f"{FOLDER}/{identity}{_SIGNATURES}")


def in_force(state: State | None, request: Request) -> bool:
    """Return whether a publisher died after publishing the request, before taking it away."""
    if state is None or state.torn:
        return False
    return all(has(state, request, role) for role in request.proposed)


def is_stale(state: State | None, request: Request) -> bool:
    """Return whether the repository has moved on since the request was made."""
    roots = state.roots if state else ()
    if roots != request.roots:
        # A publication that was interrupted has the proposed root already; it may be completed.
        last = metadata.parse(roots[-1], Root, ROOT) if roots else None
        proposed = request.root
        same = last is not None and proposed is not None and last.signed == proposed.signed
        if roots[:-1] != request.roots or not same:
            return True
    if state is None:
        return bool(request.current)
    # What a publisher that died has put in force already is no news either.
    return any(state.files.get(r) != data and not has(state, request, r) for r, data in request.current.items())


def has(state: State, request: Request, role: str) -> bool:
    """Return whether what the request proposes for a role is in force."""
    known = {ROOT, TARGETS, *state.delegated}
    return role in known and role in request.proposed and state.role(role).signed == request.role(role).signed


def signed_with(request: Request, role: str, known: Mapping[str, tuple[SignatureShape, ...]]) -> Metadata[Targets]:
    """Return what a request proposes for a role, with the signatures that have come back."""
    proposed: Metadata[Targets] = request.role(role)
    return metadata.merged(proposed, requests.as_signatures(known.get(role, ())))


def signed_root(request: Request, signed: Mapping[str, Metadata[Targets]]) -> Metadata[Root]:
    """Return the root that a request proposes, signed."""
    return metadata.merged(metadata.parse(request.proposed[ROOT], Root, ROOT), signed[ROOT].signatures.values())


def signatures_missing(request: Request, signed: Mapping[str, Metadata[Root] | Metadata[Targets]]) -> dict[str, int]:
    """Return for each role how many signatures are still needed; of a root, by the old keys and by the new."""
    missing: dict[str, int] = {}
    for role, found in signed.items():
        count = metadata.standing(request.delegator(role), role, found).missing
        if role == ROOT and request.roots:
            before = metadata.parse(request.roots[-1], Root, ROOT)
            count = max(count, metadata.standing(before, ROOT, found).missing)
        if count:
            missing[role] = count
    return missing
