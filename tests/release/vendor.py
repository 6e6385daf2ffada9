"""Who publishes: a distribution, a repository, a plan and a clock."""

from __future__ import annotations

from pathlib import Path

from hotmend.publisher.release.plan import plan_load
from hotmend.publisher.release.run import Settings, run_publish
from hotmend.publisher.release.session import Done
from hotmend.repository.layout import Tier
from hotmend.repository.releases import AnyRelease
from tests.release.archive import Archive
from tests.repository.kit import CHANNEL, World

PACKAGES = ("alpha", "beta", "gamma")


class Vendor:
    """Who publishes: a distribution, a repository, a plan, a clock."""

    def __init__(self, archive: Archive, world: World, folder: Path) -> None:
        self.archive = archive
        self.world = world
        self.folder = folder
        self.plan()

    def plan(self, more: str = "") -> None:
        """Write the plan; where it names no cycle, half a year is to go to the next baseline, on whatever day it is."""
        if "[cycle]" not in more:
            more += f"\n[cycle]\nmonths = [{(self.world.now.month + 5) % 12 + 1}]\nday = 1"
        self.file = self.archive.plan(self.folder, CHANNEL, PACKAGES, more)

    def run(self) -> Done:
        self.archive.publish()
        plan = plan_load(self.file)
        return run_publish(plan, self.world.publisher(), Settings(workers=1), lambda: self.world.now, lambda *_: None)

    def releases(self, tier: Tier = Tier.CANARY) -> dict[str, AnyRelease]:
        _, _, contents = self.world.publisher().contents()
        return dict(next(c for c in contents if c.tier is tier).releases)
