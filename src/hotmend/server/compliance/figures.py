"""Figures of compliance over all machines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from sqlalchemy.engine import Connection

from hotmend.server.compliance import grouping, store
from hotmend.server.compliance.grouping import EVERYBODY
from hotmend.server.context import Context
from hotmend.server.figures.kept import Figure
from hotmend.wire.compliance import Day, Group, Time, Vulnerability

ROWS: Final = 200
"""Tags and machines that are kept: the most exposed ones."""
DAYS: Final = timedelta(days=366)
Groups = tuple[list[Group], int]


def _groups(by: str, limit: int | None) -> Callable[[Connection, Context], Groups]:
    return lambda connection, _: grouping.groups(connection, by, EVERYBODY, limit)


VULNERABILITIES: Final[Figure[list[Vulnerability]]] = Figure(
    "compliance", list[Vulnerability], lambda connection, _: store.vulnerabilities(connection, EVERYBODY)
)
GROUPS: Final[dict[str, Figure[Groups]]] = {
    by: Figure(f"compliance/{by}", Groups, _groups(by, limit))
    for by, limit in (("product", None), ("package", None), ("tag", ROWS), ("machine", ROWS))
}
TIMES: Final[Figure[list[Time]]] = Figure(
    "compliance/exposure", list[Time], lambda connection, _: store.times(connection, EVERYBODY)
)
DAYS_PAST: Final[Figure[list[Day]]] = Figure(
    "compliance/time",
    list[Day],
    lambda connection, context: store.days(connection, (context.clock() - DAYS).date()),
)
