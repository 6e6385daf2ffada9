"""Releases and their calendar, as page and as feeds."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from hotmend.reference.shipped import shipped_releases
from hotmend.server.portal.visit import PageRoute, Visit, seeing
from hotmend.server.problem import not_found

router = APIRouter(prefix="/calendar", route_class=PageRoute, include_in_schema=False)

Viewer = Annotated[Visit, Depends(seeing("viewer"))]


@router.get("")
def calendar_page(visit: Viewer, channel: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Show a channel's releases, newest first."""
    releases = shipped_releases()
    channels = sorted({each.channel for each in releases})
    if channel and channel not in channels:
        raise not_found("channel")
    shown = channel or channels[0]
    rows = sorted((each for each in releases if each.channel == shown), key=lambda each: each.day, reverse=True)
    coming = sorted((each for each in releases if each.day >= visit.now.date()), key=lambda each: each.day)[:6]
    return visit.page("calendar.html.j2", channels=channels, channel=shown, rows=rows, coming=coming)
