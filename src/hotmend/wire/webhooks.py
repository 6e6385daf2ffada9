"""What the API takes and gives about webhooks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class WebhookWanted:
    """A URL that is told what happens to rollouts."""

    url: str


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook.

    Attributes:
        waiting: events that it has not taken yet.
        failures: in a row.
        last: what came of trying last; "" for never tried.
        secret: with which requests are signed; there once, when it is made.
    """

    id: str
    url: str
    created_by: str
    created_at: datetime
    waiting: int
    failures: int
    last: str
    secret: str = ""
