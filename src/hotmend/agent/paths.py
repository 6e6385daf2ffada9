"""Where the agent's files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """Files and folders of one machine.

    Attributes:
        root: above all of them; another one in tests.
    """

    root: Path = Path("/")

    @property
    def configuration(self) -> Path:
        """What the administrator wants: TOML."""
        return self.root / "etc/hotmend/agent.toml"

    @property
    def hold(self) -> Path:
        """While this file is there, nothing is changed."""
        return self.root / "etc/hotmend/hold"

    @property
    def state(self) -> Path:
        """The agent's own folder."""
        return self.root / "var/lib/hotmend/agent"

    @property
    def history(self) -> Path:
        """What was done, one JSON object a line."""
        return self.state / "history.jsonl"

    @property
    def quarantine(self) -> Path:
        """Updates that are not to be taken on this machine."""
        return self.state / "quarantine.json"

    @property
    def same_code(self) -> Path:
        """Builds with the same code, one JSON object a line."""
        return self.state / "same-code.jsonl"

    @property
    def simulation(self) -> Path:
        """What apt said last, for as long as it would say it again."""
        return self.state / "simulation.json"

    @property
    def lock(self) -> Path:
        """Held by the one run that is under way."""
        return self.state / "lock"

    @property
    def unfinished(self) -> Path:
        """Files whose fix is in memory alone, for as long as a turn may change what begins from them."""
        return self.state / "unfinished"

    @property
    def channel(self) -> Path:
        """What this machine trusts and has seen of a channel."""
        return self.root / "var/lib/hotmend/channel"

    @property
    def server(self) -> Path:
        """Whose machine this is, and the key that is pinned."""
        return self.root / "etc/hotmend/server.json"

    @property
    def host(self) -> Path:
        """What this host is told from its copies by."""
        return self.root / "etc/hotmend/host.json"

    @property
    def uplink(self) -> Path:
        """Where the part with network keeps key and letters; nothing in it is believed unsigned."""
        return self.root / "var/lib/hotmend/uplink"

    @property
    def uplink_key(self) -> Path:
        """What requests to the server are signed with."""
        return self.uplink / "key"

    @property
    def carried(self) -> Path:
        """The counter, and what the server was told."""
        return self.uplink / "carried.json"

    @property
    def letter(self) -> Path:
        """The server's last answer."""
        return self.uplink / "letter.json"

    @property
    def orders(self) -> Path:
        """Changes with what the last letter asks for."""
        return self.uplink / "orders"

    @property
    def directed(self) -> Path:
        """What was taken from letters."""
        return self.state / "directed.json"

    @property
    def outbox(self) -> Path:
        """What is to be told to the server."""
        return self.root / "var/lib/hotmend/outbox/outbox.json"

    @property
    def states(self) -> Path:
        """Changes with the states that the outbox has."""
        return self.outbox.with_name("states")

    @property
    def old_builds(self) -> Path:
        """Old builds that can be read here, and bundles that are needed whole, for the part with network."""
        return self.root / "var/lib/hotmend/old-builds"

    @property
    def mirror(self) -> Path:
        """Where the part with network puts a channel's files; nothing in it is believed."""
        return self.root / "var/lib/hotmend/mirror"

    @property
    def mirror_copy(self) -> Path:
        """The copy itself, in the form of a repository."""
        return self.mirror / "copy"
