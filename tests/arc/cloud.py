"""A control plane for tests: hotmend's own routes over machines in memory, on loopback, with faults on demand."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from hotmend.arc.machine import ArcMachine, Assessed, Installed, Licence, Wanted, Where
from hotmend.arc.routes import ConflictError, Operation, arm_routes
from hotmend.arc.shapes import assessed_json, installed_json
from hotmend.model.errors import InputError

TOKEN = "a-token"
WHERE = Where("11111111-2222-3333-4444-555555555555", "servers", "srv-01")


class Machines:
    """A `Backend` in memory. A long call is done after it was looked at `looks` times."""

    def __init__(self, looks: int = 2) -> None:
        self.machines = {WHERE: ArcMachine(WHERE, "westeurope", "Connected", agent_version="1.57")}
        self.wanted: list[Wanted] = []
        self.calls: list[str] = []
        self.stuck = False
        self.fails: tuple[str, str] | None = None
        self._looks, self._operations = looks, dict[str, tuple[Operation, int, Any]]()

    async def machine(self, where: Where) -> ArcMachine | None:
        return self.machines.get(where)

    async def set_hotpatch(self, where: Where, *, enable: bool) -> Operation:
        machine = self.machines[where]
        way: Any = "Enabling" if enable else "Disabling"
        self.machines[where] = replace(machine, licence=replace(machine.licence, product="Enabled", feature=way))
        return self._begin("set", where, lambda: self._switched(where, enable))

    async def assess(self, where: Where) -> Operation:
        found = Assessed("a-1", "Succeeded", _now(), _now(), False, {"security": 2, "critical": 1, "other": 9})
        return self._begin("assess", where, lambda: assessed_json(found))

    async def install(self, where: Where, wanted: Wanted) -> Operation:
        if self.machines[where].status != "Connected":
            raise InputError("the agent is not connected")
        self.wanted.append(wanted)
        found = Installed("i-1", "Succeeded", "Required", False, {"installed": 2, "excluded": 1})
        return self._begin("install", where, lambda: installed_json(found))

    async def operation(self, subscription: str, name: str) -> Operation | None:
        if name not in self._operations or subscription != WHERE.subscription:
            return None
        found, looks, work = self._operations[name]
        if found.status == "InProgress" and looks >= self._looks:
            if self.fails:
                found = replace(found, status="Failed", ended_at=_now(), error=self.fails)
            else:
                found = replace(found, status="Succeeded", ended_at=_now(), result=work())
        self._operations[name] = (found, looks + 1, work)
        return found

    def _begin(self, what: str, where: Where, work: Any) -> Operation:
        if any(found.status == "InProgress" for found, _, _ in self._operations.values()):
            raise ConflictError("another operation on this machine goes on")
        self.calls.append(what)
        begun = Operation(str(uuid.uuid4()), "InProgress", _now())
        self._operations[begun.id] = (begun, 0, work)
        return begun

    def _switched(self, where: Where, enable: bool) -> dict[str, Any] | None:
        machine = self.machines[where]
        if not self.stuck:
            status: Any = "Enabled" if enable else "Disabled"
            licence = Licence("Enabled", status, enrolled_at=_now(), billing_from=_now())
            self.machines[where] = replace(machine, licence=licence, enablement=status)
        return None


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Faults:
    """What goes wrong with the next requests to a path that ends so: `(method, ending) -> what`, each once."""

    queue: list[tuple[str, str, Any]] = field(default_factory=list)

    def take(self, scope: Scope) -> Any:
        for number, (method, ending, what) in enumerate(self.queue):
            if scope["method"] == method and scope["path"].endswith(ending):
                del self.queue[number]
                return what
        return None


class _Guard:
    """Asks for the token, and makes faults: a status with Retry-After, or the connection cut after the work."""

    def __init__(self, inner: ASGIApp, faults: Faults) -> None:
        self._inner, self._faults = inner, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if headers.get(b"authorization") != f"Bearer {TOKEN}".encode():
            await _answer(send, 401, b'{"error":{"code":"AuthenticationFailed","message":"no token"}}', {})
            return
        fault = self._faults.take(scope)
        if isinstance(fault, tuple):
            body = f'{{"error":{{"code":"TooManyRequests","message":"status {fault[0]}"}}}}'.encode()
            await _answer(send, fault[0], body, {"retry-after": str(fault[1])})
            return
        if fault == "cut":

            async def half(message: MutableMapping[str, Any]) -> None:
                """Promise more bytes than come: the server closes the connection."""
                if message["type"] == "http.response.start":
                    await send({**message, "headers": [(b"content-length", b"1000")]})
                    await send({"type": "http.response.body", "body": b"{", "more_body": False})

            await self._inner(scope, receive, half)
            return
        await self._inner(scope, receive, send)


async def _answer(send: Send, status: int, body: bytes, headers: dict[str, str]) -> None:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    pairs += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True)
class Cloud:
    endpoint: str
    machines: Machines
    faults: Faults


@contextmanager
def cloud() -> Iterator[Cloud]:
    """Serve on loopback until the end of the block."""
    machines, faults = Machines(), Faults()
    app = Starlette(routes=arm_routes(machines, retry_after_seconds=0))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(_Guard(app, faults), log_level="critical", lifespan="off", ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Cloud(f"http://127.0.0.1:{listening.getsockname()[1]}", machines, faults)
        finally:
            server.should_exit = True
            thread.join()
