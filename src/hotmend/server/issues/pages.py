"""Known issues: what they are, how many machines of the whole fleet they concern, and which."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import date
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from hotmend.server.figures.kept import read
from hotmend.server.issues import store, view
from hotmend.server.issues.figures import ISSUES
from hotmend.server.machines.judging import program
from hotmend.server.portal.visit import PageRoute, Visit, seeing
from hotmend.server.releases import store as releases

router = APIRouter(prefix="/issues", route_class=PageRoute, include_in_schema=False)

ROWS: Final = 50


@router.get("")
def issues_page(
    visit: Annotated[Visit, Depends(seeing("viewer"))],
    issue: Annotated[str, Query(max_length=100)] = "",
    after: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """Show all known issues: how many machines each concerns, and the first of them; or of one issue all, in pages."""
    today = visit.now.date()
    totals, judged = read(visit.context, ISSUES).value
    with visit.context.database.survey() as connection:
        every = [
            *sorted(map(view.of_rules, program().issues), key=lambda each: each.since or today),
            *view.of_releases(releases.all_releases(connection)),
        ]
        known = {each.id for each in every}
        unknown = _most_first(totals, known)
        # One that is asked for by name is looked up whatever the totals, which may be older than it, say of it.
        asked = [issue] if issue else unknown[:ROWS]
        wanted = [each for each in asked if each not in known and "\0" not in each]
        every += map(view.of_teller, store.told(connection, wanted))
        shown = [each for each in every if not issue or each.id == issue]
        found = {
            each.id: store.concerned(connection, each.id, after if issue else "", ROWS)
            for each in shown
            if issue or each.id in totals
        }
        at = releases.machines_at(connection)
    following = ""
    if issue and len(found.get(issue, ())) == ROWS:
        following = str((int(after) if after.isascii() and after.isdigit() else 0) + ROWS)
    return visit.page(
        "issues.html.j2",
        issues=sorted(shown, key=lambda each: not found.get(each.id)),
        found=found,
        totals={each.id: _today(each, totals.get(each.id, store.Totals()), today) for each in shown},
        judged=judged,
        at=at,
        rows=ROWS,
        unknown=len(unknown),
        issue=issue,
        next=following,
        today=today,
        after=after,
    )


def _most_first(totals: Mapping[str, store.Totals], known: Collection[str]) -> list[str]:
    """Return the ids of releases' issues that the server knows from machines alone, those of most machines first."""
    unknown = (each for each in totals if store.is_of_release(each) and each not in known)
    return sorted(unknown, key=lambda each: (-totals[each].machines, each))


def _today(issue: view.Shown, totals: store.Totals, today: date) -> store.Totals:
    """Count machines that were silent when the deadline came as what they are: too late, as far as is known."""
    return replace(totals, overdue=totals.affected + totals.perhaps) if issue.late(today) else totals
