"""SQL of the channels that a server follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from hotmend.server.machines.tables import machines, reports
from hotmend.server.releases.tables import channels, releases


def put_channel(connection: Connection, channel: str, tier: str, values: Mapping[str, Any]) -> None:
    """Insert or change what is known of a channel."""
    which = (channels.c.channel == channel) & (channels.c.tier == tier)
    if not connection.execute(sa.update(channels).where(which).values(values)).rowcount:
        connection.execute(sa.insert(channels).values(channel=channel, tier=tier, **values))


def put_releases(connection: Connection, channel: str, tier: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Keep the releases of a channel in place of those that were kept before."""
    which = (releases.c.channel == channel) & (releases.c.tier == tier)
    connection.execute(sa.delete(releases).where(which))
    given = [{"channel": channel, "tier": tier, **row} for row in rows]
    if given:
        connection.execute(sa.insert(releases), given)


def known(connection: Connection, channel: str, tier: str) -> dict[str, RowMapping]:
    """Return the releases of a channel by id."""
    which = (releases.c.channel == channel) & (releases.c.tier == tier)
    return {row["id"]: row for row in connection.execute(sa.select(releases).where(which)).mappings()}


def all_channels(connection: Connection) -> list[RowMapping]:
    """Return the channels that are followed."""
    return list(connection.execute(sa.select(channels).order_by(channels.c.channel, channels.c.tier)).mappings())


def all_releases(connection: Connection, channel: str = "", tier: str = "") -> list[RowMapping]:
    """Return releases of the channels that are followed, newest first."""
    query = sa.select(releases).order_by(releases.c.made.desc(), releases.c.id)
    if channel:
        query = query.where(releases.c.channel == channel, releases.c.tier == tier)
    return list(connection.execute(query).mappings())


def published(rows: Sequence[RowMapping]) -> dict[str, datetime]:
    """Return when the first release was made that brings something: by vulnerability, and by PACKAGE=VERSION."""
    found: dict[str, datetime] = {}
    for row in rows:
        for name in [*row["cves"], *(f"{package}={new}" for package, _, new in row["packages"])]:
            found[name] = min(row["made"], found.get(name, row["made"]))
    return found


def machines_at(connection: Connection) -> dict[str, int]:
    """Return how many machines are at each release: it ends their level, which is `BASELINE, HOTPATCH` or one alone."""
    known = set(connection.execute(sa.select(releases.c.id)).scalars())
    query = (
        sa.select(reports.c.level, sa.func.count())
        .join(machines, machines.c.id == reports.c.machine_id)
        .where(machines.c.state != "left")
        .group_by(reports.c.level)
    )
    found: Counter[str] = Counter()
    for level, count in connection.execute(query):
        last = level.rpartition(", ")[2]
        if last in known:
            found[last] += count
    return found
