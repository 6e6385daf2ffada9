"""What the `channel` commands print."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import click

from hotmend.cli.output import print_json, print_note, print_reasons, print_table, size_text
from hotmend.cli.publish_shapes import (
    ArchiveShape,
    ChannelKeyShape,
    ChannelReleaseShape,
    ChannelStatusShape,
    ExpiryShape,
    FetchShape,
    MissingShape,
    PublishedShape,
    RefusedShape,
    RequestChangeShape,
    RequestShape,
    RoleShape,
    SignedShape,
    TierShape,
)
from hotmend.cli.shapes import reason_shapes
from hotmend.model.verdict import Reason
from hotmend.repository import requests
from hotmend.repository.layout import Tier
from hotmend.repository.metadata import Expiry
from hotmend.repository.releases import IndexEntry, index_of
from hotmend.repository.tiers import Content
from hotmend.repository.waiting import Pending


def release_shape(entry: IndexEntry, waiting: timedelta | None = None) -> ChannelReleaseShape:
    """Return a release as it is printed."""
    return ChannelReleaseShape(
        entry.id,
        entry.kind,
        entry.title,
        entry.made.isoformat(),
        entry.classification,
        entry.urgency,
        entry.requires,
        entry.supersedes,
        entry.withdrawn,
        None if waiting is None else _hours(waiting),
    )


def tier_shape(content: Content, contents: tuple[Content, ...], now: datetime) -> TierShape:
    """Return a tier as it is printed; what canary offers and stable does not waits."""
    stable = next(c for c in contents if c.channel == content.channel and c.tier is Tier.STABLE)
    index = index_of(content.channel, content.tier.value, tuple(content.releases.values()))
    releases = tuple(
        release_shape(entry, None if entry.id in stable.releases or entry.withdrawn else now - entry.made)
        for entry in index.releases
    )
    return TierShape(content.channel, content.tier.value, releases)


def expiry_shape(expiry: Expiry) -> ExpiryShape:
    """Return an expiry as it is printed."""
    return ExpiryShape(expiry.role, expiry.version, expiry.expires.isoformat(), expiry.alert)


def request_shape(pending: Pending, now: datetime) -> RequestShape:
    """Return a request as it is printed."""
    return RequestShape(
        pending.id,
        str(pending.path),
        tuple(RequestChangeShape(change.role, change.sentence) for change in pending.changes),
        tuple(MissingShape(role, count) for role, count in pending.missing.items()),
        _hours(now - pending.since),
        pending.stale,
    )


def refused_print(reasons: tuple[Reason, ...], *, as_json: bool) -> None:
    """Print why something is refused."""
    shape = RefusedShape(reason_shapes(reasons))
    if as_json:
        print_json(shape)
    else:
        print_reasons(shape.reasons, indent="")


def key_print(keyid: str, scheme: str, public: Path, *, as_json: bool) -> None:
    """Print a key."""
    if as_json:
        print_json(ChannelKeyShape(keyid, scheme, str(public)))
    else:
        click.echo(f"{public}: {scheme} key {keyid}")


def roles_print(roles: tuple[RoleShape, ...], *, as_json: bool) -> None:
    """Print who signs for what; one object per role."""
    if as_json:
        for role in roles:
            print_json(role)
        return
    rows = [
        (role.role, f"{role.threshold} of {len(role.keys)}", ", ".join(k[:16] for k in role.keys)) for role in roles
    ]
    print_table("", ("role", "needs", "keys"), rows)


def published_print(published: tuple[str, ...], pending: Pending | None, *, as_json: bool) -> None:
    """Print what was published, and what waits for signatures."""
    waiting = request_shape(pending, pending.since) if pending is not None else None
    if as_json:
        print_json(PublishedShape(published, waiting))
        return
    if published:
        click.echo(f"Published: {', '.join(published)}")
    if waiting is not None:
        _request_print(waiting)
        print_note("hotmend channel sign makes signatures of it, hotmend channel accept takes them.")


def changes_print(changes: tuple[requests.Change, ...], *, as_json: bool) -> None:
    """Print what a request does, for the person who signs."""
    if not as_json:
        print_table("", ("role", "what it does"), ((c.role, c.sentence) for c in changes))


def signed_print(shape: SignedShape, *, as_json: bool) -> None:
    """Print what was signed."""
    if as_json:
        print_json(shape)
    else:
        click.echo(f"Signed for {', '.join(shape.roles)}: {shape.file}")


def archive_print(file: Path, count: int, *, as_json: bool) -> None:
    """Print what was written."""
    shape = ArchiveShape(str(file), count, file.stat().st_size)
    if as_json:
        print_json(shape)
    else:
        click.echo(f"Wrote {shape.file}: {shape.files} files, {size_text(shape.bytes)}")


def pending_print(shapes: tuple[RequestShape, ...], *, as_json: bool) -> None:
    """Print requests; one object each."""
    for shape in shapes:
        if as_json:
            print_json(shape)
        else:
            _request_print(shape)


def status_print(shape: ChannelStatusShape, *, as_json: bool) -> None:
    """Print how a repository stands."""
    if as_json:
        print_json(shape)
        return
    if not shape.sound:
        print_note("The last publication was interrupted: accept its request again, or refresh.")
    rows = ((e.role, e.version, e.expires, "soon" if e.alert else "") for e in shape.expiries)
    print_table("Signatures", ("role", "#version", "valid until", ""), rows)
    for tier in shape.tiers:
        click.echo()
        _releases_print(f"{tier.channel} {tier.tier}", tier.releases)
    for request in shape.requests:
        click.echo()
        _request_print(request)
    if shape.unasked:
        click.echo()
        click.echo(f"Amended for canary machines alone, and no request waits: {', '.join(shape.unasked)}")
        click.echo("hotmend channel withdraw asks again, and so does the next hotmend publish run")


def fetched_print(shape: FetchShape, *, as_json: bool) -> None:
    """Print what a channel offers, or what was written."""
    if as_json:
        print_json(shape)
        return
    _releases_print(f"{shape.channel} {shape.tier}", shape.releases)
    for file in shape.files:
        click.echo(f"Wrote {file}")


def _releases_print(title: str, releases: Iterable[ChannelReleaseShape]) -> None:
    rows = [(r.id, r.kind, r.title, r.made, _remark(r)) for r in releases]
    print_table(title, ("release", "kind", "title", "made", ""), rows or [("none", "", "", "", "")])


def _remark(release: ChannelReleaseShape) -> str:
    if release.withdrawn is not None:
        return f"withdrawn: {release.withdrawn}"
    return "" if release.waiting_hours is None else f"waits for promotion since {release.waiting_hours:.0f} h"


def _request_print(shape: RequestShape) -> None:
    missing = ", ".join(f"{m.signatures} for {m.role}" for m in shape.missing)
    state = "out of date, has to be made again" if shape.stale else f"signatures needed: {missing or 'none'}"
    click.echo(f"Request {shape.request}, {shape.age_hours:.0f} h old: {state}")
    click.echo(f"  {shape.request_file}")
    for change in shape.changes:
        click.echo(f"  {change.role}: {change.sentence}")


def _hours(age: timedelta) -> float:
    return round(age / timedelta(hours=1), 2)
