"""Known issues: what they are, and which machines they concern."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from hotmend.server.machines import fleet
from hotmend.server.machines.uploads import program
from hotmend.server.portal.visit import PageRoute, Visit, seeing
from hotmend.servicing.evaluate import evaluate
from hotmend.servicing.facts_json import facts_decode
from hotmend.servicing.known_issues import Concern

router = APIRouter(prefix="/issues", route_class=PageRoute, include_in_schema=False)

MACHINES: Final = 200
"""Judged for one page: each takes some milliseconds, once for each day and new facts."""


@dataclass(frozen=True, slots=True)
class Affected:
    """A machine, and how an issue concerns it."""

    id: str
    name: str
    concern: Concern


@router.get("")
def issues_page(
    visit: Annotated[Visit, Depends(seeing("viewer"))], after: Annotated[str, Query(max_length=500)] = ""
) -> Response:
    """Show all known issues, with the machines of one page of the fleet that they concern."""
    with visit.context.database.read() as connection:
        rows, following = fleet.with_facts(connection, after, MACHINES)
    today, found = visit.now.date(), dict[str, list[Affected]]()
    for row in rows:
        for concern in _concerns(row["body"], today):
            found.setdefault(concern.issue.id, []).append(Affected(row["id"], row["name"], concern))
    issues = sorted(program().issues, key=lambda each: (each.id not in found, each.since))
    return visit.page(
        "issues.html.j2", issues=issues, found=found, judged=len(rows), next=following, today=today, after=after
    )


@lru_cache(maxsize=4096)
def _concerns(body: bytes, today: date) -> tuple[Concern, ...]:
    """Return how issues concern a machine on a day; they go by days, not by hours."""
    return evaluate(facts_decode(body), program(), datetime.combine(today, time(12), UTC)).concerns
