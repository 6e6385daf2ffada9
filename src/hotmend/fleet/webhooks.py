"""Webhooks and the audit record of a fleet, over the API."""

from __future__ import annotations

from collections.abc import Iterator

from hotmend.fleet.client import Client, segment
from hotmend.wire.api import AuditPage, AuditRow, AuditVerdict
from hotmend.wire.webhooks import Delivery, Subject, Webhook, WebhookPage, WebhookWanted


class Webhooks:
    """Who is told what happens. Every method raises as `Client.get`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def all(self) -> Iterator[Webhook]:
        """Yield all webhooks, oldest first."""
        return self._client.each("/webhooks", WebhookPage, limit=500)

    def add(self, url: str, about: list[Subject]) -> Webhook:
        """Have a URL told; the secret is in this answer alone."""
        return self._client.create("/webhooks", WebhookWanted(url, about), Webhook)

    def remove(self, identity: str) -> None:
        """Remove a webhook, and what waits for it."""
        self._client.delete(f"/webhooks/{segment(identity)}")

    def test(self, identity: str) -> Webhook:
        """Have a webhook told an event `test`."""
        return self._client.post(f"/webhooks/{segment(identity)}/test", {}, Webhook)

    def deliveries(self, identity: str) -> list[Delivery]:
        """Return the last requests to a webhook, newest first."""
        return self._client.get(f"/webhooks/{segment(identity)}/deliveries", list[Delivery])


class Audit:
    """What was done by whom. Every method raises as `Client.get`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def rows(self, subject: str = "", action: str = "", limit: int = 1000) -> Iterator[AuditRow]:
        """Yield what was done, newest first, page after page."""
        return self._client.each("/audit", AuditPage, subject=subject, action=action, limit=limit)

    def verify(self) -> AuditVerdict:
        """Have the server read its whole record, and say whether it is as it was written."""
        return self._client.get("/audit/verify", AuditVerdict)

    def accept(self) -> AuditVerdict:
        """Say that what was found wrong is over; the server reads its whole record, and refuses where it is not."""
        return self._client.post("/audit/accept", {}, AuditVerdict)
