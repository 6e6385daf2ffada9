"""A month of a channel, followed by the agent in automatic mode: run inside a machine, a day in seconds.

The channel, its keys, packages, hotpatches and processes are real; only the clocks of publisher and agent go fast.
Prints one JSON object a day.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from hotmend.agent.configuration import read_configuration
from hotmend.agent.machine import Machine
from hotmend.agent.paths import Places
from hotmend.agent.record.history import History
from hotmend.agent.turn import turn
from hotmend.model.verdict import Verdict, refusal
from hotmend.package.bundle import unpack
from hotmend.repository.client import trust
from hotmend.repository.making import About, hotpatch_release, image_of
from hotmend.repository.releases import PackageStep, UnplannedBaseline
from tests.repository.kit import BASELINE, CHANNEL, World, baseline

BEGIN = datetime(2027, 3, 1, tzinfo=UTC)
DAYS = 31
OUTSIDE = (0, 2, 7, 10, 13, 16, 22)
"""Days on which the agent takes a turn before its window as well."""
CHANNEL_FOLDER = Path("/srv/channel")


@dataclass
class Month:
    """Both sides and their clock."""

    world: World
    now: datetime

    def publish(self, identity: str, *packages: str) -> None:
        """Make a hotpatch of stock packages, each given as `NAME OLD NEW`, and offer it to the stable tier."""
        bundles = tuple(_built(*package.split()) for package in packages)
        release = hotpatch_release(bundles, About(CHANNEL, BASELINE, identity), self.now)
        names = [file.name for file in release.files]
        self.world.publisher().add(release, dict(zip(names, bundles, strict=True)))
        self.world.promote(identity)

    def withdraw(self, identity: str) -> None:
        """Take a release back."""
        publisher = self.world.publisher()
        pending = publisher.withdraw(CHANNEL, (identity,), "wrong answers")
        self.world.sign(pending, "stable1", "stable2")

    def unplanned_baseline(self, step: list[str], bundle: bytes) -> None:
        """Say of an update that it cannot be hot-patched."""
        package, old, new = step
        image = image_of(unpack(bundle)[0])
        why = (refusal("structure-layout-changed", "members of a structure moved"),)
        refused = msgspec.structs.replace(image, package=package, verdict=Verdict.BASELINE_REQUIRED, reasons=why)
        release = UnplannedBaseline(
            format=1,
            id=f"{package}-baseline",
            channel=CHANNEL,
            title=f"{package} {new}",
            made=self.now,
            classification="security",
            urgency="high",
            cves=(),
            notes="",
            known_issues=(),
            withdrawn=None,
            requires=BASELINE,
            packages=(PackageStep(package, old, new),),
            images=(refused,),
        )
        self.world.publisher().add(release, {})
        self.world.promote(release.id)

    def agent(self) -> dict[str, object]:
        """Take a turn at this moment."""
        places = Places()
        machine = Machine(
            places, read_configuration(places.configuration), History(places.history), clock=lambda: self.now
        )
        done = turn(machine)
        ended = done.ended
        return {
            "at": self.now.isoformat(),
            "mode": done.mode,
            "waiting": list(done.waiting),
            "run": None if ended is None else ended.state,
            "withdrawn": [one.update for one in done.withdrawn],
            "actions": {} if ended is None else {a.update: a.state for a in ended.actions},
        }


def _built(package: str, old: str, new: str) -> bytes:
    file = Path(f"/srv/{package}.hotmend")
    if not file.exists():
        command = [sys.executable, "-m", "hotmend", "build", f"{package}={old}", f"{package}={new}", "-o", str(file)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return file.read_bytes()


def main() -> None:
    """Play the month; arguments are packages as `NAME OLD NEW`: two with hotpatches, and one without."""
    first, second, third = sys.argv[1:4]
    month = Month(World(CHANNEL_FOLDER, BEGIN).make_keys().found(), BEGIN)
    month.world.publisher().add(baseline(BEGIN), {})
    month.world.promote(BASELINE)
    trust(Places().channel, month.world.first_root)
    for day in range(DAYS):
        month.now = month.world.now = BEGIN + timedelta(days=day, hours=1)
        match day:
            case 2:
                month.publish("first", first)
            case 10:
                month.publish("second-bad", second)
                month.withdraw("second-bad")
            case 13:
                month.publish("second", second)
            case 22:
                month.unplanned_baseline(third.split(), _built(*second.split()))
            case 24:
                month.withdraw("second")
            case 27:
                month.publish("second-again", second)
        month.world.publisher().refresh()
        turns = [month.agent()] if day in OUTSIDE else []
        month.now += timedelta(hours=2)
        turns.append(month.agent())
        sys.stdout.write(json.dumps({"day": day, "turns": turns}) + "\n")
        sys.stdout.flush()


main()
