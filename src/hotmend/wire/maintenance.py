"""What the API takes and gives about maintenance. Windows are wall-clock times in the zone of each machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class WindowWanted:
    """A recurring window: RRULE of RFC 5545, daily at most; first day and wall-clock time without a zone; how long."""

    name: str
    rule: str
    start: datetime
    minutes: int
    days_after: int = 0


@dataclass(frozen=True, slots=True)
class FreezeWanted:
    """Days on which nothing is installed, both included; every year again where it says so."""

    first: date
    last: date
    yearly: bool = False


@dataclass(frozen=True, slots=True)
class ConfigurationWanted:
    """What machines may do by themselves, and when.

    Attributes:
        mode: of the agent.
        windows: none: the off-peak hours, 22 to 6 o'clock.
        freezes: by name, beside those for everybody.
        zone: of the windows; "": that of each machine.
        classifications: installed by themselves; none given: critical and security updates.
        include, exclude: ids or masks of names; exclude wins.
        restart: services may be restarted.
        reboot: whether an update may reboot the machine.
        slots: so many machines with this configuration restart or reboot at a time; 0: any number.
        slot_minutes: a slot that is not given back is free again after so long.
        event_minutes: so long before a window opens it is asked for a word, and stays closed without one; 0: it is not.
    """

    mode: Literal["observe", "notify", "download", "automatic"] = "notify"
    windows: list[WindowWanted] = field(default_factory=list)
    freezes: dict[str, FreezeWanted] = field(default_factory=dict)
    zone: str = ""
    classifications: list[str] = field(default_factory=list)
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    restart: bool = False
    reboot: Literal["if-required", "never", "always"] = "never"
    slots: int = 0
    slot_minutes: int = 30
    event_minutes: int = 0


@dataclass(frozen=True, slots=True)
class WindowFailure:
    """An action that has ended badly, or was refused: on which machine, which, and why."""

    machine: str
    name: str
    action: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class WindowOutcome:
    """What came of a window.

    Attributes:
        machines: that had the configuration when it was counted, in zones where the window was.
        changed: of these, whose update level has changed since the window began: by themselves, or by an action.
        states: actions that went on in the window, by the state that they came to; not those that wait for no window.
        succeeded, failed: of them; an action that was blocked counts as failed.
        unended: of them, of which nobody heard the end in time.
        failures: the first of those that failed.
    """

    machines: int
    changed: int
    states: dict[str, int]
    succeeded: int
    failed: int
    unended: int
    failures: list[WindowFailure]


@dataclass(frozen=True, slots=True)
class WindowEvent:
    """A window that is asked about: of which configuration, when it is, and what was said.

    Attributes:
        state: `asked`, `allowed` or `denied`.
        closed_at: when it was over, and what had begun in it as well; `outcome` is there from then on.
    """

    id: str
    configuration: str
    starts_at: datetime
    ends_at: datetime
    asked_at: datetime
    state: Literal["asked", "allowed", "denied"]
    by: str = ""
    reason: str = ""
    closed_at: datetime | None = None
    outcome: WindowOutcome | None = None


@dataclass(frozen=True, slots=True)
class WindowEventPage:
    """Windows that were asked about, the latest first; `next` is the cursor of the page after, "" at the end."""

    items: list[WindowEvent]
    next: str


@dataclass(frozen=True, slots=True)
class WindowAnswer:
    """The word: whether machines may begin in this window."""

    allow: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SlotTaken:
    """A restart slot: of which configuration, whose, since when, and until when at the latest."""

    configuration: str
    machine: str
    name: str
    taken_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SlotPage:
    """Restart slots that are taken, by configuration; `next` is the cursor of the page after, "" at the end."""

    items: list[SlotTaken]
    next: str


@dataclass(frozen=True, slots=True)
class Configuration:
    """A maintenance configuration, and how many machines have it now."""

    name: str
    wanted: ConfigurationWanted
    version: int
    changed_by: str
    changed_at: datetime
    machines: int


@dataclass(frozen=True, slots=True)
class ConfigurationPage:
    """Configurations by name; `next` is the cursor of the page after, "" at the end."""

    items: list[Configuration]
    next: str


@dataclass(frozen=True, slots=True)
class NamedFreeze:
    """A freeze for everybody."""

    name: str
    first: date
    last: date
    yearly: bool


@dataclass(frozen=True, slots=True)
class FreezePage:
    """Freezes for everybody by name; `next` is the cursor of the page after, "" at the end."""

    items: list[NamedFreeze]
    next: str


@dataclass(frozen=True, slots=True)
class AssignmentWanted:
    """Whom a configuration is for: a machine, a scope, or a tag (value "": any); the highest priority counts."""

    configuration: str
    priority: int
    machine: str | None = None
    scope: str | None = None
    tag: str = ""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Assignment:
    """An assignment."""

    id: str
    configuration: str
    priority: int
    machine: str | None
    scope: str | None
    tag: str
    value: str


@dataclass(frozen=True, slots=True)
class AssignmentPage:
    """Assignments, the one that counts first; `next` is the cursor of the page after, "" at the end."""

    items: list[Assignment]
    next: str


@dataclass(frozen=True, slots=True)
class WindowShown:
    """A window of one machine, in UTC; `end` is not in it."""

    name: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class MachineMaintenance:
    """What holds for a machine: its configuration, zone ("": not known, so no window opens) and next windows."""

    configuration: str
    zone: str
    open: bool
    windows: list[WindowShown]
