"""What a server process has at hand in every request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from starlette.requests import HTTPConnection

from hotmend.server.database import Database
from hotmend.server.limits import Known, Limiter
from hotmend.server.settings import Settings
from hotmend.wire.keys import PublicKey, SigningKey

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
        callers, enrolments, machines: how often one may ask.
        refusals: how often one address is refused before it is not looked at any more.
        guests: callers by the hash of what they showed, where it was good lately.
        keys: of machines whose check-in was good lately.
    """

    settings: Settings
    database: Database
    key: SigningKey
    clock: Clock
    callers: Limiter
    enrolments: Limiter
    machines: Limiter
    refusals: Limiter
    guests: Known[str]
    keys: Known[PublicKey]


def context_of(request: HTTPConnection) -> Context:
    """Return the context of a request's app."""
    return cast("Context", request.app.state.context)
