"""Publishing: what the host that builds and serves a repository does to it. One method, one deed.

What an offline key has to sign becomes a request that waits (`waiting`), and is published by `accept` once enough
signatures have come back. All else is published at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import msgspec
from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets

from hotmend.model.errors import InputError, UsageError
from hotmend.repository import layout, metadata, requests, tiers
from hotmend.repository.deltas import Delta, images_of
from hotmend.repository.keys import Secret, check_distinct, signer_load
from hotmend.repository.layout import ROOT, SNAPSHOT, TARGETS, TIMESTAMP, Tier
from hotmend.repository.metadata import KeySet
from hotmend.repository.publication import Change, publish
from hotmend.repository.refusal import refused
from hotmend.repository.releases import AnyRelease, Baseline, HotpatchRelease, KnownIssue
from hotmend.repository.requests import Request, Signatures
from hotmend.repository.signing import OnlineSigners
from hotmend.repository.state import Settings, State, settings_load, settings_write, state_load, target_name
from hotmend.repository.store import Disk, Store
from hotmend.repository.tiers import Content
from hotmend.repository.waiting import (
    Pending,
    Waiting,
    has,
    in_force,
    is_stale,
    signatures_missing,
    signed_root,
    signed_with,
)


@dataclass(frozen=True, slots=True)
class Founding:
    """Keys of a new repository or channel.

    Attributes:
        root, targets: of a new repository; not used for another channel.
        stable: offline keys of the channel's stable tier.
        online: references of the keys for snapshot and timestamp, on this host.
        canary: references of the keys for the channel's canary tier, on the build host.
    """

    root: KeySet
    targets: KeySet
    stable: KeySet
    online: tuple[str, ...]
    canary: tuple[str, ...]


class Publisher:
    """A repository's folder, to be changed.

    Attributes:
        store: the folder's files.
    """

    def __init__(
        self,
        folder: Path,
        secret: Secret,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        disk: Disk | None = None,
    ) -> None:
        self.store = Store(folder, disk)
        self._waiting = Waiting(self.store)
        self._secret = secret
        self._now = now

    def init(self, channel: str, founding: Founding) -> Pending:
        """Ask for a new repository with one channel, or for one more channel.

        Raises:
            UsageError: the channel is there, or thresholds cannot be reached.
        """
        layout.check_channel(channel)
        with self.store.lock():
            state, settings = self._load()
            if state is not None and channel in state.channels:
                raise UsageError(f"there is a channel {channel} already")
            canary = self._own_keys(founding.canary)
            check_distinct(founding.stable.keys, founding.stable.threshold, "stable")
            signers = {**settings.signers, layout.tier_role(channel, Tier.CANARY): founding.canary}
            proposed: dict[str, Metadata[Root] | Metadata[Targets]] = {}
            targets = metadata.targets_first(self._expires(TARGETS, settings))
            if state is None:
                signers |= {SNAPSHOT: founding.online, TIMESTAMP: founding.online}
                proposed[ROOT] = self._first_root(founding, settings)
            else:
                targets = metadata.following(state.targets, self._expires(TARGETS, settings))
            targets = metadata.delegated(targets, channel, Tier.STABLE, founding.stable)
            proposed[TARGETS] = metadata.delegated(targets, channel, Tier.CANARY, KeySet(canary, 1))
            role = layout.tier_role(channel, Tier.STABLE)
            first = metadata.targets_first(self._expires(role, settings))
            empty = Content(channel, Tier.STABLE)
            proposed[role] = metadata.with_files(first, tiers.files_of(empty, first, {}))
            settings_write(self.store, msgspec.structs.replace(settings, signers=signers))
            return self._request(state, proposed, tiers.content_files(empty, {}))

    def add(
        self,
        release: AnyRelease,
        bundles: Mapping[str, bytes],
        deltas: Mapping[str, Delta] = MappingProxyType({}),
    ) -> None:
        """Publish a release to the canary tier.

        Args:
            release: new.
            bundles: name to content of each of its files.
            deltas: name of a bundle to its delta, where there is one.

        Raises:
            Refusal: it cannot go in.
        """
        with self.store.lock():
            state, settings = self._sound(release.channel)
            content = self._content(state, release.channel, Tier.CANARY)
            tiers.check_addition(content, release)
            self._publish_canary(state, settings, tiers.with_release(content, release), bundles, deltas)

    def promote(self, channel: str, identities: tuple[str, ...]) -> Pending:
        """Ask for releases of the canary tier to be offered to the stable tier.

        Raises:
            Refusal: a release is not there, withdrawn, or builds on what the stable tier does not have.
        """
        with self.store.lock():
            state, settings = self._sound(channel)
            canary, stable = (self._content(state, channel, tier) for tier in (Tier.CANARY, Tier.STABLE))
            bundles: dict[str, bytes] = {}
            deltas: dict[str, Delta] = {}
            before = stable
            chosen = [_find(canary, identity) for identity in dict.fromkeys(identities)]
            for release in sorted(chosen, key=lambda r: (not isinstance(r, Baseline), r.made)):
                if release.withdrawn is not None:
                    raise refused("release-withdrawn", f"{release.id} was withdrawn: {release.withdrawn.reason}")
                tiers.check_addition(stable, release)
                stable = tiers.with_release(stable, release, canary.documents[release.id])
                bundles |= self._bundles(channel, release)
                deltas |= self._deltas(state, channel, release)
            return self._request_stable(state, settings, before, stable, bundles, deltas)

    def amend(
        self, channel: str, identities: tuple[str, ...], change: Callable[[AnyRelease], AnyRelease]
    ) -> Pending | None:
        """Change what may change of releases: at once for canary, as one request for those that stable has.

        Raises:
            Refusal: the canary tier has no such release.
        """
        with self.store.lock():
            state, settings = self._sound(channel)
            canary, stable = (self._content(state, channel, tier) for tier in (Tier.CANARY, Tier.STABLE))
            before = stable
            for identity in identities:
                amended = change(_find(canary, identity))
                canary = tiers.with_release(canary, amended)
                stable = tiers.with_release(stable, amended) if identity in stable.releases else stable
            self._publish_canary(state, settings, canary, {}, {})
            if stable is before:
                return None
            state, settings = self._sound(channel)
            return self._request_stable(state, settings, before, stable, {}, {})

    def withdraw(self, channel: str, identities: tuple[str, ...], reason: str) -> Pending | None:
        """Withdraw releases (`amend`)."""
        return self.amend(channel, identities, lambda release: tiers.withdrawn(release, reason, self._now()))

    def add_issue(self, channel: str, identity: str, issue: KnownIssue) -> Pending | None:
        """Add a known issue (`amend`)."""
        return self.amend(channel, (identity,), lambda release: tiers.with_issue(release, issue))

    def replace_issue(self, channel: str, identity: str, number: int, issue: KnownIssue) -> Pending | None:
        """Put a known issue in the place of a release's, there and in each release that has it as well (`amend`).

        Args:
            channel: of the releases.
            identity: a release that has the issue.
            number: its place among the release's issues, from 0.
            issue: what it says from now on; it is known since the same moment.

        Raises:
            Refusal: there is no such release.
            InputError: it has no such issue.
        """
        state, _ = self._sound(channel)
        content = self._content(state, channel, Tier.CANARY)
        issues = _find(content, identity).known_issues
        if not 0 <= number < len(issues):
            raise InputError(f"{identity} has {len(issues)} known issues: their numbers begin with 0")
        before = issues[number]
        issue = msgspec.structs.replace(issue, since=before.since)
        same = [
            i for i, release in content.releases.items() if tiers.with_issue_replaced(release, before, issue) != release
        ]
        return self.amend(channel, tuple(same), lambda release: tiers.with_issue_replaced(release, before, issue))

    def unasked(self, channel: str) -> tuple[str, ...]:
        """Return releases that were amended, for which the stable tier still says otherwise and no request waits.

        A request goes out of date when another one is published first; or whoever made it died before it was written.
        """
        state, _ = self._sound(channel)
        canary, stable = (self._content(state, channel, tier) for tier in (Tier.CANARY, Tier.STABLE))
        return self._unasked(state, canary, stable)

    def ask_again(self, channel: str) -> Pending | None:
        """Ask for what `unasked` has, as one request; None where there is nothing."""
        with self.store.lock():
            state, settings = self._sound(channel)
            canary, before = (self._content(state, channel, tier) for tier in (Tier.CANARY, Tier.STABLE))
            stable = before
            for identity in self._unasked(state, canary, before):
                stable = tiers.with_release(stable, canary.releases[identity], canary.documents[identity])
            return None if stable is before else self._request_stable(state, settings, before, stable, {}, {})

    def _unasked(self, state: State, canary: Content, stable: Content) -> tuple[str, ...]:
        left = {layout.document_path(stable.channel, stable.tier, i): i for i in tiers.lagging(canary, stable)}
        for identity in self._waiting.identities() if left else ():
            if not is_stale(state, request := self._waiting.read(identity)):
                asked = {p for p, i in left.items() if request.files.get(p) == canary.documents[i]}
                left = {p: i for p, i in left.items() if p not in asked}
        return tuple(left.values())

    def rekey(
        self,
        role: str,
        add: tuple[Key, ...],
        remove: tuple[str, ...],
        threshold: int | None,
        references: tuple[str, ...],
    ) -> Pending:
        """Ask for other keys for a role.

        Args:
            role: whose.
            add: public keys that may sign from then on.
            remove: first digits of the ids of keys that may not.
            threshold: how many have to sign; None for as many as now.
            references: of keys on this host that sign for the role, for one that is signed here.

        Raises:
            UsageError: no such key, or the threshold cannot be reached.
        """
        with self.store.lock():
            state, settings = self._sound()
            old = metadata.key_set_of(state.delegator(role), role)
            keys = (*_without(old, remove), *add, *self._own_keys(references))
            key_set = KeySet(keys, old.threshold if threshold is None else threshold)
            check_distinct(key_set.keys, key_set.threshold, role)
            if references:
                signers = {**settings.signers, role: (*settings.signers.get(role, ()), *references)}
                settings_write(self.store, msgspec.structs.replace(settings, signers=signers))
            return self._request(state, self._rekeyed(state, settings, role, key_set), {})

    def renew(self) -> Pending:
        """Ask for new signatures of everything that is signed offline, with nothing else changed."""
        with self.store.lock():
            state, settings = self._sound()
            offline = [layout.tier_role(channel, Tier.STABLE) for channel in state.channels]
            proposed: dict[str, Metadata[Root] | Metadata[Targets]] = {
                role: metadata.following(state.role(role), self._expires(role, settings))
                for role in (ROOT, TARGETS, *offline)
            }
            return self._request(state, proposed, {})

    def accept(self, signatures: Signatures) -> Pending | None:
        """Take signatures that came back, and publish the request once there are enough. None: published.

        Raises:
            Refusal: the request is not there or out of date, or a signature is not good.
        """
        with self.store.lock():
            self.store.sweep()
            state, settings = self._load()
            identity = signatures.request[:16]
            request = self._waiting.read(signatures.request)
            if in_force(state, request):
                self._waiting.forget(identity)
                return None
            if is_stale(state, request):
                self._waiting.forget(identity)
                sentence = "something else has been published since this request was made"
                raise refused("request-out-of-date", sentence, identity)
            known = self._waiting.merge(identity, request, signatures)
            signed = {role: signed_with(request, role, known) for role in request.proposed}
            missing = signatures_missing(request, signed)
            if missing:
                return self._waiting.pending(identity, request, missing)
            self._publish_request(state, settings, request, signed)
            self._waiting.forget(identity)
            return None

    def refresh(self) -> tuple[str, ...]:
        """Sign timestamp and, where due, snapshot and canary anew; return the roles signed. Run it by a timer."""
        with self.store.lock():
            self.store.sweep()
            state, settings = self._load()
            if state is None:
                raise refused("repository-empty", "nothing has been published yet")
            now = self._now()
            due = [
                role
                for channel in state.channels
                if (role := layout.tier_role(channel, Tier.CANARY))
                and (state.role(role).signed.expires - now).days * 2 <= settings.days[Tier.CANARY]
            ]
            signers = OnlineSigners(settings, self._secret)
            roles = {role: metadata.following(state.role(role), self._expires(role, settings)) for role in due}
            signed = {role: signers.sign(role, unsigned, (state.targets,)) for role, unsigned in roles.items()}
            publish(self.store, state, Change(roles=signed), signers, settings.days, now)
            after = state_load(self.store)
            names = (*due, SNAPSHOT, TIMESTAMP)
            return tuple(r for r in names if after and after.role(r).signed.version != state.role(r).signed.version)

    def pending(self) -> tuple[Pending, ...]:
        """Return all requests that wait, oldest first."""
        state, _ = self._load()
        found = []
        for identity in self._waiting.identities():
            request, known = self._waiting.read(identity), self._waiting.known(identity)
            signed = {role: signed_with(request, role, known) for role in request.proposed}
            missing, stale = signatures_missing(request, signed), is_stale(state, request)
            pending = self._waiting.pending(identity, request, missing, stale=stale)
            found.append(replace(pending, signed=any(known.values())))
        return tuple(sorted(found, key=lambda pending: pending.since))

    def discard(self, pending: Pending) -> None:
        """Take a request away that waits."""
        with self.store.lock():
            self._waiting.forget(pending.id)

    def contents(self) -> tuple[State, Settings, tuple[Content, ...]]:
        """Return what is in force, the settings, and what each tier offers."""
        state, settings = self._load()
        if state is None:
            raise refused("repository-empty", "nothing has been published yet")
        tiers_ = tuple(self._content(state, channel, tier) for channel in state.channels for tier in Tier)
        return state, settings, tiers_

    def _load(self) -> tuple[State | None, Settings]:
        return state_load(self.store), settings_load(self.store)

    def _sound(self, channel: str | None = None) -> tuple[State, Settings]:
        state, settings = self._load()
        if state is None:
            raise refused("repository-empty", "nothing has been published yet: the first request waits for signatures")
        if state.torn:
            raise refused("publication-interrupted", "the last publication was interrupted: accept its request again")
        if channel is not None and channel not in state.channels:
            raise InputError(f"there is no channel {channel}", f"channels: {', '.join(state.channels)}")
        return state, settings

    def _expires(self, role: str, settings: Settings) -> datetime:
        return metadata.expires_at(role, settings.days, self._now())

    def _own_keys(self, references: tuple[str, ...]) -> tuple[Key, ...]:
        return tuple(signer_load(reference, self._secret).public_key for reference in references)

    def _first_root(self, founding: Founding, settings: Settings) -> Metadata[Root]:
        online = KeySet(self._own_keys(founding.online), 1)
        keys = {ROOT: founding.root, TARGETS: founding.targets, SNAPSHOT: online, TIMESTAMP: online}
        for role, key_set in keys.items():
            check_distinct(key_set.keys, key_set.threshold, role)
        return metadata.root_first(keys, self._expires(ROOT, settings))

    def _rekeyed(
        self, state: State, settings: Settings, role: str, key_set: KeySet
    ) -> dict[str, Metadata[Root] | Metadata[Targets]]:
        """Return the new delegator, and what has to be signed anew because of it."""
        where = layout.role_tier(role)
        targets = metadata.following(state.targets, self._expires(TARGETS, settings))
        if where is None:
            root = metadata.following(state.root, self._expires(ROOT, settings))
            changed: dict[str, Metadata[Root] | Metadata[Targets]] = {ROOT: metadata.rekeyed(root, role, key_set)}
            return changed | ({TARGETS: targets} if role == TARGETS else {})
        changed = {TARGETS: metadata.delegated(targets, where[1], where[0], key_set)}
        if where[0] is Tier.STABLE:
            changed[role] = metadata.following(state.role(role), self._expires(role, settings))
        return changed

    def _content(self, state: State, channel: str, tier: Tier) -> Content:
        role = state.role(layout.tier_role(channel, tier))
        documents = {}
        for identity, path in tiers.document_ids(role, channel, tier).items():
            target = role.signed.targets[path]
            documents[identity] = self.store.read(target_name(path, target.hashes["sha256"]), layout.DOCUMENT_BYTES_MAX)
            if metadata.target_of(path, documents[identity]) != target:
                raise InputError(f"{path}: is not the file that was published")
        return tiers.content_of(channel, tier, documents)

    def _bundles(self, channel: str, release: AnyRelease) -> dict[str, bytes]:
        if not isinstance(release, HotpatchRelease):
            return {}
        return {
            file.name: self.store.read(
                target_name(layout.file_path(channel, Tier.CANARY, file.name), file.sha256), file.bytes
            )
            for file in release.files
        }

    def _deltas(self, state: State, channel: str, release: AnyRelease) -> dict[str, Delta]:
        """Return the deltas that the canary tier has of a release's bundles, by the name of the bundle."""
        targets = state.role(layout.tier_role(channel, Tier.CANARY)).signed.targets
        found: dict[str, Delta] = {}
        for file in release.files if isinstance(release, HotpatchRelease) else ():
            path = layout.delta_path(channel, Tier.CANARY, file.name)
            if target := targets.get(path):
                data = self.store.read(target_name(path, target.hashes["sha256"]), target.length)
                images = images_of(target, file)
                found[file.name] = Delta(data, () if target.custom is None else images)
        return found

    def _publish_canary(
        self,
        state: State,
        settings: Settings,
        content: Content,
        bundles: Mapping[str, bytes],
        deltas: Mapping[str, Delta],
    ) -> None:
        role = layout.tier_role(content.channel, Tier.CANARY)
        current = state.role(role)
        files = tiers.files_of(content, current, bundles, deltas)
        unsigned = metadata.with_files(metadata.following(current, self._expires(role, settings)), files)
        signers = OnlineSigners(settings, self._secret)
        signed = signers.sign(role, unsigned, (state.targets,))
        change = Change(roles={role: signed}, files=tiers.content_files(content, bundles, deltas))
        self.store.sweep()
        publish(self.store, state, change, signers, settings.days, self._now())

    def _request_stable(
        self,
        state: State,
        settings: Settings,
        before: Content,
        after: Content,
        bundles: Mapping[str, bytes],
        deltas: Mapping[str, Delta],
    ) -> Pending:
        role = layout.tier_role(after.channel, Tier.STABLE)
        current = state.role(role)
        # Hotpatches are cumulative and share files: what stable has already need not travel to the signer.
        there = current.signed.targets
        bundles = {n: b for n, b in bundles.items() if layout.file_path(after.channel, after.tier, n) not in there}
        deltas = {name: delta for name, delta in deltas.items() if name in bundles}
        files = tiers.files_of(after, current, bundles, deltas)
        unsigned = metadata.with_files(metadata.following(current, self._expires(role, settings)), files)
        changed = {i: data for i, data in after.documents.items() if before.documents.get(i) != data}
        new = tiers.content_files(Content(after.channel, after.tier, after.releases, changed), bundles, deltas)
        old = {layout.index_path(before.channel, before.tier): before.index}
        for identity in changed.keys() & before.documents.keys():
            old[layout.document_path(before.channel, before.tier, identity)] = before.documents[identity]
        return self._request(state, {role: unsigned}, new | {f"before/{path}": data for path, data in old.items()})

    def _request(
        self,
        state: State | None,
        proposed: Mapping[str, Metadata[Root] | Metadata[Targets]],
        files: Mapping[str, bytes],
    ) -> Pending:
        """Write a request, once it holds together for whoever gets it; take those away that are out of date."""
        self.store.sweep()
        for identity in self._waiting.identities():
            if is_stale(state, self._waiting.read(identity)):
                self._waiting.forget(identity)
        current = {TARGETS: state.files[TARGETS]} if state else {}
        if state is not None:
            current |= {role: state.files[role] for role in proposed if role in state.delegated}
        unsigned = {role: found.to_bytes() for role, found in proposed.items()}
        request = Request(unsigned, state.roots if state else (), current, files)
        requests.review(request)
        identity = self._waiting.write(request)
        missing = signatures_missing(request, {role: request.role(role) for role in proposed})
        return self._waiting.pending(identity, request, missing)

    def _publish_request(
        self, state: State | None, settings: Settings, request: Request, signed: Mapping[str, Metadata[Targets]]
    ) -> None:
        roles = {r: found for r, found in signed.items() if r != ROOT and not (state and has(state, request, r))}
        root = signed_root(request, signed) if ROOT in signed else None
        if state is not None and state.torn:
            root = None
        files = {path: data for path, data in request.files.items() if not path.startswith("before/")}
        signers = OnlineSigners(settings, self._secret)
        publish(self.store, state, Change(root, roles, files), signers, settings.days, self._now())
        self._prune(settings, signers)

    def _prune(self, settings: Settings, signers: OnlineSigners) -> None:
        """Forget the references of keys that may sign no more."""
        state = state_load(self.store)
        if state is not None:
            useful = {role: signers.useful(role, state.delegator(role)) for role in settings.signers}
            if useful != settings.signers:
                settings_write(self.store, msgspec.structs.replace(settings, signers=useful))


def _find(content: Content, identity: str) -> AnyRelease:
    release = content.releases.get(identity)
    if release is None:
        sentence = f"the {content.tier} tier of {content.channel} has no release {identity}"
        raise refused("release-unknown", sentence, identity)
    return release


def _without(key_set: KeySet, prefixes: tuple[str, ...]) -> tuple[Key, ...]:
    for prefix in prefixes:
        if sum(keyid.startswith(prefix) for keyid in key_set.ids) != 1:
            raise UsageError(f"{prefix!r} does not begin the id of exactly one key", "hotmend channel keys lists them")
    return tuple(key for key in key_set.keys if not key.keyid.startswith(prefixes)) if prefixes else key_set.keys
