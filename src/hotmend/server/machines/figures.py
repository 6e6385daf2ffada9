"""Figures over all machines."""

from __future__ import annotations

from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from hotmend.server.context import Context
from hotmend.server.figures.kept import Figure, read
from hotmend.server.machines import fleet, query
from hotmend.server.machines.tables import scopes
from hotmend.wire.api import Query

Overview = tuple[fleet.Counts, fleet.Exposure]


def _overview(connection: Connection, context: Context) -> Overview:
    now = context.clock()
    counts = fleet.counts(connection, fleet.silent_since(context.settings, now), now)
    return counts, fleet.exposure(connection)


def _choices(connection: Connection, context: Context) -> tuple[list[str], list[str]]:  # noqa: ARG001
    return fleet.tag_names(connection), fleet.releases(connection)


def _scopes(connection: Connection, context: Context) -> dict[str, int]:  # noqa: ARG001
    rows = connection.execute(sa.select(scopes.c.id, scopes.c.query)).all()
    return {row.id: connection.execute(query.count(msgspec.convert(row.query, Query))).scalar_one() for row in rows}


OVERVIEW: Final[Figure[Overview]] = Figure("overview", Overview, _overview)
CHOICES: Final[Figure[tuple[list[str], list[str]]]] = Figure("choices", tuple[list[str], list[str]], _choices)
SCOPES: Final[Figure[dict[str, int]]] = Figure("scopes", dict[str, int], _scopes)
"""By id of the scope: one that is made anew under the same name is another."""


def choices(context: Context) -> tuple[list[str], list[str]]:
    """Return the tags, as `name=value`, and the operating systems that one may choose from."""
    return read(context, CHOICES).value
