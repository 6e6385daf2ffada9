"""Feeds over the API. Programs that send no header have a token in the address, which is good for nothing else."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request
from fastapi import Query as Asked
from starlette.responses import Response

from hotmend.reference.feeds import calendar_atom, calendar_icalendar
from hotmend.reference.texts import Reader
from hotmend.server.context import context_of
from hotmend.server.feeds import content
from hotmend.server.identity.access import VIEWER, Principal, feed_reader
from hotmend.server.portal.language import words

router = APIRouter(prefix="/feeds", tags=["feeds"])
_HEADERS: Final = {"Cache-Control": "private, max-age=900", "Referrer-Policy": "no-referrer"}
"""A token may be in the address: nobody else keeps the answer, and no link in it tells the address."""
Language = Literal["en", "de"]


def _reader(
    request: Request,
    token: Annotated[str, Asked(max_length=200, description="A token that is for feeds alone")] = "",
) -> Principal:
    return feed_reader(request, token) or VIEWER(request)


_Reader = Annotated[Principal, Depends(_reader)]


def _described(kind: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {kind: {"schema": {"type": "string"}}}}}


@router.get("/calendar.ics", response_class=Response, responses=_described("text/calendar"))
def get_calendar(request: Request, caller: _Reader, language: Language = "en") -> Response:  # noqa: ARG001
    """Return releases, baselines, maintenance windows, freezes and rollouts that are to begin, as iCalendar."""
    context, reader = context_of(request), Reader(language)
    now = context.clock()
    with context.database.read() as connection:
        rows, spans = content.calendar(connection, now), content.spans(connection, now, words(language).say)
    return Response(calendar_icalendar(rows, reader, now, spans), 200, _HEADERS, "text/calendar")


@router.get("/releases.atom", response_class=Response, responses=_described("application/atom+xml"))
def get_releases(request: Request, caller: _Reader, language: Language = "en") -> Response:  # noqa: ARG001
    """Return what the followed channels and the shipped calendar have published in the last year, as Atom."""
    context = context_of(request)
    with context.database.read() as connection:
        rows = content.calendar(connection, context.clock())
    return Response(calendar_atom(rows, Reader(language)), 200, _HEADERS, "application/atom+xml")
