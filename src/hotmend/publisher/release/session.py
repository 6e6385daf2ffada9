"""What the steps of a run share, and what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hotmend.model.errors import UsageError
from hotmend.publisher.release import compose
from hotmend.publisher.release.compose import Line
from hotmend.publisher.release.mirror import Mirror
from hotmend.publisher.release.plan import Plan
from hotmend.publisher.survey.nursery import Pool
from hotmend.repository.layout import Tier
from hotmend.repository.publish import Publisher
from hotmend.repository.tiers import Content
from hotmend.repository.waiting import Pending

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps are done, and how many there are."""


@dataclass(slots=True)
class Done:
    """What a run did.

    Attributes:
        published: ids of releases that the canary tier has got.
        withdrawn: ids of releases that are kept no longer.
        pending: what waits for offline keys because of this run.
        collected: files that were deleted.
        problems: what a person should look at.
    """

    published: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    pending: Pending | None = None
    collected: int = 0
    problems: list[str] = field(default_factory=list)


class Session:
    """One run.

    Attributes:
        plan, publisher, mirror, pool: what it works with.
        progress: called while it goes on.
        done: what it did so far.
    """

    def __init__(self, plan: Plan, publisher: Publisher, mirror: Mirror, pool: Pool, progress: Progress) -> None:
        self.plan = plan
        self.publisher = publisher
        self.mirror = mirror
        self.pool = pool
        self.progress = progress
        self.done = Done()

    def content(self, tier: Tier) -> Content:
        """Return what a tier offers now."""
        _, _, contents = self.publisher.contents()
        found = [c for c in contents if (c.channel, c.tier) == (self.plan.channel, tier)]
        if not found:
            raise UsageError(f"the repository has no channel {self.plan.channel}", "hotmend channel init makes it")
        return found[0]

    def lines(self) -> tuple[Line, ...]:
        """Return the baselines that hotpatches are made for, newest first."""
        releases = self.content(Tier.CANARY).releases.values()
        return compose.lines_of(releases, self.plan.retention.baselines, frozenset(self.plan.again))
