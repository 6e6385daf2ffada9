"""What a run does besides new releases: promotion, retention, and the packages that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from hotmend.publisher.feed import PackageVersion
from hotmend.publisher.release.mirror import Current
from hotmend.publisher.release.session import Session
from hotmend.repository import layout, metadata, requests
from hotmend.repository.layout import Tier
from hotmend.repository.releases import Baseline, HotpatchRelease
from hotmend.repository.waiting import Pending


def ask_again(session: Session) -> None:
    """Ask for withdrawals and known issues that stable machines are not told, and that nobody is asked to sign."""
    if pending := session.publisher.ask_again(session.plan.channel):
        session.done.pending = pending


def promote_ripe(session: Session, now: datetime) -> None:
    """Ask for the promotion of what the canary tier has had for long enough.

    A request that waits and does less is replaced, unless somebody has signed it: then it is his turn first.
    """
    if not session.plan.tiers.promote:
        return
    chosen = _ripe(session, now)
    waiting = _waiting(session)
    known = [_added(session, pending) for pending in waiting]
    if not chosen or any(pending.signed for pending in waiting) or any(set(chosen) <= ids for ids in known):
        return
    if not all(ids <= set(chosen) for ids in known):
        return
    session.done.pending = session.publisher.promote(session.plan.channel, chosen)
    for pending in waiting:
        session.publisher.discard(pending)


def _ripe(session: Session, now: datetime) -> tuple[str, ...]:
    """Return what stable machines may have by the plan, oldest first, and do not have."""
    canary, stable = session.content(Tier.CANARY), session.content(Tier.STABLE)
    old = now - timedelta(days=session.plan.tiers.promote_after_days)
    ripe = {r.id: r for r in canary.releases.values() if r.withdrawn is None and r.made <= old}
    superseded = {i for r in ripe.values() if isinstance(r, HotpatchRelease) for i in r.supersedes}
    offered = {r.id for r in stable.releases.values() if r.withdrawn is None} | ripe.keys()
    return tuple(
        release.id
        for release in sorted(ripe.values(), key=lambda r: (r.made, r.id))
        if release.id not in stable.releases
        and release.id not in superseded
        and (isinstance(release, Baseline) or release.requires in offered)
    )


def _waiting(session: Session) -> list[Pending]:
    """Return the requests about this channel's stable tier that can still be signed."""
    role = layout.tier_role(session.plan.channel, Tier.STABLE)
    return [p for p in session.publisher.pending() if not p.stale and any(change.role == role for change in p.changes)]


def _added(session: Session, pending: Pending) -> frozenset[str]:
    """Return the releases that a request adds, and "" where it does anything else."""
    request = requests.request_decode(pending.path.read_bytes())
    start = layout.folder(session.plan.channel, Tier.STABLE)
    names = {path.removeprefix(start) for path in request.files if path.startswith(start)}
    added = {name.removesuffix(".release.json") for name in names if name.endswith(".release.json")}
    changed = any(path.startswith("before/") and path.endswith(".release.json") for path in request.files)
    other = set(request.proposed) != {layout.tier_role(session.plan.channel, Tier.STABLE)}
    return frozenset(added | {""} if changed or other or not added else added)


def retain(session: Session) -> None:
    """Withdraw what is kept no longer; where stable machines have it, that waits for people like any withdrawal."""
    if _waiting(session):
        return
    keep = session.plan.retention
    everything = session.content(Tier.CANARY).releases
    kept = {line.baseline.id: line for line in session.lines()}
    stable = {r.id for r in session.content(Tier.STABLE).releases.values() if r.withdrawn is None}
    gone: list[str] = []
    for release in everything.values():
        if release.withdrawn is not None:
            continue
        if isinstance(release, Baseline):
            gone += [release.id] if release.id not in kept else []
        elif release.requires not in kept:
            gone.append(release.id)
        elif isinstance(release, HotpatchRelease):
            line = kept[release.requires].hotpatches
            newest = {r.id for r in line[-1 - keep.superseded :]}
            # Stable machines keep the newest that they have, however many newer ones canary machines have got.
            newest |= {r.id for r in [r for r in line if r.id in stable][-1:]}
            gone += [release.id] if release.id not in newest else []
    if gone:
        pending = session.publisher.withdraw(
            session.plan.channel, tuple(gone), "kept no longer: a newer release holds it"
        )
        session.done.pending = pending or session.done.pending
        session.done.withdrawn += gone


def forget_packages(session: Session, offers: Mapping[str, Current]) -> int:
    """Delete packages that are no old build of a baseline that is kept, and not on offer."""
    watched = frozenset(session.plan.packages)
    keep = {PackageVersion(n, c.offer.version) for n, c in offers.items() if c.offer.source in watched}
    for line in session.lines():
        names = {p.name for p in line.baseline.manifest.packages if p.build_ids}
        names |= {step.name for release in line.history for step in release.packages}
        keep |= {PackageVersion(name, version) for name in names for version in line.levels(name)}
    return session.mirror.forget(keep)


def refresh(session: Session, now: datetime) -> None:
    """Sign anew what this host signs, and say what people have to sign before it expires."""
    session.publisher.refresh()
    state, settings, _ = session.publisher.contents()
    for role in (layout.ROOT, layout.TARGETS, *state.delegated):
        expiry = metadata.expiry_of(role, state.role(role), settings.days, now)
        if expiry.alert:
            left = (expiry.expires - now).days
            session.done.problems.append(f"{role} expires in {left} days: hotmend channel renew asks for signatures")
