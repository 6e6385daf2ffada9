"""Compliance as pages, and as files: now, by what belongs together, day by day, and from publication to memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Form, Query
from starlette.responses import Response, StreamingResponse

from hotmend.server.compliance import evidence, figures, grouping, store
from hotmend.server.compliance.api import vex_parts
from hotmend.server.context import Context
from hotmend.server.figures.kept import read
from hotmend.server.machines import fleet
from hotmend.server.machines.figures import choices
from hotmend.server.portal.charts import lines
from hotmend.server.portal.kept import KeptBy
from hotmend.server.portal.visit import PageRoute, Visit, doing, seeing
from hotmend.servicing.message import N_
from hotmend.wire.api import Query as Asked
from hotmend.wire.compliance import Day, Group
from hotmend.wire.sheets import sheet_parts

router = APIRouter(prefix="/compliance", route_class=PageRoute, include_in_schema=False)

Viewer = Annotated[Visit, Depends(seeing("viewer"))]
Asking = Annotated[str, Query(max_length=500)]
Field = Annotated[str, Form(max_length=500)]
ROWS: Final = figures.ROWS
_PART: Final = 1_000
"""Rows of a file that are written at a time."""
_HEAD: Final = ("cve", "open", "in_memory", "everywhere", "on_disk", "nowhere", "since")
TABS: Final = (
    ("", N_("By vulnerability")),
    ("product", N_("By product")),
    ("package", N_("By update")),
    ("tag", N_("By tag")),
    ("machine", N_("By machine")),
    ("time", N_("Over time")),
    ("exposure", N_("From publication to memory")),
)


def _asked(tag: str, release: str, name: str) -> Asked:
    key, _, value = tag.partition("=")
    return Asked(release=release or None, tags={key: value} if tag else {}, search=name.strip())


@router.get("")
def compliance_page(
    visit: Viewer,
    by: Asking = "",
    tag: Asking = "",
    release: Asking = "",
    name: Asking = "",
) -> Response:
    """Show each vulnerability and where its fix is, or the same by what belongs together, or over time."""
    shown = by if by in dict(TABS) else ""
    asked = _asked(tag, release, name)
    tags, releases = choices(visit.context)
    kept: KeptBy[_Table] = visit.request.app.state.compliance
    found = kept.get((shown, tag, release, name), lambda: _table(visit, shown, asked))
    kinds = {"": "vulnerabilities", "time": "days", "exposure": "exposures"}
    return visit.page(
        "compliance.html.j2",
        tab=shown,
        tabs=[(short, text, visit.link(by=short)) for short, text in TABS],
        kind=kinds.get(shown, shown),
        rows=found.rows,
        total=found.total,
        open=found.open,
        chart=_chart(found.rows, visit) if shown == "time" else None,
        at=found.at,
        sought={"tag": tag, "release": release, "name": name},
        tags=[(each, each) for each in tags],
        releases=[(each, each) for each in releases],
        query=visit.request.url.query,
        may_sign=visit.who.has("operator") and bool(visit.who.csrf),
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """What a page shows: its first rows, how many there are, how many of them are open, and when it was so."""

    rows: Sequence[Any]
    total: int
    open: int
    at: datetime


def _table(visit: Visit, by: str, asked: Asked) -> _Table:
    return _everybody(visit.context, by) if asked == grouping.EVERYBODY or by == "time" else _some(visit, by, asked)


def _everybody(context: Context, by: str) -> _Table:
    if by in figures.GROUPS:
        groups = read(context, figures.GROUPS[by])
        return _Table(groups.value[0][:ROWS], groups.value[1], 0, groups.at)
    if by == "time":
        days = read(context, figures.DAYS_PAST)
        return _Table(days.value, len(days.value), 0, days.at)
    if by == "exposure":
        times = read(context, figures.TIMES)
        return _Table(times.value[:ROWS], len(times.value), 0, times.at)
    found = read(context, figures.VULNERABILITIES)
    return _Table(found.value[:ROWS], len(found.value), sum(each.open > 0 for each in found.value), found.at)


def _some(visit: Visit, by: str, asked: Asked) -> _Table:
    with visit.context.database.survey() as connection:
        if by in figures.GROUPS:
            groups, total = grouping.groups(connection, by, asked, ROWS)
            return _Table(groups, total, 0, visit.now)
        if by == "exposure":
            times = store.times(connection, asked)
            return _Table(times[:ROWS], len(times), 0, visit.now)
        found = store.vulnerabilities(connection, asked)
    return _Table(found[:ROWS], len(found), sum(each.open > 0 for each in found), visit.now)


def _chart(rows: Sequence[Day], visit: Visit) -> Any:
    say = visit.words.say
    return lines(
        [each.day for each in rows],
        [
            (say("machines with old code"), "bad", [each.exposed for each in rows]),
            (say("open vulnerabilities"), "open", [each.open for each in rows]),
        ],
    )


def _file(name: str, form: str, head: Sequence[str], rows: Iterable[Any]) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}.{form}"', "Cache-Control": "no-store"}
    if form == "json":
        return StreamingResponse(_as_json(rows), 200, headers, "application/json")
    values = ([getattr(each, name) if is_dataclass(each) else each[name] for name in head] for each in rows)
    return StreamingResponse(sheet_parts(head, values), 200, headers, "text/csv; charset=utf-8")


def _as_json(rows: Iterable[Any]) -> Iterator[bytes]:
    """Yield a JSON list in parts."""
    before = b"["
    for some in _some_of(rows):
        yield before + b",".join(map(msgspec.json.encode, some))
        before = b","
    yield b"[]" if before == b"[" else b"]"


def _some_of(rows: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield rows, some at a time."""
    left = iter(rows)
    while some := list(islice(left, _PART)):
        yield some


