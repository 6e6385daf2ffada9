"""Azure Resource Manager's routes for machines, to be mounted by a server: same paths, shapes, long-running protocol.

What is behind them is a `Backend`; nothing here knows databases or agents. Who may ask is the server's business: it
wraps these routes. Long calls answer 202 with `Azure-AsyncOperation`, `Location` and `Retry-After`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hotmend.arc.machine import PROVIDER, ArcMachine, Wanted, Where
from hotmend.arc.shapes import hotpatch_wanted, machine_json, moment, profile_json, wanted_of
from hotmend.model.errors import HotmendError, InputError

BODY_BYTES_MAX: Final = 1 << 20
RETRY_AFTER_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Operation:
    """One long call.

    Attributes:
        id: a name that nobody guesses.
        status: `InProgress` until it is done.
        started_at, ended_at: aware; `ended_at` is None until it is done.
        result: JSON object, as `shapes` makes it; None where the resource itself is the result.
        error: code and message of one that failed.
    """

    id: str
    status: Literal["InProgress", "Succeeded", "Failed", "Canceled"]
    started_at: datetime
    ended_at: datetime | None = None
    result: dict[str, Any] | None = None
    error: tuple[str, str] | None = None


class ConflictError(HotmendError):
    """Another operation on the machine goes on."""


class Backend(Protocol):
    """What the routes ask of the server. Methods must not block for long: they begin things.

    Raises (all that begin something):
        ConflictError: another operation on this machine goes on.
        InputError: the machine cannot do that, and why.
    """

    async def machine(self, where: Where) -> ArcMachine | None:
        """Return a machine; names are compared without regard to case."""

    async def set_hotpatch(self, where: Where, *, enable: bool) -> Operation:
        """Begin to switch the feature on or off."""

    async def assess(self, where: Where) -> Operation:
        """Begin an assessment."""

    async def install(self, where: Where, wanted: Wanted) -> Operation:
        """Begin an installation."""

    async def operation(self, subscription: str, name: str) -> Operation | None:
        """Return a long call."""


class _Problem(Exception):
    """An error as the API shapes it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


_Endpoint = Callable[[Request], Awaitable[Response]]


def arm_routes(backend: Backend, retry_after_seconds: int = RETRY_AFTER_SECONDS, base_url: str = "") -> list[Route]:
    """Return the routes over a backend.

    Args:
        backend: what is behind them.
        retry_after_seconds: clients are told to look again after so long.
        base_url: how clients reach the server, where it is not what their request says; "": it is.
    """
    machine = "/subscriptions/{subscription}/resourceGroups/{group}/providers/" + PROVIDER + "/machines/{name}"
    operation = "/subscriptions/{subscription}/providers/" + PROVIDER + "/locations/{location}"
    asked = _Asked(backend, retry_after_seconds, base_url)
    return [
        Route(machine, _answered(asked.machine), methods=["GET"]),
        Route(f"{machine}/licenseProfiles/default", _answered(asked.profile), methods=["GET"]),
        Route(f"{machine}/licenseProfiles/default", _answered(asked.change), methods=["PUT", "PATCH"]),
        Route(f"{machine}/assessPatches", _answered(asked.assess), methods=["POST"]),
        Route(f"{machine}/installPatches", _answered(asked.install), methods=["POST"]),
        Route(operation + "/operationStatus/{id}", _answered(asked.status), methods=["GET"]),
        Route(operation + "/operationResults/{id}", _answered(asked.result), methods=["GET"]),
    ]


