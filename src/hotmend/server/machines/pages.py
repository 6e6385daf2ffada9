"""Pages of machines: the list, one machine with its tabs, and what can be done there."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Form, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from hotmend.server.issues.view import of_machine
from hotmend.server.machines import fleet, planning, service, store, view
from hotmend.server.machines.figures import choices
from hotmend.server.machines.tables import STATES
from hotmend.server.portal.charts import code_bars
from hotmend.server.portal.forms import tags_of
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect, seeing
from hotmend.server.problem import not_found
from hotmend.servicing.actions import WAITING, State
from hotmend.servicing.maintenance import Policy
from hotmend.servicing.message import N_
from hotmend.wire import version
from hotmend.wire.api import ActionWanted
from hotmend.wire.api import Query as Asked
from hotmend.wire.sheets import sheet

router = APIRouter(prefix="/machines", route_class=PageRoute, include_in_schema=False)

Viewer = Annotated[Visit, Depends(seeing("viewer"))]
Operator = Annotated[Visit, Depends(seeing("operator"))]
OperatorDoing = Annotated[Visit, Depends(doing("operator"))]
ApproverDoing = Annotated[Visit, Depends(doing("approver"))]
Asking = Annotated[str, Query(max_length=500)]
Text = Annotated[str, Form(max_length=500)]
Version = Annotated[int, Form(ge=0)]

ROWS: Final = 50
EVENTS: Final = 50
TABS: Final = (
    ("", N_("Status")),
    ("updates", N_("Recommended updates")),
    ("compliance", N_("Update compliance")),
    ("history", N_("Update history")),
    ("issues", N_("Known issues")),
)
DUES: Final = (
    ("restart", N_("a restart of services")),
    ("reboot", N_("a reboot")),
    ("update", N_("an update")),
    ("asking", N_("an update that waits for a person")),
    ("alert", N_("a look: something is not as it should be")),
)
_DUE: Final = {"restart": "restarts_due", "reboot": "reboot_due", "update": "waiting", "alert": "alerts"}


@router.get("")
def list_page(
    visit: Viewer,
    name: Asking = "",
    state: Asking = "",
    platform: Asking = "",
    line: Asking = "",
    enrollment: Asking = "",
    release: Asking = "",
    level: Asking = "",
    due: Asking = "",
    tag: Asking = "",
    cve: Asking = "",
    unseen: Asking = "",
    blind: Asking = "",
    after: Asking = "",
) -> Response:
    """Show the machines that match, by name."""
    tag_name, _, tag_value = tag.partition("=")
    asked = Asked(
        state=state if state in STATES else None,  # type: ignore[arg-type]  # one of them
        platform=platform or None,
        line=line or None,
        enrollment=enrollment or None,
        release=release or None,
        tags={tag_name: tag_value} if tag else {},
        search=name.strip(),
        cve=cve.strip(),
        **({_DUE[due]: True} if due in _DUE else {}),  # type: ignore[arg-type]  # all of these are flags
    )
    more = [fleet.at_level(level)] if level else []
    if due == "asking":
        more.append(fleet.asking())
    silent = fleet.silent_since(visit.context.settings, visit.now)
    if unseen:
        more.append(fleet.unseen(silent))
    if blind:
        more.append(fleet.blind(silent, visit.now))
    with visit.context.database.survey() as connection:
        rows, following, total = fleet.page(connection, asked, more, after, ROWS)
    tags, releases = choices(visit.context)
    say, code = visit.words.say, visit.words.code
    sought = {
        "name": name,
        "state": state,
        "platform": platform,
        "line": line,
        "enrollment": enrollment,
        "release": release,
        "level": level,
        "due": due,
        "tag": tag,
        "cve": cve,
    }
    return visit.page(
        "machines.html.j2",
        wire=version,
        sought=sought,
        unseen=bool(unseen),
        blind=bool(blind),
        rows=rows,
        next=following,
        total=total,
        lines=[(each, code(each)) for each in ("on", "off", "unknown")],
        states=[(each, code(each)) for each in STATES],
        platforms=[(each, code(each)) for each in ("linux", "windows")],
        dues=[(each, say(text)) for each, text in DUES],
        releases=[(each, each) for each in releases],
        tags=[(each, each) for each in tags],
    )


@router.get("/{identity}")
def machine_page(visit: Viewer, identity: str, tab: Asking = "", after: Asking = "") -> Response:
    """Show one machine."""
    shown = tab if tab in dict(TABS) else ""
    with visit.context.database.read() as connection:
        details = view.load(connection, identity, visit.now)
        more = _tab(connection, visit, details, shown, after)
    return _machine(visit, details, f"machine_{shown or 'status'}.html.j2", tab=shown, **more)


def _tab(connection: Connection, visit: Visit, details: view.Details, tab: str, after: str) -> dict[str, Any]:
    identity = details.row["id"]
    match tab:
        case "updates":
            return {"offers": view.offered(details, Policy(), visit.now)}
        case "history":
            entries = view.history(connection, details, visit.now)
            first = int(after) if after.isascii() and after.isdigit() and len(after) < 7 else 0
            following = str(first + ROWS) if len(entries) > first + ROWS else ""
            return {"entries": entries[first : first + ROWS], "next": following, "total": len(entries)}
        case "compliance":
            return {"places": code_bars(Counter(each["fixed"] for each in details.found), visit.words)}
        case "issues":
            by_facts = details.answers.concerns if details.answers is not None else ()
            by_report = details.report.issues if details.report is not None else ()
            return {"concerns": of_machine(by_facts, by_report, visit.now.date())}
        case "":
            waits = view.offered(details, Policy(), visit.now)
            running = [row for row in store.actions_of(connection, identity, 20) if not State(row["state"]).final]
            return {"events": store.events_of(connection, identity, None, 10), "offers": waits, "running": running}
    return {}


def _machine(visit: Visit, details: view.Details, template: str, **values: Any) -> Response:
    return visit.page(template, machine=details.row, details=details, tabs=TABS, wire=version, **values)


@router.get("/{identity}/history.{form}")
def history_file(visit: Viewer, identity: str, form: Literal["csv", "json"]) -> Response:
    """Give the whole update history as a file."""
    with visit.context.database.read() as connection:
        details = view.load(connection, identity, visit.now)
        entries = view.history(connection, details, visit.now)
    headers = {"Content-Disposition": f'attachment; filename="history-{identity}.{form}"', "Cache-Control": "no-store"}
    if form == "json":
        return Response(msgspec.json.encode(entries), 200, headers, "application/json")
    rows = [(each.at, each.kind, each.what, each.state, each.detail, each.action) for each in entries]
    text = sheet(["at", "kind", "what", "state", "detail", "action"], rows)
    return Response(text, 200, headers, "text/csv; charset=utf-8")


@router.get("/{identity}/install")
def install_page(
    visit: Operator,
    identity: str,
    chosen: Annotated[list[Annotated[str, Query(max_length=100, alias="class")]], Query(alias="class")] = [],  # noqa: B006 - FastAPI copies it
    include: Asking = "",
    exclude: Asking = "",
    restart: Asking = "",
    anytime: Asking = "",
    previewed: Asking = "",
) -> Response:
    """Show what installing now would bring, before it can be asked for."""
    with visit.context.database.read() as connection:
        details = view.load(connection, identity, visit.now)
        may_restart = bool(restart) or not previewed
        offers = view.offered(details, view.selection(chosen, include, exclude, may_restart), visit.now)
        updates = view.chosen(offers)
        asked = bool(updates) and details.has_agent
        forecast = planning.forecast(connection, details.row, updates, visit.now) if asked else None
        halted = fleet.halt(connection)
    classes = sorted({each.offer.classification for each in offers if each.offer.classification})
    return _machine(
        visit,
        details,
        "machine_install.html.j2",
        tab="updates",
        offers=offers,
        updates=updates,
        forecast=forecast,
        halted=halted,
        classes=classes,
        chosen=chosen,
        include=include,
        exclude=exclude,
        restart=may_restart,
        anytime=bool(anytime),
    )


@router.post("/{identity}/actions")
def act(
    visit: OperatorDoing,
    identity: str,
    kind: Literal["assess", "install", "revert", "quarantine", "lift"] = Form(),
    update: Annotated[list[str], Form()] = [],  # noqa: B006 - FastAPI copies it
    forecast: Text = "",
    anytime: Text = "",
    emergency: Text = "",
    reason: Text = "",
    undoes: Text = "",
    reboot: Literal["", "never", "if-required", "always"] = Form(""),
) -> Response:
    """Have the machine do something at its next check-in."""
    wanted = ActionWanted(
        kind,
        updates=update,
        anytime=bool(anytime),
        emergency=bool(emergency),
        reason=reason.strip(),
        forecast=forecast,
        undoes=undoes,
        reboot=reboot,
    )
    with visit.context.database.write() as connection:
        planning.plan(connection, visit.now, visit.who, identity, wanted)
    return redirect(f"/machines/{identity}", tab="history", done=kind)


@router.get("/{identity}/actions/{action}")
def action_page(visit: Viewer, identity: str, action: str) -> Response:
    """Show an action with its steps."""
    with visit.context.database.read() as connection:
        details = view.load(connection, identity, visit.now)
        row = store.action(connection, action)
        if row is None or row["machine_id"] != identity:
            raise not_found("action")
        steps = store.action_events_of(connection, action)
    cancelable = State(row["state"]) in WAITING and row["handed_at"] is None
    return _machine(visit, details, "action.html.j2", tab="history", action=row, steps=steps, cancelable=cancelable)


@router.post("/{identity}/actions/{action}/cancel")
def cancel(visit: OperatorDoing, identity: str, action: str) -> Response:
    """Cancel an action that the machine has not been told of."""
    planning.cancel(visit.context, visit.who, action)
    return redirect(f"/machines/{identity}/actions/{action}", done="canceled")


@router.post("/{identity}/approve")
def approve(visit: ApproverDoing, identity: str, version: Version) -> Response:
    """Let a machine take part."""
    service.approve(visit.context, visit.who, identity, version)
    return redirect(f"/machines/{identity}", done="approved")


@router.post("/{identity}/offboard")
def offboard(visit: ApproverDoing, identity: str, version: Version) -> Response:
    """Let a machine go."""
    service.offboard(visit.context, visit.who, identity, version)
    return redirect(f"/machines/{identity}", done="offboarded")


@router.post("/{identity}/tags")
def put_tags(
    visit: OperatorDoing, identity: str, version: Version, tags: Annotated[str, Form(max_length=20_000)] = ""
) -> Response:
    """Give a machine the tags that the form has, a line each."""
    service.put_tags(visit.context, visit.who, identity, tags_of(tags), version)
    return redirect(f"/machines/{identity}", done="tags")
