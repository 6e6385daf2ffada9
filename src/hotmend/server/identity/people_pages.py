"""Users and API tokens as pages: an administrator's, and everybody's own."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Form, Query
from starlette.responses import Response

from hotmend.server.identity import service, store
from hotmend.server.identity.secrets import PASSWORD_CHARACTERS
from hotmend.server.identity.tables import ROLES
from hotmend.server.portal.visit import PageRoute, Visit, doing, redirect, seeing
from hotmend.server.problem import Problem
from hotmend.wire.api import TokenWanted, UserChange, UserWanted

router = APIRouter(route_class=PageRoute, include_in_schema=False)

Viewer = Annotated[Visit, Depends(seeing("viewer"))]
Admin = Annotated[Visit, Depends(seeing("admin"))]
ViewerDoing = Annotated[Visit, Depends(doing("viewer"))]
AdminDoing = Annotated[Visit, Depends(doing("admin"))]
Text = Annotated[str, Form(max_length=300)]
After = Annotated[str, Query(max_length=1000)]
ROWS: Final = 50
Role = Literal["viewer", "operator", "approver", "admin"]


def _roles(visit: Visit) -> list[tuple[str, str]]:
    return [(each, visit.words.code(each)) for each in ROLES if visit.who.has(each)]


@router.get("/users")
def users_page(visit: Admin, after: After = "", token: After = "") -> Response:
    """Show users and tokens of all: those behind the user `after`, and behind the token `token`."""
    with visit.context.database.read() as connection:
        users, next_user = store.user_page(connection, after, ROWS)
        tokens, next_token = store.token_page(connection, None, token, ROWS)
    return visit.page(
        "users.html.j2",
        users=users,
        tokens=tokens,
        next_user=next_user,
        next_token=next_token,
        roles=_roles(visit),
        shortest=PASSWORD_CHARACTERS.start,
    )


@router.post("/users")
def add_user(visit: AdminDoing, role: Annotated[Role, Form()], name: Text = "", password: Text = "") -> Response:
    """Add a user."""
    if not password:
        raise Problem(422, "password", "a password is needed to sign in here")
    service.add_user(visit.context, visit.who, UserWanted(name.strip(), role, password))
    return redirect("/users", done="user")


@router.post("/users/{identity}")
def change_user(
    visit: AdminDoing,
    identity: str,
    role: Annotated[Role, Form()],
    password: Text = "",
    disabled: Annotated[Literal["", "yes"], Form()] = "",
) -> Response:
    """Change a user's role or password, or whether somebody may come in as this user."""
    change = UserChange(role, bool(disabled), password or None)
    service.change_user(visit.context, visit.who, identity, change)
    return redirect("/users", done="user-changed")


@router.get("/account")
def account_page(visit: Viewer, token: After = "") -> Response:
    """Show one's own tokens."""
    with visit.context.database.read() as connection:
        tokens, following = store.token_page(connection, visit.who.id, token, ROWS)
    return visit.page("account.html.j2", tokens=tokens, next_token=following, roles=_roles(visit))


@router.post("/account/tokens")
def add_token(
    visit: ViewerDoing,
    role: Annotated[Role, Form()],
    name: Text = "",
    days: Annotated[int, Form(ge=0, le=3660)] = 90,
    feeds: Text = "",
) -> Response:
    """Make a token for oneself, and show it this once; one for feeds with their addresses."""
    wanted = TokenWanted(name.strip(), "viewer" if feeds else role, days, bool(feeds))
    made = service.add_token(visit.context, visit.who, wanted)
    there = f"{visit.context.settings.public_url}/api/v1/feeds"
    asked = f"language={visit.words.language}&token={made.secret}"
    addresses = [f"{there}/{file}?{asked}" for file in ("calendar.ics", "releases.atom")] if feeds else []
    return visit.page("token_made.html.j2", name=wanted.name, secret=made.secret, addresses=addresses)


@router.post("/tokens/{identity}/revoke")
def revoke_token(visit: ViewerDoing, identity: str, back: Text = "/account") -> Response:
    """End a token; an administrator ends any."""
    if back not in ("/account", "/users"):
        raise Problem(422, "not-valid", "not a page of tokens")
    service.revoke_token(visit.context, visit.who, identity)
    return redirect(back, done="token-revoked")
