"""Releases and their calendar: those that come with this version, and those of signed channels that are followed."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from hotmend.reference.shipped import shipped_releases
from hotmend.server.portal.visit import PageRoute, Visit, seeing
from hotmend.server.problem import not_found
from hotmend.server.releases import store

router = APIRouter(prefix="/calendar", route_class=PageRoute, include_in_schema=False)

Viewer = Annotated[Visit, Depends(seeing("viewer"))]
_NEW: Final = 6


@router.get("")
def calendar_page(visit: Viewer, channel: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Show a channel's releases, newest first."""
    releases = shipped_releases()
    shipped = sorted({each.channel for each in releases})
    with visit.context.database.read() as connection:
        followed = store.all_channels(connection)
        names = {f"{row['channel']} ({row['tier']})": row for row in followed}
        newest = store.all_releases(connection)[:_NEW]
        at = store.machines_at(connection)
        channels = [*names, *shipped]
        if channel and channel not in channels:
            raise not_found("channel")
        shown = channel or channels[0]
        row = names.get(shown)
        signed = store.all_releases(connection, row["channel"], row["tier"]) if row is not None else []
    rows = sorted((each for each in releases if each.channel == shown), key=lambda each: each.day, reverse=True)
    coming = sorted((each for each in releases if each.day >= visit.now.date()), key=lambda each: each.day)[:_NEW]
    return visit.page(
        "calendar.html.j2",
        channels=channels,
        channel=shown,
        followed=row,
        signed=signed,
        newest=newest,
        at=at,
        rows=rows,
        coming=coming,
    )
