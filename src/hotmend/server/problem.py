"""Errors as answers: problem+json (RFC 9457), with the codes that commands use."""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from hotmend.model.errors import HotmendError, InputError, UsageError

MEDIA_TYPE: Final = "application/problem+json"
DESCRIBED: Final[dict[str, Any]] = {
    "description": "A problem (RFC 9457); `code` is what programs go by.",
    "content": {
        MEDIA_TYPE: {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "code", "detail"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                    "hint": {"type": "string"},
                },
            }
        }
    },
}
"""How the API's description has answers that are problems."""
_LOG: Final = logging.getLogger("hotmend.server")


class Problem(HotmendError):
    """A request that is not answered as it asks.

    Attributes:
        status: of HTTP.
        code: what programs go by: words with `-` between.
        headers: of the answer.
    """

    def __init__(
        self, status: int, code: str, text: str, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text, hint)
        self.status, self.code, self.headers = status, code, dict(headers or {})


def not_found(what: str) -> Problem:
    """Return the problem that something does not exist, or not for this caller."""
    return Problem(404, "not-found", f"there is no such {what}")


def conflict(code: str, text: str, hint: str = "") -> Problem:
    """Return the problem that something is not in the state that this needs."""
    return Problem(409, code, text, hint)


def unprocessable(code: str, text: str, hint: str = "") -> Problem:
    """Return the problem that a rule says no: exit code 4 of commands."""
    return Problem(422, code, text, hint)


def answer(problem: Problem) -> Response:
    """Return a problem as an answer."""
    body: dict[str, Any] = {
        "type": f"https://hotmend.invalid/problems/{problem.code}",
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": str(problem),
    }
    if problem.hint:
        body["hint"] = problem.hint
    return Response(msgspec.json.encode(body), problem.status, problem.headers, MEDIA_TYPE)


def made(body: bytes) -> Response:
    """Return the answer that something was made: its JSON."""
    return Response(body, 201, media_type="application/json")


def problem_of(error: Exception) -> Problem:
    """Return what an error is to a caller; what nobody foresaw says nothing of its inside."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
            return Problem(422, "not-valid", told)
        case HTTPException():
            code = http.HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
            return Problem(error.status_code, code, str(error.detail), headers=error.headers)
        case InputError() | UsageError():
            return Problem(400, "bad-request", str(error), error.hint)
        case DataError():
            return Problem(422, "not-valid", "a value that is not kept: too long, too large, or with a NUL in it")
        case OperationalError():
            _LOG.error("database: %s", error)
            return Problem(503, "database", "the database does not answer", "try again", {"Retry-After": "5"})
    _LOG.error("unexpected", exc_info=error)
    return Problem(500, "unexpected", "an error that nobody foresaw; the server's log says which")


def install(app: FastAPI) -> None:
    """Make every error of an app a problem."""

    async def handle(request: Request, error: Exception) -> Response:  # noqa: ARG001 - as Starlette calls it
        return answer(problem_of(error))

    for kind in (HotmendError, RequestValidationError, HTTPException, DataError, OperationalError, Exception):
        app.add_exception_handler(kind, handle)
