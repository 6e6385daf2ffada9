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
class WindowEvent:
    """A window that is asked about: of which configuration, when it is, and what was said.

    Attributes:
        state: `asked`, `allowed` or `denied`.
    """

    id: str
    configuration: str
    starts_at: datetime
    ends_at: datetime
    asked_at: datetime
    state: Literal["asked", "allowed", "denied"]
    by: str = ""
    reason: str = ""


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
class Configuration:
    """A maintenance configuration, and how many machines have it now."""

    name: str
    wanted: ConfigurationWanted
    version: int
    changed_by: str
    changed_at: datetime
    machines: int


@dataclass(frozen=True, slots=True)
class NamedFreeze:
    """A freeze for everybody."""

    name: str
    first: date
    last: date
    yearly: bool


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
