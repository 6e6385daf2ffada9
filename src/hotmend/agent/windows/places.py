"""Where a Windows machine keeps what it shares with its server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hotmend.agent.paths import Places


@dataclass(frozen=True, slots=True)
class WindowsPlaces(Places):
    """The same files in one folder, `root`, which is for the system and administrators alone."""

    @property
    def state(self) -> Path:
        """What was taken from letters."""
        return self.root

    @property
    def server(self) -> Path:
        """See `Places`."""
        return self.root / "server.json"

    @property
    def host(self) -> Path:
        """See `Places`."""
        return self.root / "host.json"

    @property
    def uplink(self) -> Path:
        """See `Places`."""
        return self.root / "uplink"

    @property
    def outbox(self) -> Path:
        """See `Places`."""
        return self.root / "outbox" / "outbox.json"

    @property
    def mirror(self) -> Path:
        """Is never there: the update agent fetches what it installs itself."""
        return self.root / "mirror"

    @property
    def ledger(self) -> Path:
        """Orders, and what became of them."""
        return self.root / "ledger.json"

    @property
    def own(self) -> Path:
        """What this machine did by itself."""
        return self.root / "own.json"

    @property
    def reboot(self) -> Path:
        """The reboot that was ordered last with a restart slot."""
        return self.root / "reboot.json"


def windows_places(state: Path) -> WindowsPlaces:
    """Return the places below the folder of records."""
    return WindowsPlaces(state / "fleet")
