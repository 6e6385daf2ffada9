"""A month of the publisher's channel, followed by the agent in automatic mode: run inside a machine, a day in seconds.

The distribution grows by stock packages. `publish run` fetches its signed lists over HTTP, builds, and puts releases
before the canary tier; holders of keys sign promotions and withdrawals; the agent's part with network copies the stable
tier over HTTP, its other part applies it. Only the clocks of publisher and agent go fast. Prints one JSON object a day.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hotmend.agent.configuration import read_configuration
from hotmend.agent.fetching import copy_channel, trust_root
from hotmend.agent.machine import Machine
from hotmend.agent.paths import Places
from hotmend.agent.record.history import History
from hotmend.agent.turn import turn
from hotmend.publisher.release.plan import plan_load
from hotmend.publisher.release.run import Settings, run_publish
from hotmend.repository.layout import Tier
from hotmend.repository.releases import HotpatchRelease
from hotmend.repository.waiting import Pending
from tests.release.archive import MAIN, SECURITY, Archive, keyring
from tests.release.served import served
from tests.repository.kit import CHANNEL, World
from tests.servers.packages import deb_fetch

BEGIN = datetime(2027, 3, 1, tzinfo=UTC)
DAYS = 31
OUTSIDE = (0, 2, 7, 10, 13, 16, 22)
"""Days on which the agent takes a turn before its window as well."""
FOLDER = Path("/srv/month")
PLAN = 'manifest = "watched"\npartial = false\n[tiers]\npromote_after_days = 2\n'
AGENT = """
mode = "automatic"
health_seconds = 0
disk = false
zone = "UTC"
[channel]
address = "{address}/repository/public"
name = "{channel}"
[maintenance]
freeze = [{{name = "fair", first = 2027-03-13, last = 2027-03-16}}]
window = [{{name = "night", rule = "FREQ=DAILY", start = 2027-01-01T02:30:00, minutes = 60}}]
"""


@dataclass(frozen=True)
class Update:
    """A package and its two versions, and its source."""

    source: str
    package: str
    old: str
    new: str


class Month:
    """Both sides and their clock."""

    def __init__(self, archive: Archive, address: str, updates: tuple[Update, ...]) -> None:
        self.now = BEGIN
        self._archive = archive
        self._address = address
        self._sources = tuple(update.source for update in updates)
        self._world = World(FOLDER, BEGIN).make_keys().found()
        self._plan = self._planned()
        for update in updates:
            self.offer(MAIN, update.package, update.old)
        places = Places()
        places.configuration.write_text(AGENT.format(address=address, channel=CHANNEL))
        places.mirror.mkdir(parents=True, exist_ok=True)
        trust_root(places, self._world.first_root)

    def _planned(self, again: tuple[str, ...] = ()) -> Path:
        more = f"again = {list(again)!r}\n{PLAN}"
        return self._archive.plan(FOLDER, CHANNEL, self._sources, more, f"{self._address}/archive")

    def offer(self, suite: str, package: str, version: str) -> None:
        """Have the distribution offer a version of a package."""
        self._archive.offer(suite, package, deb_fetch(package, version))

    def at(self, now: datetime) -> None:
        """Let it be that moment."""
        self.now = self._world.now = now

    def publish(self) -> dict[str, object]:
        """Do what the publisher's timer does, and have signed what it asks for."""
        self._archive.publish((self.now - BEGIN).days + 1)
        clock = lambda: self.now  # noqa: E731
        done = run_publish(plan_load(self._plan), self._world.publisher(), Settings(), clock, lambda *_: None)
        return {"published": done.published, "signed": self._sign(done.pending), "problems": done.problems}

    def _sign(self, pending: Pending | None) -> list[str]:
        if pending is None:
            return []
        if self._world.sign(pending, "stable1", "stable2") is not None:
            raise RuntimeError("two of the stable keys are not enough")
        return [change.sentence for change in pending.changes]

    def withdraw(self, *identities: str) -> list[str]:
        """Take releases back."""
        return self._sign(self._world.publisher().withdraw(CHANNEL, identities, "wrong answers"))

    def allow_again(self, *identities: str) -> None:
        """Have the plan say that what these releases hold is good after all."""
        _, _, contents = self._world.publisher().contents()
        releases = next(c for c in contents if c.tier is Tier.CANARY).releases
        held = [release for i in identities if isinstance(release := releases[i], HotpatchRelease)]
        self._plan = self._planned(tuple(dict.fromkeys(file.name for release in held for file in release.files)))

    def agent(self) -> dict[str, object]:
        """Take a turn at this moment, with what the part with network has copied."""
        places = Places()
        configuration = read_configuration(places.configuration)
        assert configuration.channel is not None
        copy_channel(configuration.channel, places)
        done = turn(Machine(places, configuration, History(places.history), clock=lambda: self.now))
        ended = done.ended
        return {
            "at": self.now.isoformat(),
            "mode": done.mode,
            "waiting": list(done.waiting),
            "run": None if ended is None else ended.state,
            "withdrawn": [one.update for one in done.withdrawn],
            "actions": {} if ended is None else {a.update: a.state for a in ended.actions},
            "details": {} if ended is None else {a.update: a.detail for a in ended.actions if a.detail},
        }


def _play(month: Month, first: Update, second: Update, third: Update) -> None:
    """Play the month: two packages with hotpatches, and one without."""
    for day in range(DAYS):
        month.at(BEGIN + timedelta(days=day, hours=1))
        match day:
            case 2:
                month.offer(SECURITY, first.package, first.new)
            case 8:
                month.offer(SECURITY, second.package, second.new)
            case 12:
                month.allow_again("2027.03.h2")
            case 20:
                month.offer(SECURITY, third.package, third.new)
            case 25:
                month.allow_again("2027.03.h3")
        told = month.publish()
        match day:
            case 10:
                told["withdrawn"] = month.withdraw("2027.03.h2")
            case 24:
                told["withdrawn"] = month.withdraw("2027.03.h3")
        turns = [month.agent()] if day in OUTSIDE else []
        month.at(month.now + timedelta(hours=2))
        turns.append(month.agent())
        sys.stdout.write(json.dumps({"day": day, "publisher": told, "turns": turns}) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Arguments are updates as `SOURCE PACKAGE OLD NEW`, three of them."""
    first, second, third = (Update(*argument.split()) for argument in sys.argv[1:4])
    FOLDER.mkdir(parents=True)
    with keyring("sample") as (home, public), served(FOLDER) as address:
        month = Month(Archive(FOLDER / "archive", home, public), address, (first, second, third))
        _play(month, first, second, third)


main()
