"""Maintenance as pages: configurations with their next windows, assignments, freezes. Forecasts come before deeds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Annotated, Final, Literal

import msgspec
import sqlalchemy as sa
from fastapi import APIRouter, Depends, Form, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from hotmend.server.machines.tables import machines, scopes
from hotmend.server.maintenance import events, forecast, service, slots, store
from hotmend.server.portal.forms import lines_of
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect, seeing
from hotmend.server.problem import Problem, not_found
from hotmend.servicing.message import N_
from hotmend.wire.maintenance import AssignmentWanted, ConfigurationWanted, FreezeWanted, WindowAnswer, WindowWanted

router = APIRouter(prefix="/maintenance", route_class=PageRoute, include_in_schema=False)

Viewer = Annotated[Visit, Depends(seeing("viewer"))]
Operator = Annotated[Visit, Depends(seeing("operator"))]
Doing = Annotated[Visit, Depends(doing("operator"))]
Text = Annotated[str, Query(max_length=20_000)]
Texts = Annotated[list[Annotated[str, Query(max_length=500)]], Query(max_length=50)]
Field = Annotated[str, Form(max_length=20_000)]

WINDOWS_MORE: Final = 2
_PACKED_MAX: Final = 1 << 20
MODES: Final = (
    ("observe", N_("look only")),
    ("notify", N_("tell what waits")),
    ("download", N_("fetch, and tell")),
    ("automatic", N_("install by themselves")),
)
ROWS: Final = 50
"""Assignments of a page."""

REBOOTS: Final = (
    ("never", N_("never")),
    ("if-required", N_("where an update needs it")),
    ("always", N_("after each update")),
)

STATES: Final = (("asked", N_("waits for a word")), ("allowed", N_("may open")), ("denied", N_("stays closed")))
ENDS: Final = (("asked", N_("nobody gave one")), ("allowed", N_("it was open")), ("denied", N_("it stayed closed")))


@router.get("")
def maintenance_page(visit: Viewer, after: Annotated[str, Query(max_length=300)] = "") -> Response:
    """Show configurations, who has which, and the freezes for everybody."""
    with visit.context.database.read() as connection:
        counts = store.machine_counts(connection)
        rows = [
            (row, msgspec.convert(row["content"], ConfigurationWanted)) for row in store.configuration_rows(connection)
        ]
        assignments, following = store.assignment_page(connection, after, ROWS)
        freezes = store.freeze_rows(connection)
        names = _names(connection, [row["machine_id"] for row in assignments if row["machine_id"]])
        taken = slots.rows(connection)
        asked = events.rows(connection, visit.now)
        over = events.over(connection)
        scope_names = list(connection.scalars(sa.select(scopes.c.name).order_by(scopes.c.name)))
    return visit.page(
        "maintenance.html.j2",
        rows=rows,
        counts=counts,
        modes=dict(MODES),
        reboots=dict(REBOOTS),
        assignments=assignments,
        next=following,
        freezes=freezes,
        taken=taken,
        asked=asked,
        over=over,
        states=dict(STATES),
        ends=dict(ENDS),
        names=names,
        scopes=[(each, each) for each in scope_names],
        default=service.DEFAULT,
        configurations=[(row["name"], row["name"]) for row, _ in rows],
    )


def _names(connection: Connection, ids: list[str]) -> dict[str, str]:
    found = sa.select(machines.c.id, machines.c.name).where(machines.c.id.in_(ids))
    return {row.id: row.name for row in connection.execute(found)}


def _asked(
    mode: Literal["observe", "notify", "download", "automatic"] = "notify",
    zone: Text = "",
    classes: Text = "",
    include: Text = "",
    exclude: Text = "",
    restart: Text = "",
    reboot: Literal["if-required", "never", "always"] = "never",
    at_a_time: Annotated[int, Query(ge=0)] = 0,
    slot_minutes: Annotated[int, Query(ge=0)] = 30,
    event_minutes: Annotated[int, Query(ge=0)] = 0,
    window: Texts = [],  # noqa: B006 - FastAPI copies it
    rule: Texts = [],  # noqa: B006
    start: Texts = [],  # noqa: B006
    minutes: Texts = [],  # noqa: B006
    days: Texts = [],  # noqa: B006
    freeze: Texts = [],  # noqa: B006
    first: Texts = [],  # noqa: B006
    last: Texts = [],  # noqa: B006
    yearly: Texts = [],  # noqa: B006
) -> ConfigurationWanted:
    """Return the configuration that the form asks for.

    Raises:
        Problem: a date or number that is none.
    """
    if len({len(window), len(rule), len(start), len(minutes), len(days)}) != 1:
        raise Problem(422, "not-valid", "each window has a name, a rule, a start, minutes and days")
    if len({len(freeze), len(first), len(last), len(yearly)}) != 1:
        raise Problem(422, "not-valid", "each freeze has a name, a first day, a last one and whether it is yearly")
    try:
        return ConfigurationWanted(
            mode,
            list(_windows(window, rule, start, minutes, days)),
            {
                name.strip(): FreezeWanted(date.fromisoformat(begin), date.fromisoformat(end), bool(again))
                for name, begin, end, again in zip(freeze, first, last, yearly, strict=True)
                if name.strip()
            },
            zone.strip(),
            lines_of(classes),
            lines_of(include),
            lines_of(exclude),
            bool(restart),
            reboot,
            at_a_time,
            slot_minutes,
            event_minutes,
        )
    except ValueError as error:
        raise Problem(422, "not-valid", str(error)) from None


def _windows(
    names: list[str], rules: list[str], starts: list[str], minutes: list[str], days: list[str]
) -> Iterator[WindowWanted]:
    for name, rule, start, length, after in zip(names, rules, starts, minutes, days, strict=True):
        if name.strip():
            begin = datetime.fromisoformat(start)
            yield WindowWanted(name.strip(), rule.strip(), begin, int(length), int(after or "0"))


@router.get("/configuration")
def configuration_page(
    visit: Viewer,
    wanted: Annotated[ConfigurationWanted, Depends(_asked)],
    name: Annotated[str, Query(max_length=100)] = "",
    previewed: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """Show a configuration, or the form for a new one; what a change would bring is shown before it can be kept."""
    name, wrong, shown = name.strip(), "", None
    with visit.context.database.read() as connection:
        row = store.configuration(connection, name) if name else None
        if not previewed and row is not None:
            wanted = msgspec.convert(row["content"], ConfigurationWanted)
        if name and (row is not None or previewed):
            try:
                shown = forecast.windows(connection, name, wanted, visit.now)
            except Problem as problem:
                wrong = str(problem)
        count = store.machine_counts(connection).get(name, 0)
        assigned = store.assignment_rows(connection, name) if row is not None else []
    return visit.page(
        "configuration.html.j2",
        name=name,
        row=row,
        wanted=wanted,
        previewed=bool(previewed),
        wrong=wrong,
        shown=shown,
        count=count,
        assigned=assigned,
        modes=[(short, visit.words.say(text)) for short, text in MODES],
        reboots=[(short, visit.words.say(text)) for short, text in REBOOTS],
        more=WINDOWS_MORE,
        packed=msgspec.json.encode(wanted).decode(),
    )


@router.post("/configuration")
def put_configuration(
    visit: Doing,
    name: Field = "",
    wanted: Annotated[str, Form(max_length=_PACKED_MAX)] = "",
    version: Annotated[int, Form(ge=0)] = 0,
) -> Response:
    """Keep a configuration as it was shown; a new one has version 0."""
    try:
        asked = msgspec.json.decode(wanted, type=ConfigurationWanted)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise Problem(422, "not-valid", str(error)) from None
    if not version:
        with visit.context.database.read() as connection:
            if store.configuration(connection, name) is not None:
                raise Problem(412, "changed", "there is one of this name by now", "read it again")
    service.put_configuration(visit.context, visit.who, name, asked, version or None)
    return redirect("/maintenance", done="configuration")


@router.post("/configuration/remove")
def remove_configuration(visit: Doing, name: Field = "") -> Response:
    """Remove a configuration that is assigned to nobody."""
    service.delete_configuration(visit.context, visit.who, name)
    return redirect("/maintenance", done="configuration-removed")


def _assignment(
    configuration: Annotated[str, Query(max_length=100)] = "",
    priority: Annotated[int, Query(ge=-1_000_000, le=1_000_000)] = 100,
    to: Annotated[Literal["tag", "scope", "machine"], Query()] = "tag",
    tag: Annotated[str, Query(max_length=301)] = "",
    scope: Annotated[str, Query(max_length=100)] = "",
    machine: Annotated[str, Query(max_length=253)] = "",
) -> tuple[AssignmentWanted, str]:
    """Return the assignment that the form asks for, and the name of its machine."""
    name, _, value = tag.strip().partition("=")
    match to:
        case "tag":
            return AssignmentWanted(configuration, priority, tag=name.strip(), value=value.strip()), ""
        case "scope":
            return AssignmentWanted(configuration, priority, scope=scope), ""
    return AssignmentWanted(configuration, priority, machine=""), machine.strip()


@router.get("/assignment")
def assignment_page(visit: Operator, asked: Annotated[tuple[AssignmentWanted, str], Depends(_assignment)]) -> Response:
    """Show how many machines would have another configuration."""
    wanted, machine = asked
    with visit.context.database.read() as connection:
        if store.configuration(connection, wanted.configuration) is None:
            raise not_found("configuration")
        if machine:
            wanted = AssignmentWanted(wanted.configuration, wanted.priority, machine=_machine(connection, machine))
        if not (wanted.machine or wanted.scope or wanted.tag):
            raise Problem(422, "not-valid", "an assignment is for a machine, a scope or a tag")
        taken = [row for row in store.assignment_rows(connection) if row["priority"] == wanted.priority]
        moved = forecast.assigned(connection, wanted)
    return visit.page("assignment.html.j2", wanted=wanted, machine=machine, moved=moved, taken=bool(taken))


def _machine(connection: Connection, name: str) -> str:
    """Return the id of a machine.

    Raises:
        Problem: there is none of this name, or more than one.
    """
    query = sa.select(machines.c.id).where(machines.c.name == name, machines.c.state != "left").limit(2)
    found = list(connection.scalars(query))
    if len(found) != 1:
        raise Problem(422, "not-valid", f"{len(found) or 'no'} machines are called {name}")
    return str(found[0])


@router.post("/assignments")
def assign(
    visit: Doing,
    configuration: Field = "",
    priority: Annotated[int, Form()] = 100,
    machine: Field = "",
    scope: Field = "",
    tag: Field = "",
    value: Field = "",
) -> Response:
    """Give machines a configuration."""
    wanted = AssignmentWanted(configuration, priority, machine or None, scope or None, tag, value)
    service.add_assignment(visit.context, visit.who, wanted)
    return redirect("/maintenance", done="assigned")


@router.post("/assignments/{identity}/remove")
def unassign(visit: Doing, identity: str) -> Response:
    """Take an assignment back."""
    service.delete_assignment(visit.context, visit.who, identity)
    return redirect("/maintenance", done="unassigned")


@router.post("/windows/{identity}/answer")
def answer_window(visit: Doing, identity: str, allow: Field = "") -> Response:
    """Say whether machines may begin in a window."""
    service.answer_event(visit.context, visit.who, identity, WindowAnswer(allow == "yes"))
    return redirect("/maintenance", done="window-answered")


@router.post("/slots/{machine}/free")
def free_slot(visit: Doing, machine: str) -> Response:
    """Free the restart slot of a machine that will not give it back."""
    service.free_slot(visit.context, visit.who, machine)
    return redirect("/maintenance", done="slot-freed")


@router.post("/freezes")
def freeze(visit: Doing, name: Field = "", first: Field = "", last: Field = "", yearly: Field = "") -> Response:
    """Freeze days for everybody."""
    try:
        wanted = FreezeWanted(date.fromisoformat(first), date.fromisoformat(last), bool(yearly))
    except ValueError as error:
        raise Problem(422, "not-valid", str(error)) from None
    service.put_freeze(visit.context, visit.who, name.strip(), wanted)
    return redirect("/maintenance", done="freeze")


@router.post("/freezes/remove")
def thaw(visit: Doing, name: Field = "") -> Response:
    """End a freeze for everybody."""
    service.delete_freeze(visit.context, visit.who, name)
    return redirect("/maintenance", done="thawed")