def _exposures(context: Context, asked: Asked) -> Iterator[dict[str, Any]]:
    """Yield exposures; the transaction is over when the last one is read."""
    with context.database.survey() as connection:
        yield from store.exposure_rows(connection, asked)


@router.get("/{kind}.{form}")
def compliance_file(
    visit: Viewer,
    kind: Literal["vulnerabilities", "product", "package", "tag", "machine", "days", "exposures"],
    form: Literal["csv", "json"],
    tag: Asking = "",
    release: Asking = "",
    name: Asking = "",
) -> Response:
    """Give all of it as a file; exposures machine by machine."""
    asked = _asked(tag, release, name)
    if kind == "exposures":
        names = ["machine", "name", "subject", "brings", "published_at", "opened_at", "closed_at", "how"]
        return _file(kind, form, names, _exposures(visit.context, asked))
    with visit.context.database.survey() as connection:
        match kind:
            case "vulnerabilities":
                return _file(kind, form, _HEAD, store.vulnerabilities(connection, asked))
            case "days":
                names = [each.name for each in fields(Day)]
                return _file(kind, form, names, store.days(connection, (visit.now - figures.DAYS).date()))
        names = [each.name for each in fields(Group)]
        return _file(kind, form, names, grouping.groups(connection, kind, asked)[0])


@router.get("/vex/{form}")
def vex_file(
    visit: Viewer, form: Literal["openvex", "cyclonedx"], tag: Asking = "", release: Asking = "", name: Asking = ""
) -> Response:
    """Give what machines report as scanners read it."""
    ending = {"openvex": "openvex.json", "cyclonedx": "cdx.json"}[form]
    headers = {"Content-Disposition": f'attachment; filename="fleet.{ending}"', "Cache-Control": "no-store"}
    parts = vex_parts(visit.context, _asked(tag, release, name), form)
    return StreamingResponse(parts, 200, headers, "application/json")


@router.get("/evidence")
def evidence_page(
    visit: Annotated[Visit, Depends(seeing("operator"))], tag: Asking = "", release: Asking = "", name: Asking = ""
) -> Response:
    """Show what evidence would be about, and the key that it is checked with."""
    with visit.context.database.read() as connection:
        _, _, total = fleet.page(connection, _asked(tag, release, name), [], "", 1)
    return visit.page(
        "evidence.html.j2",
        key=evidence.key(visit.context).public,
        total=total,
        most=evidence.MACHINES_MAX,
        sought={"tag": tag, "release": release, "name": name},
    )


@router.post("/evidence")
def evidence_file(
    visit: Annotated[Visit, Depends(doing("operator"))], tag: Field = "", release: Field = "", name: Field = ""
) -> Response:
    """Give signed evidence."""
    body = evidence.made(visit.context, visit.who, _asked(tag, release, name))
    file = f"evidence-{visit.now:%Y%m%dT%H%M%SZ}.json"
    headers = {"Content-Disposition": f'attachment; filename="{file}"', "Cache-Control": "no-store"}
    return Response(body, 200, headers, "application/json")
