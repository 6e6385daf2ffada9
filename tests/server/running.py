"""A real server on loopback, in a thread of the test, and calls to it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import urllib3
import uvicorn
from fastapi import FastAPI

from hotmend.server.app import make_app
from hotmend.server.database import Database, open_database
from hotmend.server.identity.access import Principal
from hotmend.server.identity.service import add_token, begin_setup
from hotmend.server.settings import Settings
from hotmend.wire.api import TokenWanted

PASSWORD = "correct horse battery"


@dataclass
class Wrist:
    """A clock that a test can move, and hold: where it goes on, a slow machine makes every moment a later one."""

    ahead: timedelta = timedelta()
    held: datetime | None = None

    def __call__(self) -> datetime:
        return (self.held or datetime.now(UTC)) + self.ahead

    def hold(self) -> None:
        """Stand still from now on, but for what a test moves."""
        self.held = datetime.now(UTC)

    def go_to(self, moment: datetime) -> None:
        """Show this moment now."""
        self.ahead += moment - self()


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass
class Running:
    """A server and who calls it."""

    url: str
    app: FastAPI
    database: Database
    clock: Wrist
    tokens: dict[str, str] = field(default_factory=dict)
    pool: urllib3.PoolManager = field(default_factory=urllib3.PoolManager)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        role: str | None = "admin",
        headers: Mapping[str, str] = {},
    ) -> Reply:
        """Ask as a role; None: as nobody."""
        sent = dict(headers)
        if role is not None:
            sent["Authorization"] = f"Bearer {self.tokens[role]}"
        data = body if isinstance(body, bytes) else None if body is None else msgspec.json.encode(body)
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        answer = self.pool.request(method, self.url + path, body=data, headers=sent, redirect=False, retries=False)
        return Reply(answer.status, answer.headers, answer.data)

    def get(self, path: str, *, role: str | None = "admin") -> Any:
        reply = self.call("GET", path, role=role)
        assert reply.status == 200, reply.body
        return reply.json()

    def post(self, path: str, body: object = None, *, role: str | None = "admin", status: int = 201) -> Any:
        reply = self.call("POST", path, {} if body is None else body, role=role)
        assert reply.status == status, reply.body
        return reply.json() if reply.body else None

    def set_up(self) -> None:
        """Make the first administrator, and a user with a token for each role."""
        token = begin_setup(self.database, self.clock())
        made = self.post("/api/v1/setup", {"token": token, "name": "root", "password": PASSWORD}, role=None)
        self.tokens["admin"] = made["secret"]
        self.add_users()

    def add_users(self) -> None:
        """Make a user with a token for each role but the administrator's."""
        for role in ("viewer", "operator", "approver"):
            made = self.post("/api/v1/users", {"name": role, "role": role})
            caller = Principal(made["id"], role, role)
            self.tokens[role] = add_token(self.app.state.context, caller, TokenWanted(role, role)).secret


@contextmanager
def running(database_url: str, **settings: Any) -> Iterator[Running]:
    """Start a server on a port that is free; it ends with the block."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    clock = Wrist()
    database = open_database(database_url)
    try:
        told = Settings(database_url, port=port, **settings)
        app = make_app(told, database, clock)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, **told.proxy_options))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the server has ended"
                time.sleep(0.01)
            found = Running(f"http://127.0.0.1:{port}", app, database, clock)
            yield found
            found.pool.clear()
        finally:
            server.should_exit = True
            thread.join(300)
            listener.close()
            assert not thread.is_alive()
    finally:
        database.close()
