"""Maintenance of a fleet, over the API."""

from __future__ import annotations

from hotmend.fleet.client import Client, segment
from hotmend.wire.maintenance import (
    Assignment,
    AssignmentWanted,
    Configuration,
    ConfigurationWanted,
    FreezeWanted,
    MachineMaintenance,
    NamedFreeze,
    SlotTaken,
    WindowAnswer,
    WindowEvent,
)


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

    def configurations(self) -> list[Configuration]:
        """Return all configurations."""
        return self._client.get("/maintenance/configurations", list[Configuration])

    def configuration(self, name: str) -> Configuration:
        """Return a configuration."""
        return self._client.get(f"/maintenance/configurations/{segment(name)}", Configuration)

    def put(self, name: str, wanted: ConfigurationWanted, version: int | None = None) -> Configuration:
        """Make or change a configuration; with `version`, where nobody has changed it since."""
        match = {"If-Match": f'"{version}"'} if version is not None else {}
        return self._client.put(f"/maintenance/configurations/{segment(name)}", wanted, Configuration, match)

    def remove(self, name: str) -> None:
        """Remove a configuration that is assigned to nobody."""
        self._client.delete(f"/maintenance/configurations/{segment(name)}")

    def assignments(self) -> list[Assignment]:
        """Return assignments, the one that counts first."""
        return self._client.get("/maintenance/assignments", list[Assignment])

    def assign(self, wanted: AssignmentWanted) -> Assignment:
        """Give machines a configuration."""
        return self._client.create("/maintenance/assignments", wanted, Assignment)

    def unassign(self, identity: str) -> None:
        """Take an assignment back."""
        self._client.delete(f"/maintenance/assignments/{segment(identity)}")

    def freezes(self) -> list[NamedFreeze]:
        """Return the freezes for everybody."""
        return self._client.get("/maintenance/freezes", list[NamedFreeze])

    def freeze(self, name: str, wanted: FreezeWanted) -> None:
        """Freeze days for everybody."""
        self._client.put(f"/maintenance/freezes/{segment(name)}", wanted, type(None))

    def thaw(self, name: str) -> None:
        """End a freeze for everybody."""
        self._client.delete(f"/maintenance/freezes/{segment(name)}")

    def windows(self) -> list[WindowEvent]:
        """Return windows that were asked about, the latest first, with what came of those that are over."""
        return self._client.get("/maintenance/windows", list[WindowEvent])

    def answer(self, window: str, allow: bool, reason: str = "") -> WindowEvent:
        """Say whether machines may begin in a window that was asked about."""
        path = f"/maintenance/windows/{segment(window)}/answer"
        return self._client.post(path, WindowAnswer(allow, reason), WindowEvent)

    def of_machine(self, identity: str) -> MachineMaintenance:
        """Return what holds for a machine, with its next windows."""
        return self._client.get(f"/maintenance/machines/{segment(identity)}", MachineMaintenance)
