"""The routes on the app, with the server's own authentication. Errors have the shape that Azure's tools read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hotmend.arc.routes import RETRY_AFTER_SECONDS, arm_routes
from hotmend.server.arm.service import CALLER, Machines
from hotmend.server.context import Context
from hotmend.server.identity.access import OPERATOR, VIEWER
from hotmend.server.problem import problem_of

_CODES: Final = {401: "AuthenticationFailed", 403: "AuthorizationFailed", 429: "TooManyRequests"}
_Endpoint = Callable[[Request], Awaitable[Response]]


def put_on(app: FastAPI, context: Context) -> None:
    """Put the routes on an app."""
    for route in arm_routes(Machines(context), RETRY_AFTER_SECONDS, context.settings.url):
        app.router.routes.append(Route(route.path, _asked(route.endpoint), methods=list(route.methods or ())))


def _asked(endpoint: _Endpoint) -> _Endpoint:
    """Return an endpoint for those who may: to look a viewer, to do something an operator."""

    async def asked(request: Request) -> Response:
        try:
            needed = VIEWER if request.method in ("GET", "HEAD") else OPERATOR
            token = CALLER.set(await run_in_threadpool(needed, request))
            try:
                return await endpoint(request)
            finally:
                CALLER.reset(token)
        except Exception as error:  # noqa: BLE001 - every error is an answer
            problem = problem_of(error)
        code = _CODES.get(problem.status, "".join(word.capitalize() for word in problem.code.split("-")))
        body = {"error": {"code": code, "message": f"{problem}. {problem.hint}".rstrip(" .") + "."}}
        return JSONResponse(body, problem.status, problem.headers)

    return asked
