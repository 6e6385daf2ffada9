"""Dynamic scopes as a page: how many machines match is shown before a scope is made."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Form
from fastapi import Query as Asked
from starlette.responses import Response

from hotmend.server.machines import query, scopes
from hotmend.server.machines.figures import choices
from hotmend.server.maintenance import store as maintenance
from hotmend.server.portal.forms import lines_of
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect, seeing
from hotmend.server.problem import Problem
from hotmend.server.rollouts import store as rollouts
from hotmend.wire.api import Query, ScopeWanted

ROWS: Final = 50
router = APIRouter(prefix="/scopes", route_class=PageRoute, include_in_schema=False)

Doing = Annotated[Visit, Depends(doing("operator"))]
Text = Annotated[str, Asked(max_length=20_000)]
_FLAGS: Final = ("waiting", "restarts_due", "reboot_due", "alerts")


def _asked(
    tags: Text = "",
    platform: Text = "",
    tier: Text = "",
    line: Text = "",
    release: Text = "",
    search: Text = "",
    cve: Text = "",
    due: Text = "",
) -> Query:
    """Return the query that the form asks for.

    Raises:
        Problem: it is none.
    """
    given: dict[str, Any] = {
        "platform": platform or None,
        "tier": tier or None,
        "line": line or None,
        "release": release or None,
        "search": search.strip(),
        "cve": cve.strip(),
        "tags": {name.strip(): value.strip() for name, _, value in (each.partition("=") for each in lines_of(tags))},
    }
    if due in _FLAGS:
        given[due] = True
    try:
        return msgspec.convert(given, Query)
    except msgspec.ValidationError as error:
        raise Problem(422, "not-valid", str(error)) from None


@router.get("")
def scopes_page(
    visit: Annotated[Visit, Depends(seeing("viewer"))],
    wanted: Annotated[Query, Depends(_asked)],
    name: Annotated[str, Asked(max_length=100)] = "",
    previewed: Annotated[str, Asked(max_length=10)] = "",
    after: Annotated[str, Asked(max_length=1000)] = "",
) -> Response:
    """Show scopes, and how many machines a new one would have."""
    rows, following = scopes.some(visit.context, after, ROWS)
    tags, releases = choices(visit.context)
    with visit.context.database.survey() as connection:
        assigned, selected = maintenance.scopes_assigned(connection), rollouts.scopes_selected(connection)
        count = connection.execute(query.count(wanted)).scalar_one() if previewed else None
    code = visit.words.code
    return visit.page(
        "scopes.html.j2",
        rows=[(row, _said(row.query, visit)) for row in rows],
        next=following,
        assigned=assigned,
        selected=selected,
        wanted=wanted,
        said=_said(wanted, visit),
        name=name.strip(),
        count=count,
        packed=msgspec.json.encode(wanted).decode(),
        tags=tags,
        releases=[(each, each) for each in releases],
        lines=[(each, code(each)) for each in ("on", "off", "unknown")],
        platforms=[(each, code(each)) for each in ("linux", "windows")],
        tiers=[(each, code(each)) for each in ("stable", "canary")],
        dues=[(each, code(f"due-{each}")) for each in _FLAGS],
        due=next((each for each in _FLAGS if getattr(wanted, each)), ""),
    )


def _said(asked: Query, visit: Visit) -> str:
    """Return a query as people read it."""
    code, say = visit.words.code, visit.words.say
    found = [f"{name}={value}" if value else name for name, value in asked.tags.items()]
    found += [code(each) for each in (asked.platform, asked.tier, asked.line, asked.state, asked.enrollment) if each]
    found += [each for each in (asked.release, asked.cve) if each]
    found += [say("name contains {part}", part=asked.search)] if asked.search else []
    found += [
        code(f"due-{each}") if getattr(asked, each) else say("not: {what}", what=code(f"due-{each}"))
        for each in _FLAGS
        if getattr(asked, each) is not None
    ]
    return "; ".join(found) or say("all machines")


@router.post("")
def add(
    visit: Doing,
    name: Annotated[str, Form(max_length=100)] = "",
    wanted: Annotated[str, Form(max_length=50_000)] = "",
) -> Response:
    """Keep a scope as it was shown."""
    try:
        asked = msgspec.json.decode(wanted, type=Query)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise Problem(422, "not-valid", str(error)) from None
    scopes.add(visit.context, visit.who, ScopeWanted(name.strip(), asked))
    return redirect("/scopes", done="scope")


@router.post("/remove")
def remove(visit: Doing, name: Annotated[str, Form(max_length=100)] = "") -> Response:
    """Forget a scope that nothing rests on."""
    scopes.remove(visit.context, visit.who, name)
    return redirect("/scopes", done="scope-removed")
