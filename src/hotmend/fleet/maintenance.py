"""Maintenance of a fleet, over the API."""

from __future__ import annotations

from hotmend.fleet.client import Client, segment
from hotmend.wire.maintenance import SlotTaken


class Maintenance:
    """When machines may do what, and which of them restart now. Every method raises as `Client.get`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def slots(self) -> list[SlotTaken]:
        """Return the restart slots that are taken."""
        return self._client.get("/maintenance/slots", list[SlotTaken])

    def free_slot(self, machine: str) -> None:
        """Free the slot of a machine that will not give it back."""
        self._client.delete(f"/maintenance/slots/{segment(machine)}")
