"""Known issues: what they are, how many machines of the whole fleet they concern, and which."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from sqlalchemy.engine import RowMapping
from starlette.responses import Response

from hotmend.server.figures.kept import read
from hotmend.server.issues import store
from hotmend.server.issues.figures import ISSUES
from hotmend.server.machines.judging import program
from hotmend.server.portal.visit import PageRoute, Visit, seeing
from hotmend.server.releases import store as releases

router = APIRouter(prefix="/issues", route_class=PageRoute, include_in_schema=False)

ROWS: Final = 50


@dataclass(frozen=True, slots=True)
class OfRelease:
    """A known issue of a channel's release, and how many machines are at that release."""

    release: RowMapping
    title: str
    since: datetime
    workaround: str
    resolved_by: str
    machines: int


@router.get("")
def issues_page(
    visit: Annotated[Visit, Depends(seeing("viewer"))],
    issue: Annotated[str, Query(max_length=100)] = "",
    after: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """Show all known issues: how many machines each concerns, and the first of them; or of one issue all, in pages."""
    every = program().issues
    totals, judged = read(visit.context, ISSUES).value
    with visit.context.database.survey() as connection:
        shown = [each for each in every if not issue or each.id == issue]
        found = {each.id: store.concerned(connection, each.id, after if issue else "", ROWS) for each in shown}
        at = releases.machines_at(connection)
        of_releases = [
            OfRelease(
                row,
                str(one["title"]),
                datetime.fromisoformat(str(one["since"])),
                str(one.get("workaround", "")),
                str(one.get("resolved_by", "")),
                at.get(row["id"], 0),
            )
            for row in releases.all_releases(connection)
            for one in _each(row["issues"])
        ]
    nobody = store.Totals()
    issues = sorted(shown, key=lambda each: (not found[each.id], each.since))
    following = ""
    if issue and len(found.get(issue, ())) == ROWS:
        following = str((int(after) if after.isascii() and after.isdigit() else 0) + ROWS)
    return visit.page(
        "issues.html.j2",
        issues=issues,
        found=found,
        totals={each.id: totals.get(each.id, nobody) for each in shown},
        judged=judged,
        of_releases=of_releases if not issue else [],
        rows=ROWS,
        issue=issue,
        next=following,
        today=visit.now.date(),
        after=after,
    )


def _each(given: Any) -> list[dict[str, Any]]:
    return list(given)
