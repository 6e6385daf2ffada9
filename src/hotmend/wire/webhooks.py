"""What the API takes and gives about webhooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Subject = Literal["rollouts", "windows"]


@dataclass(frozen=True, slots=True)
class WebhookWanted:
    """A URL that is told what happens, and of what: rollouts, windows that take a word."""

    url: str
    about: list[Subject] = field(default_factory=lambda: ["rollouts", "windows"])


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook.

    Attributes:
        waiting: events that it has not taken yet.
        failures: in a row.
        last: what came of trying last; "" for never tried.
        about: of what it is told.
        secret: with which requests are signed; there once, when it is made.
    """

    id: str
    url: str
    created_by: str
    created_at: datetime
    waiting: int
    failures: int
    last: str
    about: list[Subject]
    secret: str = ""


@dataclass(frozen=True, slots=True)
class WebhookPage:
    """Webhooks, oldest first; `next` is the cursor of the page after, "" at the end."""

    items: list[Webhook]
    next: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A request to a webhook: when, of how many events, whether it was taken, and what came of it."""

    at: datetime
    events: int
    taken: bool
    outcome: str
