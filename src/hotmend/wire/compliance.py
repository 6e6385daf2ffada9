"""What the API gives about compliance: where fixes are now, day by day, and how long machines were exposed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

GroupBy = Literal["product", "package", "tag", "machine"]
VexForm = Literal["openvex", "cyclonedx"]


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """One vulnerability; the counts are of images of processes.

    Attributes:
        cve: which.
        in_memory, everywhere, on_disk, nowhere: how many, by where the fix is.
        since: the first machine that has it reported so then.
    """

    cve: str
    in_memory: int
    everywhere: int
    on_disk: int
    nowhere: int
    since: datetime

    @property
    def open(self) -> int:
        """How many run the old code."""
        return self.on_disk + self.nowhere


@dataclass(frozen=True, slots=True)
class Group:
    """Machines or packages that belong together.

    Attributes:
        name: of it; `link`: id of the machine, or query of the list of machines; "": none.
        machines: that report something of it; `exposed`: of these, with old code in a process.
        cves: vulnerabilities that are open in it.
        in_memory, everywhere, on_disk, nowhere: images of processes by where the fix is.
    """

    name: str
    link: str
    machines: int
    exposed: int
    cves: int
    in_memory: int
    everywhere: int
    on_disk: int
    nowhere: int


@dataclass(frozen=True, slots=True)
class Day:
    """What one day found; `open`: vulnerabilities with old code somewhere; `old`: images of processes that had it."""

    day: date
    at: datetime
    machines: int
    silent: int
    exposed: int
    open: int
    old: int
    fixed: int


@dataclass(frozen=True, slots=True)
class Time:
    """How long the fleet was exposed to something.

    Attributes:
        subject: a vulnerability, or an update that names none.
        published: when the first release was made that brings the fix; None: no channel says.
        machines: that had it; `open`: that have it still.
        first_seen: the first report that spoke of it.
        first_closed, last_closed: when the first and the last machine were rid of it; None: none was.
    """

    subject: str
    published: datetime | None
    machines: int
    open: int
    first_seen: datetime
    first_closed: datetime | None
    last_closed: datetime | None

    @property
    def days(self) -> float | None:
        """From publication to the last machine, in days; None while one is open, or nobody knows."""
        if self.open or self.published is None or self.last_closed is None:
            return None
        return max((self.last_closed - self.published).total_seconds() / 86400, 0.0)
