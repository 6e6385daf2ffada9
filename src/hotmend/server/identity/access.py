"""Who asks, and whether that is enough: a token of the API, or a session of the portal.

An endpoint names the least role that may use it: `caller: Annotated[Principal, Depends(OPERATOR)]`.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from starlette.requests import Request

from hotmend.server.context import context_of
from hotmend.server.identity import store
from hotmend.server.identity.secrets import secret_hash
from hotmend.server.identity.tables import ROLES
from hotmend.server.limits import address_of, too_often
from hotmend.server.problem import Problem

COOKIE: Final = "hotmend_session"
FEED_PREFIX: Final = "hmf_"
CSRF_HEADER: Final = "X-CSRF-Token"
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SECRET_CHARACTERS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        id, name: of the user.
        role: what the token or session is good for.
        csrf: what a form of this session must carry; "" for a token.
        token: id of the token that this is, or that the session began with; "" for a password's session.
        until: end of that token; None: without an end.
    """

    id: str
    name: str
    role: str
    csrf: str = ""
    token: str = ""
    until: datetime | None = None

    def has(self, least: str) -> bool:
        """Say whether this is enough where `least` is needed."""
        return ROLES.index(self.role) >= ROLES.index(least)


def principal(request: Request) -> Principal | None:
    """Return who asks; None where nobody says who. Forms of a session must check `csrf_is`."""
    context = context_of(request)
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    cookie = request.cookies.get(COOKIE, "")
    if not secret and not cookie:
        return None
    given = secret.strip() if secret else cookie
    if (secret and scheme.lower() != "bearer") or len(given) > _SECRET_CHARACTERS_MAX:
        return None
    now = context.clock()
    with context.database.read() as connection:
        if secret:
            row = store.token_user(connection, secret_hash(given), now)
            if row is None:
                return None
            # A user whose role was lowered takes the tokens along.
            least = min(row["role"], row["user_role"], key=ROLES.index)
            return Principal(row["id"], row["name"], least, token=row["token"], until=row["expires_at"])
        row = store.session_user(connection, secret_hash(given), now)
    if row is None:
        return None
    return Principal(row["id"], row["name"], row["role"], row["csrf"], row["token_id"] or "", row["until"])


def feed_reader(request: Request, given: str) -> Principal | None:
    """Return who reads feeds by a token for them, in the address (`given`) or a header; None: there is none such.

    An address is kept in logs and programs: a token that may do more is refused there, whosesoever it is.

    Raises:
        Problem: the token is none for feeds, or it is used too often.
    """
    _, _, sent = request.headers.get("authorization", "").partition(" ")
    secret = given or sent.strip()
    if not given and not secret.startswith(FEED_PREFIX):
        return None

    def look() -> Principal | None:
        context, row = context_of(request), None
        if len(secret) <= _SECRET_CHARACTERS_MAX:
            with context.database.read() as connection:
                row = store.token_user(connection, secret_hash(secret), context.clock(), feeds=True)
        return None if row is None else Principal(row["id"], row["name"], "viewer")

    caller = _let_in(request, f"feeds {secret}", look, "feeds ")
    if caller is None:
        raise Problem(401, "not-authenticated", "not a token for feeds", "hotmend fleet token-add NAME --feeds")
    return caller


def admitted(request: Request) -> Principal | None:
    """Return who asks, as `principal`, unless they ask too often.

    Raises:
        Problem: too often.
    """
    shown = f"{request.headers.get('authorization', '')} {request.cookies.get(COOKIE, '')}"
    return _let_in(request, shown, lambda: principal(request))


def _let_in(request: Request, shown: str, look: Callable[[], Principal | None], counted: str = "") -> Principal | None:
    """Return whom a look finds: None is a refusal, and those are counted by address.

    What was good lately is looked at whatever its address, as long as its user does not ask too often.

    Raises:
        Problem: too often.
    """
    context, address, name = context_of(request), address_of(request.client), secret_hash(shown)
    guest = context.guests.get(name)
    wait = context.callers.would_wait(guest) if guest is not None else context.refusals.would_wait(address)
    if wait:
        raise too_often(wait)
    caller = look()
    if caller is None:
        context.guests.forget(name)
        context.refusals.wait_seconds(address)
        return None
    bucket = f"{counted}{caller.id}"
    context.guests.put(name, bucket)
    if wait := context.callers.wait_seconds(bucket):
        raise too_often(wait)
    return caller


def csrf_is(caller: Principal, given: str) -> bool:
    """Say whether a form carries what its session gave out."""
    return bool(caller.csrf) and hmac.compare_digest(caller.csrf, given)


def needs(least: str) -> Callable[[Request], Principal]:
    """Return the dependency of endpoints that need a role.

    Raises (the dependency):
        Problem: nobody, not enough, too often, or a session's request without its CSRF token.
    """

    def dependency(request: Request) -> Principal:
        caller = admitted(request)
        if caller is None:
            shown = "authorization" in request.headers
            raise Problem(
                401,
                "not-authenticated",
                "this token is unknown, over or revoked, or its user is disabled" if shown else "a token is needed",
                "Authorization: Bearer hm_…",
                {"WWW-Authenticate": "Bearer"},
            )
        reading = request.method in _READING
        if caller.csrf and not reading and not csrf_is(caller, request.headers.get(CSRF_HEADER, "")):
            raise Problem(403, "csrf", f"the header {CSRF_HEADER} of this session is needed")
        if not caller.has(least):
            raise Problem(403, "role", f"this needs the role {least}; {caller.name} is {caller.role} here")
        return caller

    return dependency


VIEWER, OPERATOR, APPROVER, ADMIN = (needs(name) for name in ROLES)
