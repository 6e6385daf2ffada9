"""What a server process has at hand in every request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from starlette.requests import HTTPConnection

from hotmend.server.database import Database
from hotmend.server.limits import Limiter
from hotmend.server.settings import Settings
from hotmend.wire.keys import SigningKey

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Context:
    """One server process.

    Attributes:
        settings: what it was told.
        database: open.
        key: what answers and policies are signed with.
        clock: its time.
        callers, enrolments: how often one may ask.
    """

    settings: Settings
    database: Database
    key: SigningKey
    clock: Clock
    callers: Limiter
    enrolments: Limiter


def context_of(request: HTTPConnection) -> Context:
    """Return the context of a request's app."""
    return cast("Context", request.app.state.context)
