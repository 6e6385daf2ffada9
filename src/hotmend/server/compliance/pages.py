"""Compliance as a page, and as files."""

from __future__ import annotations

import csv
import io
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from hotmend.server.compliance import store
from hotmend.server.machines import fleet
from hotmend.server.portal.forms import cell
from hotmend.server.portal.visit import PageRoute, Visit, seeing
from hotmend.wire.api import Query as Asked

router = APIRouter(prefix="/compliance", route_class=PageRoute, include_in_schema=False)

Viewer = Annotated[Visit, Depends(seeing("viewer"))]
Asking = Annotated[str, Query(max_length=500)]
ROWS: Final = 200
_HEAD: Final = ("cve", "open", "in_memory", "everywhere", "on_disk", "nowhere", "since")


def _found(visit: Visit, tag: str, release: str, name: str) -> list[store.Vulnerability]:
    key, _, value = tag.partition("=")
    asked = Asked(release=release or None, tags={key: value} if tag else {}, search=name.strip())
    with visit.context.database.read() as connection:
        return store.vulnerabilities(connection, asked)


@router.get("")
def compliance_page(visit: Viewer, tag: Asking = "", release: Asking = "", name: Asking = "") -> Response:
    """Show each vulnerability and where its fix is."""
    rows = _found(visit, tag, release, name)
    with visit.context.database.read() as connection:
        tags, releases = fleet.tag_names(connection), fleet.releases(connection)
    return visit.page(
        "compliance.html.j2",
        rows=rows[:ROWS],
        total=len(rows),
        open=sum(each.open > 0 for each in rows),
        sought={"tag": tag, "release": release, "name": name},
        tags=[(each, each) for each in tags],
        releases=[(each, each) for each in releases],
        query=visit.request.url.query,
    )


@router.get("/vulnerabilities.{form}")
def compliance_file(
    visit: Viewer, form: Literal["csv", "json"], tag: Asking = "", release: Asking = "", name: Asking = ""
) -> Response:
    """Give all of it as a file."""
    rows = _found(visit, tag, release, name)
    headers = {
        "Content-Disposition": f'attachment; filename="vulnerabilities.{form}"',
        "Cache-Control": "no-store",
    }
    if form == "json":
        return Response(msgspec.json.encode(rows), 200, headers, "application/json")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_HEAD)
    for each in rows:
        writer.writerow([cell(str(getattr(each, column))) for column in _HEAD])
    return Response(text.getvalue(), 200, headers, "text/csv; charset=utf-8")
