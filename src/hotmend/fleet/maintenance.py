"""Maintenance of a fleet, over the API."""

from __future__ import annotations

from collections.abc import Iterator

from hotmend.fleet.client import Client, segment
from hotmend.wire.maintenance import (
    Assignment,
    AssignmentPage,
    AssignmentWanted,
    Configuration,
    ConfigurationPage,
    ConfigurationWanted,
    FreezePage,
    FreezeWanted,
    MachineMaintenance,
    NamedFreeze,
    SlotPage,
    SlotTaken,
    WindowAnswer,
    WindowEvent,
    WindowEventPage,
)


class Maintenance:
    """When machines may do what, and which of them restart now. Every method raises as `Client.get`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def slots(self) -> Iterator[SlotTaken]:
        """Yield the restart slots that are taken."""
        return self._client.each("/maintenance/slots", SlotPage, limit=500)

    def free_slot(self, machine: str) -> None:
        """Free the slot of a machine that will not give it back."""
        self._client.delete(f"/maintenance/slots/{segment(machine)}")

    def configurations(self) -> Iterator[Configuration]:
        """Yield all configurations by name."""
        return self._client.each("/maintenance/configurations", ConfigurationPage, limit=500)

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

    def assignments(self) -> Iterator[Assignment]:
        """Yield assignments, the one that counts first."""
        return self._client.each("/maintenance/assignments", AssignmentPage, limit=500)

    def assign(self, wanted: AssignmentWanted) -> Assignment:
        """Give machines a configuration."""
        return self._client.create("/maintenance/assignments", wanted, Assignment)

    def unassign(self, identity: str) -> None:
        """Take an assignment back."""
        self._client.delete(f"/maintenance/assignments/{segment(identity)}")

    def freezes(self) -> Iterator[NamedFreeze]:
        """Yield the freezes for everybody by name."""
        return self._client.each("/maintenance/freezes", FreezePage, limit=500)

    def freeze(self, name: str, wanted: FreezeWanted) -> None:
        """Freeze days for everybody."""
        self._client.put(f"/maintenance/freezes/{segment(name)}", wanted, type(None))

    def thaw(self, name: str) -> None:
        """End a freeze for everybody."""
        self._client.delete(f"/maintenance/freezes/{segment(name)}")

    def windows(self) -> Iterator[WindowEvent]:
        """Yield windows that were asked about, the latest first, with what came of those that are over."""
        return self._client.each("/maintenance/windows", WindowEventPage, limit=500)

    def answer(self, window: str, allow: bool, reason: str = "") -> WindowEvent:
        """Say whether machines may begin in a window that was asked about."""
        path = f"/maintenance/windows/{segment(window)}/answer"
        return self._client.post(path, WindowAnswer(allow, reason), WindowEvent)

    def of_machine(self, identity: str) -> MachineMaintenance:
        """Return what holds for a machine, with its next windows."""
        return self._client.get(f"/maintenance/machines/{segment(identity)}", MachineMaintenance)
