"""What the API takes and gives about rollouts, for the server and for its typed client. Moments are RFC 3339."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

LaneName = Literal["normal", "zero-day"]


@dataclass(frozen=True, slots=True)
class RingWanted:
    """A ring: machines with a tag (NAME or NAME=VALUE), of a domain or tier, or a percentage; none: the rest."""

    name: str
    tag: str = ""
    domain: str = ""
    percent: int = 0
    tier: Literal["", "canary", "stable"] = ""


@dataclass(frozen=True, slots=True)
class SelectionWanted:
    """Machines by id, by tags (value "": any), of a scope: all given must hold; without ids, later ones join."""

    machines: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    scope: str = ""


@dataclass(frozen=True, slots=True)
class ThresholdsWanted:
    """What each ring must show before the next one begins.

    Attributes:
        success_percent: of the machines that were there, at least so many are well.
        errors_max: more failures stop the rollout at once.
        soak_minutes: how long it must have stayed so.
        silence_minutes: a machine that was changed and is silent for longer counts as failed.
    """

    success_percent: int = 95
    errors_max: int = 0
    soak_minutes: int = 30
    silence_minutes: int = 30


@dataclass(frozen=True, slots=True)
class RolloutWanted:
    """A rollout to be.

    Attributes:
        name: for people.
        updates: as PACKAGE=VERSION or a release's id; none: all that a machine is offered.
        rings: in their order, the canary first; the last takes the rest.
        lane: a zero-day waits for no window, and takes two people.
        selection: which machines.
        kind: of its actions.
        disk: packages are installed as well.
        budget: machines of a ring that are changed at a time.
        share_percent: of a set (tag `set`) at a time.
        thresholds: of each ring.
        minutes: what an action needs of a window.
        answer_minutes: what was begun and says nothing for so long has timed out.
        pre_event_minutes, post_event_minutes: before a ring begins and after it has passed, somebody outside must allow
            it within so many minutes, or the rollout pauses; 0: nobody is asked.
        reason: for people.
        seed: that of the preview, which draws the same machines in the same order; "": others are drawn.
        plan: digest that the preview had: another one by now is not made; "": whatever comes of it is.
    """

    name: str
    updates: list[str]
    rings: list[RingWanted]
    lane: LaneName = "normal"
    selection: SelectionWanted = field(default_factory=SelectionWanted)
    kind: Literal["install", "assess"] = "install"
    disk: bool = True
    budget: int = 10
    share_percent: int = 20
    thresholds: ThresholdsWanted = field(default_factory=ThresholdsWanted)
    minutes: int = 15
    answer_minutes: int = 120
    pre_event_minutes: int = 0
    post_event_minutes: int = 0
    reason: str = ""
    seed: str = ""
    plan: str = ""


@dataclass(frozen=True, slots=True)
class RingPreview:
    """What would become of one ring: machines, how many are off, waves at least, why some wait, who is first."""

    name: str
    machines: int
    off: int
    waves: int
    held_now: dict[str, int]
    first: list[str]


@dataclass(frozen=True, slots=True)
class RolloutPreview:
    """What a rollout would do.

    Attributes:
        causes: why it would not be made.
        machines: how many in all.
        rings: in their order.
        soak_hours: shortest time of all soaks together.
        approvals: how many people have to approve it.
        seed: with it, `RolloutWanted.seed`, the creation draws the same machines.
        plan: digest of what would be approved.
    """

    causes: list[dict[str, Any]]
    machines: int
    rings: list[RingPreview]
    soak_hours: float
    approvals: int
    seed: str = ""
    plan: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """One ring: state, why, and how many machines are in which state of their action ("" for not begun)."""

    number: int
    name: str
    state: str
    why: dict[str, Any]
    began_at: datetime | None
    quiet_since: datetime | None
    ended_at: datetime | None
    actions: dict[str, int]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A rollout.

    Attributes:
        plan: digest of what is approved.
        brake: since when nothing begins because of a failure; None: the brake is off.
        why: code, text and values of what moved it last.
        approvals: names of who has approved this plan.
        groups: its rings; empty in a list of rollouts.
        reverts: how many reverts are in which state.
        start_at: when it begins by itself; None: when somebody says so.
    """

    id: str
    name: str
    lane: LaneName
    state: str
    plan: str
    brake: datetime | None
    why: dict[str, Any]
    spec: dict[str, Any]
    created_by: str
    created_at: datetime
    changed_at: datetime
    version: int
    approvals: list[str] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    reverts: dict[str, int] = field(default_factory=dict)
    start_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RolloutPage:
    """Rollouts, newest first; `next` is the cursor of the page after, "" at the end."""

    items: list[Rollout]
    next: str


@dataclass(frozen=True, slots=True)
class RolloutMember:
    """A machine of a rollout: its group, whether it came late, why it waits, and its action with the state of that."""

    machine: str
    name: str
    group: int
    late: bool
    held: str
    action: str | None
    state: str | None
    detail: str
    begun_at: datetime | None
    changed_at: datetime | None
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class MemberPage:
    """Machines by id; `next` is the cursor of the page after, "" at the end."""

    items: list[RolloutMember]
    next: str


@dataclass(frozen=True, slots=True)
class RolloutEvent:
    """Something that happened to a rollout."""

    number: int
    at: datetime
    who: str
    what: str
    group: int | None
    why: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventPage:
    """What happened, oldest first; `next` is the cursor of what comes after, also where nothing is there yet."""

    items: list[RolloutEvent]
    next: str


@dataclass(frozen=True, slots=True)
class Yes:
    """An approval: the digest of the plan that was looked at."""

    plan: str


@dataclass(frozen=True, slots=True)
class StartAt:
    """When an approved rollout begins by itself; None: when somebody says so."""

    at: datetime | None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is done, for the record."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class EventAnswer:
    """What somebody outside says to a pre- or post-event: go on, or not, and why."""

    allow: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RolloutState:
    """Where a rollout stands after what was asked."""

    state: str


@dataclass(frozen=True, slots=True)
class Halt:
    """Whether everything is halted, who did it, when and why."""

    halted: bool
    reason: str = ""
    by: str = ""
    at: datetime | None = None