class _Asked:
    """One method for each route."""

    def __init__(self, backend: Backend, retry_after_seconds: int, base_url: str) -> None:
        self._backend, self._base_url = backend, base_url
        self._wait = str(retry_after_seconds)

    async def machine(self, request: Request) -> Response:
        return JSONResponse(machine_json(await self._found(request)))

    async def profile(self, request: Request) -> Response:
        shown = profile_json(await self._found(request))
        if shown is None:
            raise _Problem(404, "ResourceNotFound", "The machine has no licence profile.")
        return JSONResponse(shown)

    async def change(self, request: Request) -> Response:
        machine = await self._found(request)
        patched = request.method == "PATCH"
        if patched and machine.licence.product is None:
            raise _Problem(404, "ResourceNotFound", "The machine has no licence profile.")
        enable = hotpatch_wanted(await _body(request), patched=patched)
        begun = await self._backend.set_hotpatch(machine.where, enable=enable)
        if patched:
            return self._begun(request, machine, begun)
        shown = profile_json(await self._found(request))
        return self._begun(request, machine, begun, 201, shown)

    async def assess(self, request: Request) -> Response:
        machine = await self._found(request)
        return self._begun(request, machine, await self._backend.assess(machine.where))

    async def install(self, request: Request) -> Response:
        machine = await self._found(request)
        wanted = wanted_of(await _body(request))
        return self._begun(request, machine, await self._backend.install(machine.where, wanted))

    async def status(self, request: Request) -> Response:
        found = await self._operation(request)
        body: dict[str, Any] = {
            "id": request.url.path,
            "name": found.id,
            "status": found.status,
            "startTime": moment(found.started_at),
            "endTime": moment(found.ended_at),
        }
        if found.error is not None:
            body["error"] = {"code": found.error[0], "message": found.error[1]}
        waiting = {"Retry-After": self._wait} if found.status == "InProgress" else {}
        return JSONResponse(body, headers=waiting)

    async def result(self, request: Request) -> Response:
        found = await self._operation(request)
        if found.status == "InProgress":
            here = (
                f"{self._base_url.rstrip('/')}{request.url.path}?{request.url.query}" if self._base_url else request.url
            )
            where = {"Location": str(here), "Retry-After": self._wait}
            return Response(status_code=202, headers=where)
        if found.error is not None:
            raise _Problem(500, *found.error)
        return JSONResponse(found.result or {})

    def _begun(
        self,
        request: Request,
        machine: ArcMachine,
        begun: Operation,
        status: int = 202,
        body: dict[str, Any] | None = None,
    ) -> Response:
        """Return the answer to a call that goes on: where its state is, and where its result will be."""
        base = (self._base_url or str(request.base_url)).rstrip("/")
        place = f"{base}/subscriptions/{machine.where.subscription}/providers/{PROVIDER}/locations/{machine.location}"
        version = f"?api-version={request.query_params['api-version']}"
        headers = {
            "Azure-AsyncOperation": f"{place}/operationStatus/{begun.id}{version}",
            "Location": f"{place}/operationResults/{begun.id}{version}",
            "Retry-After": self._wait,
        }
        if body is not None:
            return JSONResponse(body, status, headers)
        return Response(status_code=status, headers=headers)

    async def _found(self, request: Request) -> ArcMachine:
        _check_version(request)
        path = request.path_params
        found = await self._backend.machine(Where(path["subscription"], path["group"], path["name"]))
        if found is None:
            raise _Problem(404, "ResourceNotFound", f"There is no machine {path['name']}.")
        return found

    async def _operation(self, request: Request) -> Operation:
        _check_version(request)
        path = request.path_params
        found = await self._backend.operation(path["subscription"], path["id"])
        if found is None:
            raise _Problem(404, "ResourceNotFound", "There is no such operation.")
        return found


def _check_version(request: Request) -> None:
    if not request.query_params.get("api-version"):
        raise _Problem(400, "MissingApiVersionParameter", "The api-version query parameter is required.")


async def _body(request: Request) -> dict[str, Any]:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > BODY_BYTES_MAX:
            raise _Problem(413, "RequestEntityTooLarge", f"At most {BODY_BYTES_MAX} bytes.")
    try:
        return msgspec.json.decode(bytes(data), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InputError(str(error)) from error


def _answered(ask: _Endpoint) -> _Endpoint:
    """Return an endpoint whose errors are answers of the API's own shape."""

    async def endpoint(request: Request) -> Response:
        try:
            return await ask(request)
        except _Problem as problem:
            status, code, message = problem.status, problem.code, str(problem)
        except ConflictError as error:
            status, code, message = 409, "Conflict", str(error)
        except InputError as error:
            status, code, message = 400, "InvalidRequestContent", str(error)
        return JSONResponse({"error": {"code": code, "message": message}}, status)

    return endpoint
