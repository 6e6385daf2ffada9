"""Users, tokens and registration keys over the API."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from sqlalchemy.engine import RowMapping
from starlette.responses import Response

from hotmend.server.context import Context, context_of
from hotmend.server.identity import service, store
from hotmend.server.identity.access import ADMIN, OPERATOR, VIEWER, Principal
from hotmend.server.identity.script import enroll_script, windows_script
from hotmend.server.limits import too_often
from hotmend.server.once import HEADER, once_within
from hotmend.server.problem import made
from hotmend.wire.api import (
    KeyWanted,
    Me,
    RegistrationKey,
    RegistrationKeyPage,
    SetupWanted,
    Token,
    TokenPage,
    TokenWanted,
    User,
    UserChange,
    UserPage,
    UserWanted,
)

router = APIRouter(tags=["identity"])

Viewer = Annotated[Principal, Depends(VIEWER)]
Operator = Annotated[Principal, Depends(OPERATOR)]
Admin = Annotated[Principal, Depends(ADMIN)]
Key = Annotated[str, Header(alias=HEADER)]
Limit = Annotated[int, Query(ge=1, le=500)]


@router.post("/setup", status_code=201)
def set_up(request: Request, wanted: SetupWanted) -> Token:
    """Make the first administrator with the token that the server printed at its start."""
    context = context_of(request)
    if wait := context.callers.wait_seconds("setup"):
        raise too_often(wait)
    new = service.set_up(context, wanted.token, wanted.name, wanted.password)
    with context.database.read() as connection:
        row = store.token(connection, new.id)
    return _token(row, new.secret)


@router.get("/me")
def who(caller: Viewer) -> Me:
    """Return who asks."""
    return Me(caller.id, caller.name, caller.role)  # type: ignore[arg-type]  # checked by the database


@router.get("/users")
def list_users(
    request: Request,
    caller: Admin,  # noqa: ARG001 - asked for its role
    cursor: str = "",
    limit: Limit = 100,
) -> UserPage:
    """Return users by name."""
    with context_of(request).database.read() as connection:
        rows, following = store.user_page(connection, cursor, limit)
    return UserPage([_user(row) for row in rows], following)


@router.post("/users", status_code=201, response_model=User)
def add_user(request: Request, caller: Admin, wanted: UserWanted, key: Key = "") -> Response:
    """Add a user. With Idempotency-Key it is added once."""

    def do(context: Context) -> User:
        identity = service.add_user(context, caller, wanted)
        with context.database.read() as connection:
            return _user(store.user(connection, identity))  # type: ignore[arg-type]  # it was just added

    asked = ["users", wanted.name, wanted.role, bool(wanted.password)]
    return made(once_within(context_of(request), caller, key, asked, do))


@router.patch("/users/{identity}")
def change_user(request: Request, caller: Admin, identity: str, change: UserChange) -> User:
    """Change a user's role or password, or disable it."""
    return _user(service.change_user(context_of(request), caller, identity, change))


@router.get("/tokens")
def list_tokens(request: Request, caller: Viewer, cursor: str = "", limit: Limit = 100) -> TokenPage:
    """Return one's own tokens, newest first; an administrator sees all."""
    whose = None if caller.has("admin") else caller.id
    with context_of(request).database.read() as connection:
        rows, following = store.token_page(connection, whose, cursor, limit)
    return TokenPage([_token(row) for row in rows], following)


@router.post("/tokens", status_code=201, response_model=Token)
def add_token(request: Request, caller: Viewer, wanted: TokenWanted, key: Key = "") -> Response:
    """Make a token for oneself. With Idempotency-Key it is made once; its secret is in the first answer alone."""

    def do(context: Context) -> Token:
        new = service.add_token(context, caller, wanted)
        with context.database.read() as connection:
            return _token(store.token(connection, new.id), new.secret)

    return made(once_within(context_of(request), caller, key, ["tokens", asdict(wanted)], do, _silent))


@router.delete("/tokens/{identity}", status_code=204)
def revoke_token(request: Request, caller: Viewer, identity: str) -> Response:
    """End a token."""
    service.revoke_token(context_of(request), caller, identity)
    return Response(status_code=204)


@router.get("/registration-keys")
def list_keys(
    request: Request,
    caller: Operator,  # noqa: ARG001 - asked for its role
    cursor: str = "",
    limit: Limit = 100,
) -> RegistrationKeyPage:
    """Return registration keys, newest first, without their secrets."""
    with context_of(request).database.read() as connection:
        rows, following = store.key_page(connection, cursor, limit)
    return RegistrationKeyPage([_key(row) for row in rows], following)


@router.post("/registration-keys", status_code=201, response_model=RegistrationKey)
def add_key(request: Request, caller: Operator, wanted: KeyWanted, key: Key = "") -> Response:
    """Make a registration key. Its secret and the script to paste are shown this once, with Idempotency-Key too."""

    def do(context: Context) -> RegistrationKey:
        new = service.add_key(context, caller, wanted)
        with context.database.read() as connection:
            row = store.key(connection, new.id)
        pasted = context.settings.public_url, new.secret, context.key.public
        return _key(row, new.secret, enroll_script(*pasted), windows_script(*pasted))

    return made(once_within(context_of(request), caller, key, ["registration-keys", asdict(wanted)], do, _silent))


@router.delete("/registration-keys/{identity}", status_code=204)
def revoke_key(request: Request, caller: Operator, identity: str) -> Response:
    """End a registration key; machines that came with it stay."""
    service.revoke_key(context_of(request), caller, identity)
    return Response(status_code=204)


def _silent(shown: Token | RegistrationKey) -> Token | RegistrationKey:
    """Return it as it is kept and shown again."""
    if isinstance(shown, Token):
        return replace(shown, secret="")
    return replace(shown, secret="", script="", windows_script="")


def _user(row: RowMapping) -> User:
    return User(row["id"], row["name"], row["role"], row["created_at"], row["disabled_at"] is not None)


def _token(row: RowMapping, secret: str = "") -> Token:
    return Token(
        row["id"],
        row["name"],
        row["user"],
        row["role"],
        row["created_at"],
        row["expires_at"],
        row["revoked_at"] is not None,
        secret,
        row["feeds"],
    )


def _key(row: RowMapping | dict[str, Any], secret: str = "", script: str = "", windows: str = "") -> RegistrationKey:
    return RegistrationKey(
        row["id"],
        row["name"],
        row["tier"],
        row["tags"],
        row["approval"],
        row["uses"],
        row["uses_max"],
        row["created_by"],
        row["created_at"],
        row["expires_at"],
        row["revoked_at"] is not None,
        secret,
        script,
        windows,
    )
