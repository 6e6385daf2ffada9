"""The app: settings in, an ASGI application out."""

from __future__ import annotations

import http
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Final

from fastapi import APIRouter, FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotmend import __version__
from hotmend.server import problem
from hotmend.server.arm.api import put_on
from hotmend.server.context import Clock, Context, context_of, system_clock
from hotmend.server.database import Database
from hotmend.server.identity.service import ensure_server_key
from hotmend.server.limits import Known, Limiter
from hotmend.server.machines.door import Door
from hotmend.server.portal.mount import mount
from hotmend.server.settings import Settings

SUBJECTS: Final = (
    "identity",
    "machines",
    "audit",
    "maintenance",
    "metrics",
    "rollouts",
    "webhooks",
    "compliance",
    "feeds",
)
"""Folders with an `api.router`."""
API_BYTES_MAX: Final = 16 << 20
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def make_app(settings: Settings, database: Database, clock: Clock = system_clock) -> FastAPI:
    """Return the app on a database that is open and up to date. Whoever calls closes it."""
    context = Context(
        settings,
        database,
        ensure_server_key(database, clock()),
        clock,
        Limiter(settings.requests_per_minute),
        Limiter(settings.enrolments_per_minute),
        Limiter(settings.check_ins_per_minute),
        Limiter(settings.refusals_per_minute),
        Known(),
        Known(),
    )

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        for begin in app.state.at_start:
            begin()
        try:
            yield
        finally:
            for end in reversed(app.state.at_end):
                end()

    app = _App(
        title="hotmend",
        version=__version__,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.state.context = context
    app.door = Door(context)
    app.state.at_start, app.state.at_end, app.state.workers = [], [app.door.close], []
    problem.install(app)
    app.add_middleware(_Guard)
    api = APIRouter(prefix="/api/v1", responses={"4XX": problem.DESCRIBED, 503: problem.DESCRIBED})
    for subject in SUBJECTS:
        api.include_router(import_module(f"hotmend.server.{subject}.api").router)
    app.include_router(api)
    app.add_api_route("/healthz", _health, include_in_schema=False)
    put_on(app, context)
    mount(app)
    return app


class _App(FastAPI):
    """The app behind the agents' door: a check-in is what is asked most, and goes none of the app's long way."""

    door: Door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.door.is_for(scope["path"]):
            await self.door(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class _Guard:
    """Refuses what is too large, and puts the headers on that every answer has."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("content-length", "0")
        if not given.isdigit() or int(given) > API_BYTES_MAX:
            answer = problem.answer(problem.Problem(413, "too-large", f"at most {API_BYTES_MAX} bytes"))
            await answer(scope, receive, send)
            return
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > API_BYTES_MAX:
                raise problem.Problem(413, "too-large", f"at most {API_BYTES_MAX} bytes")
            return message

        async def headed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, limited, headed)


def _health(request: Request) -> Response:
    """Say whether this process and its database answer, and whether it does what it does beside answering."""
    with context_of(request).database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    troubles = {worker.name: worker.trouble for worker in request.app.state.workers if worker.trouble}
    if troubles:
        told = {"status": "failing", "version": __version__, "not_done": troubles}
        return JSONResponse(told, http.HTTPStatus.SERVICE_UNAVAILABLE)
    return JSONResponse({"status": "ok", "version": __version__})
