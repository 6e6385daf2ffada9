"""What a configuration or an assignment would bring, before it is made. Nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.model.errors import InputError
from hotmend.server.machines.tables import machines, reports
from hotmend.server.maintenance import store
from hotmend.server.problem import Problem
from hotmend.servicing.maintenance import Policy, intervals, policy_check
from hotmend.wire.maintenance import AssignmentWanted, ConfigurationWanted, WindowShown

ZONES_MAX: Final = 4
WINDOWS_SHOWN: Final = 5
_AHEAD: Final = timedelta(days=92)


@dataclass(frozen=True, slots=True)
class Windows:
    """The next windows in one zone, of how many machines; "" and 0 where a zone is that of nobody."""

    zone: str
    machines: int
    windows: list[WindowShown]


def windows(connection: Connection, name: str, wanted: ConfigurationWanted, now: datetime) -> list[Windows]:
    """Return the next windows of a configuration, in the zones of most of the machines that have it.

    Raises:
        Problem: a window, freeze or zone that makes no sense.
    """
    freezes: list[dict[str, Any]] = [{"name": each, **asdict(freeze)} for each, freeze in wanted.freezes.items()]
    freezes += [
        {"name": row["name"], "first": row["first"], "last": row["last"], "yearly": row["yearly"]}
        for row in store.freeze_rows(connection)
    ]
    content: dict[str, Any] = {"freeze": freezes, "include": wanted.include, "exclude": wanted.exclude}
    if wanted.windows:
        content["window"] = [asdict(window) for window in wanted.windows]
    if wanted.classifications:
        content["classifications"] = wanted.classifications
    try:
        policy = msgspec.convert(msgspec.to_builtins(content), Policy, strict=False)
        policy_check(policy, name)
        if wanted.zone:
            ZoneInfo(wanted.zone)
    except (InputError, msgspec.ValidationError, ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Problem(422, "not-valid", f"{name}: {error}") from None
    found = _zones(connection, name)
    zones = {wanted.zone: sum(found.values())} if wanted.zone else found or {"UTC": 0}
    return [Windows(zone, count, _next(policy, zone, now)) for zone, count in zones.items()]


def _next(policy: Policy, zone: str, now: datetime) -> list[WindowShown]:
    try:
        there = ZoneInfo(zone)
        found = intervals(policy, there, now, now + _AHEAD)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return []
    return [
        WindowShown(each.name, each.start.astimezone(there), each.end.astimezone(there))
        for each in found[:WINDOWS_SHOWN]
    ]


def _zones(connection: Connection, policy: str) -> dict[str, int]:
    count = sa.func.count().label("machines")
    query = (
        sa.select(reports.c.zone, count)
        .join(machines, machines.c.id == reports.c.machine_id)
        .where(machines.c.policy == policy, machines.c.state != "left", reports.c.zone != "")
        .group_by(reports.c.zone)
        .order_by(count.desc(), reports.c.zone)
        .limit(ZONES_MAX)
    )
    return {row.zone: row.machines for row in connection.execute(query)}


def assigned(connection: Connection, wanted: AssignmentWanted) -> dict[str, int]:
    """Return which configurations machines have now that an assignment would give another one: name to machines."""
    given: Mapping[str, Any] = {
        "machine_id": wanted.machine,
        "scope": wanted.scope,
        "tag_name": wanted.tag,
        "tag_value": wanted.value,
    }
    fit = store.fits(connection, given)
    higher: Sequence[sa.ColumnElement[bool]] = [
        store.fits(connection, row) for row in store.assignment_rows(connection) if row["priority"] > wanted.priority
    ]
    which = [fit, machines.c.state != "left", machines.c.policy != wanted.configuration, *(~each for each in higher)]
    query = sa.select(machines.c.policy, sa.func.count()).where(*which).group_by(machines.c.policy)
    return {row[0]: row[1] for row in connection.execute(query.order_by(machines.c.policy))}
