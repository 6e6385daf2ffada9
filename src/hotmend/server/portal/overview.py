"""The overview: where the fleet stands, what runs, and what waits for somebody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form
from sqlalchemy.engine import Connection, RowMapping
from starlette.responses import Response

from hotmend.server.audit import store as audit
from hotmend.server.figures.kept import Dated, read
from hotmend.server.machines import fleet
from hotmend.server.machines.figures import OVERVIEW, Overview
from hotmend.server.machines.judging import program
from hotmend.server.maintenance.events import rows as asked
from hotmend.server.portal.charts import Bar, code_bars
from hotmend.server.portal.kept import Kept
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect, seeing
from hotmend.server.rollouts.progress import not_taken_back
from hotmend.server.rollouts.service import put_halt
from hotmend.server.rollouts.steering import NOT_TAKEN_BACK
from hotmend.server.rollouts.store import in_states
from hotmend.server.rollouts.waiting import Held, held_long
from hotmend.servicing.message import N_
from hotmend.servicing.rollouts import FINAL, State

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_FAILED_FOR: Final = timedelta(days=7)
_NOT_BACK_FOR: Final = timedelta(days=30)
_ASKING: Final = (State.WAITING_FOR_APPROVAL, State.READY, State.PAUSED)
_STEERED: Final = (State.STARTING, State.RUNNING, State.STOPPING, State.ROLLING_BACK)
_SOON: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that waits for somebody: a sentence, where to go, and more about it."""

    text: str
    link: str
    detail: str = ""


@router.get("/")
def overview(visit: Annotated[Visit, Depends(seeing("viewer"))]) -> Response:
    """Show the fleet."""
    figures: Kept[Dated[Overview]] = visit.request.app.state.figures
    found = figures.get(lambda: read(visit.context, OVERVIEW))
    counts, exposure = found.value
    with visit.context.database.read() as connection:
        running = fleet.running_actions(connection)
        failed = fleet.failed_actions(connection, visit.now - _FAILED_FOR)
        halted = fleet.halt(connection)
        rollouts = in_states(connection, _ASKING)
        steered = in_states(connection, _STEERED)
        held = held_long(connection, visit.now, fleet.silent_since(visit.context.settings, visit.now))
        record = audit.kept(connection)
        not_back = _not_back(connection, visit.now)
        windows = [row for row in asked(connection, visit.now) if row["state"] == "asked"]
    words = visit.words
    return visit.page(
        "overview.html.j2",
        counts=counts,
        at=found.at,
        exposure=exposure,
        running=running,
        steered=steered,
        decisions=[
            *_audit(visit, record),
            *_windows(visit, windows),
            *_rollouts(visit, rollouts),
            *_held(visit, held),
            *_left(visit, not_back),
            *_decisions(visit, counts),
            *_failures(visit, failed),
        ],
        lines=code_bars(counts.lines, words, "line"),
        enrollments=code_bars(counts.enrollments, words, "enrollment"),
        levels=[
            Bar(
                " · ".join(filter(None, (release, level))) or words.say("not known"),
                number,
                words.number(number),
                link=f"/machines?{urlencode({'release': release, 'level': level})}" if release or level else "",
            )
            for release, level, number in counts.levels
        ],
        places=code_bars(exposure.findings, words),
        halted=halted,
        may_halt=visit.who.has("operator"),
    )


@router.post("/brake")
def brake(
    visit: Annotated[Visit, Depends(doing("operator"))],
    halt: Annotated[str, Form(max_length=10)] = "",
    reason: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Halt the whole fleet, or let it go on."""
    put_halt(visit.context, visit.who, reason.strip(), halted=bool(halt))
    return redirect("/", done="halted" if halt else "released")


def _decisions(visit: Visit, counts: fleet.Counts) -> list[Decision]:
    say = visit.words.say
    enrolling = counts.enrollments.get("ACTION_REQUIRED", 0)
    asked = [
        (counts.states.get("pending", 0), say("Machines that wait for approval: {count}"), "/machines?state=pending"),
        (counts.states.get("suspect", 0), say("Machines that may be clones: {count}"), "/machines?state=suspect"),
        (enrolling, say("Enrollments that need action: {count}"), "/machines?enrollment=ACTION_REQUIRED"),
        (counts.lines.get("off", 0), say("Machines off the hotpatch line: {count}"), "/machines?line=off"),
        (counts.sums["asking"], say("Machines whose updates wait for a person: {count}"), "/machines?due=asking"),
        (counts.sums["alerts"], say("Machines where something is not as it should be: {count}"), "/machines?due=alert"),
        (counts.unseen, say("Machines not heard of lately: {count}"), "/machines?unseen=yes"),
        (counts.blind, say("Machines whose agent does not look: {count}"), "/machines?blind=yes"),
    ]
    found = [Decision(text.format(count=visit.words.number(count)), link) for count, text, link in asked if count]
    today = visit.now.date()
    for issue in program().issues:
        if counts.platforms.get("windows") and issue.deadline and today <= issue.deadline <= today + _SOON:
            when = say("to be done before {day}", day=issue.deadline)
            found.append(Decision(say(issue.title), f"/issues#{issue.id}", when))
    return found


def _audit(visit: Visit, record: audit.Verdict | None) -> list[Decision]:
    if record is None or not record.wrong:
        return []
    told = visit.words.say("The audit record is not as it was written: somebody has changed the database.")
    return [Decision(told, "/audit?verify=yes", record.wrong)]


def _windows(visit: Visit, rows: list[RowMapping]) -> list[Decision]:
    if not rows:
        return []
    say, first = visit.words.say, rows[0]
    told = say("Windows that wait for a word: {count}", count=visit.words.number(len(rows)))
    return [Decision(told, "/maintenance#asked", f"{first['configuration']}, {visit.words.moment(first['starts_at'])}")]


def _rollouts(visit: Visit, rows: list[RowMapping]) -> list[Decision]:
    code, say = visit.words.code, visit.words.say
    return [Decision(f"{say('Rollout')} {row['name']}: {code(row['state'])}", f"/rollouts/{row['id']}") for row in rows]


def _held(visit: Visit, held: list[Held]) -> list[Decision]:
    say, words = visit.words.say, visit.words
    text = N_("Rollout {name}: machines that have not begun for long: {count}")
    return [
        Decision(
            say(text, name=each.name, count=words.number(each.machines)),
            f"/rollouts/{each.rollout}",
            words.code(each.code),
        )
        for each in held
    ]


def _not_back(connection: Connection, now: datetime) -> list[tuple[RowMapping, int]]:
    """Return rollouts that ended with machines which are not taken back, and how many those are by now."""
    ended = [
        row
        for row in in_states(connection, FINAL, now - _NOT_BACK_FOR)
        if (row["why"] or {}).get("code") == NOT_TAKEN_BACK
    ]
    counted = [(row, not_taken_back(connection, row["id"])) for row in ended]
    return [(row, count) for row, count in counted if count]


def _left(visit: Visit, rows: list[tuple[RowMapping, int]]) -> list[Decision]:
    say, number = visit.words.say, visit.words.number
    text = say("Rollout {name}: machines that are not taken back: {count}")
    return [
        Decision(text.format(name=row["name"], count=number(count)), f"/rollouts/{row['id']}") for row, count in rows
    ]


def _failures(visit: Visit, failed: list[RowMapping]) -> list[Decision]:
    code = visit.words.code
    return [
        Decision(
            f"{row['machine']}: {code(row['kind'])}: {code(row['state'])}",
            f"/machines/{row['machine_id']}/actions/{row['id']}",
            row["detail"],
        )
        for row in failed
    ]
