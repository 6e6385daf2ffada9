"""Signing in and out, the first administrator, and the choice of the language."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form
from starlette.responses import Response

from hotmend.reference.texts import LANGUAGES
from hotmend.server.identity import service, store
from hotmend.server.identity.access import COOKIE
from hotmend.server.limits import address_of, too_often
from hotmend.server.portal import language
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect, seeing
from hotmend.server.problem import Problem

router = APIRouter(route_class=PageRoute, include_in_schema=False)

Anybody = Annotated[Visit, Depends(seeing(None))]
AnybodyDoing = Annotated[Visit, Depends(doing(None))]
Text = Annotated[str, Form(max_length=300)]

_YEAR_SECONDS: Final = 365 * 86400
TRIES_PER_MINUTE: Final = 20
"""Of one address to sign in, at each server process."""


@router.get("/sign-in")
def sign_in_page(visit: Anybody, next: str = "/") -> Response:  # noqa: A002 - it is called so in the address
    """Show the form to sign in; on a new server, that for the first administrator."""
    if visit.caller is not None:
        return redirect("/")
    with visit.context.database.read() as connection:
        template = "sign_in.html.j2" if store.count_users(connection) else "set_up.html.j2"
    return visit.page(template, next=_own(next), wrong=False)


@router.post("/sign-in")
def sign_in(visit: AnybodyDoing, name: Text = "", password: Text = "", token: Text = "", next: Text = "/") -> Response:  # noqa: A002
    """Begin a session with name and password, or with an API token."""
    _not_too_often(visit)
    made = (
        service.begin_token_session(visit.context, token.strip())
        if token.strip()
        else service.begin_session(visit.context, name.strip(), password)
    )
    if made is None:
        service.refused_session(visit.context, name.strip(), address_of(visit.request.client))
        return visit.page("sign_in.html.j2", 403, next=_own(next), wrong=True)
    return _with_session(redirect(_own(next)), visit, made)


@router.post("/set-up")
def set_up(visit: AnybodyDoing, token: Text = "", name: Text = "", password: Text = "") -> Response:
    """Make the first administrator, and sign in."""
    _not_too_often(visit)
    if not password:
        raise Problem(422, "password", "a password is needed to sign in here")
    made = service.set_up(visit.context, token.strip(), name.strip(), password)
    session = service.begin_session(visit.context, name.strip(), password)
    if session is None:
        raise Problem(409, "set-up", "changed meanwhile")
    return _with_session(visit.page("set_up_done.html.j2", secret=made.secret), visit, session)


@router.post("/sign-out")
def sign_out(visit: Annotated[Visit, Depends(doing("viewer"))]) -> Response:
    """End the session."""
    service.end_session(visit.context, visit.who, visit.request.cookies.get(COOKIE, ""))
    answer = redirect("/sign-in")
    answer.delete_cookie(COOKIE)
    return answer


@router.post("/language")
def choose_language(visit: AnybodyDoing, chosen: Text = "en", next: Text = "/") -> Response:  # noqa: A002
    """Keep the language that somebody chose."""
    answer = redirect(_own(next))
    answer.set_cookie(
        language.COOKIE,
        chosen if chosen in LANGUAGES else "en",
        max_age=_YEAR_SECONDS,
        httponly=True,
        samesite="strict",
        secure=visit.context.settings.secure_cookies,
    )
    return answer


def _with_session(answer: Response, visit: Visit, made: service.Made) -> Response:
    answer.set_cookie(
        COOKIE,
        made.secret,
        max_age=int(service.SESSION_LIFE.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=visit.context.settings.secure_cookies,
    )
    return answer


def _not_too_often(visit: Visit) -> None:
    if wait := visit.request.app.state.sign_ins.wait_seconds(address_of(visit.request.client)):
        raise too_often(wait, "too many tries")


def _own(path: str) -> str:
    """Return a path of this server; anything else would lead elsewhere."""
    own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if own else "/"
