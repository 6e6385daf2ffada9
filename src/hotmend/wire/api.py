"""What the server's API takes and gives, for the server and for its typed client. Moments are RFC 3339."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

RoleName = Literal["viewer", "operator", "approver", "admin"]
TierName = Literal["canary", "stable"]


@dataclass(frozen=True, slots=True)
class SetupWanted:
    """The first administrator: the token that the server printed, a name, and a password for the portal."""

    token: str
    name: str
    password: str = ""


@dataclass(frozen=True, slots=True)
class Me:
    """Who asks."""

    id: str
    name: str
    role: RoleName


@dataclass(frozen=True, slots=True)
class UserWanted:
    """A user to be."""

    name: str
    role: RoleName
    password: str = ""


@dataclass(frozen=True, slots=True)
class UserChange:
    """What is to change of a user; None stays."""

    role: RoleName | None = None
    disabled: bool | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A user."""

    id: str
    name: str
    role: RoleName
    created_at: datetime
    disabled: bool


@dataclass(frozen=True, slots=True)
class UserPage:
    """Users by name; `next` is the cursor of the page after, "" at the end."""

    items: list[User]
    next: str


@dataclass(frozen=True, slots=True)
class TokenWanted:
    """An API token to be: at most the role of who makes it; `days` 0 is without an end.

    `feeds`: it is good for feeds and nothing else, and may be in an address.
    """

    name: str
    role: RoleName = "viewer"
    days: int = 90
    feeds: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """An API token; `secret` is there once, when it is made. `feeds`: it is good for feeds alone."""

    id: str
    name: str
    user: str
    role: RoleName
    created_at: datetime
    expires_at: datetime | None
    revoked: bool
    secret: str = ""
    feeds: bool = False


@dataclass(frozen=True, slots=True)
class TokenPage:
    """Tokens, newest first; `next` is the cursor of the page after, "" at the end."""

    items: list[Token]
    next: str


@dataclass(frozen=True, slots=True)
class KeyWanted:
    """A registration key to be.

    Attributes:
        name: for people.
        tier: of machines that come with it.
        tags: of machines that come with it.
        hours: until it ends; 0: without an end.
        uses: how many machines may come; 0: any number.
        approval: each waits until somebody approves it.
    """

    name: str
    tier: TierName = "stable"
    tags: dict[str, str] = field(default_factory=dict)
    hours: int = 24
    uses: int = 0
    approval: bool = False


@dataclass(frozen=True, slots=True)
class RegistrationKey:
    """A registration key; `secret` and the scripts are there once, when it is made."""

    id: str
    name: str
    tier: TierName
    tags: dict[str, str]
    approval: bool
    uses: int
    uses_max: int | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked: bool
    secret: str = ""
    script: str = ""
    windows_script: str = ""


@dataclass(frozen=True, slots=True)
class RegistrationKeyPage:
    """Registration keys, newest first; `next` is the cursor of the page after, "" at the end."""

    items: list[RegistrationKey]
    next: str


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Something that was done."""

    number: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Rows, newest first; `next` is the cursor of the page after, "" at the end."""

    items: list[AuditRow]
    next: str


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """Whether the record is whole: rows read, the last hash, and what is wrong ("" where nothing is)."""

    whole: bool
    rows: int
    head: str
    wrong: str


MachineState = Literal["pending", "active", "suspect", "left"]
ActionKind = Literal["assess", "install", "revert", "quarantine", "lift"]


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as a list shows it.

    Attributes:
        state, why: see `MachineState`; why it is not active.
        policy, policy_held: name of its policy, and hash of the one that it has.
        version: grows with each change that people make; the first part of its ETag.
        seen_at: last check-in.
        looked_at: last look whose report is here; None: none yet, or the agent's version does not say.
        reported_at: last report that differed; what follows is from it, "" and 0 before the first.
        waiting, restarts_due, alerts: how many.
        wire: version of what its agent says; a server speaks with those one older and one newer than its own.
    """

    id: str
    name: str
    state: MachineState
    why: str
    platform: str
    tier: str
    tags: dict[str, str]
    policy: str
    policy_held: str
    version: int
    registered_at: datetime
    seen_at: datetime | None
    agent: str
    wire: int
    reported_at: datetime | None
    release: str
    level: str
    line: str
    enrollment: str
    mode: str
    zone: str
    waiting: int
    restarts_due: int
    reboot_due: bool
    restarts_avoided: int
    reboots_avoided: int
    alerts: int
    looked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MachinePage:
    """Machines by name; `next` is the cursor of the page after, "" at the end; `total` counts all that match."""

    items: list[Machine]
    next: str
    total: int


@dataclass(frozen=True, slots=True)
class MachineDetail:
    """One machine, its report (`wire.report.Report`, None before the first), and since when each finding is there."""

    machine: Machine
    report: dict[str, Any] | None
    findings: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class MachineEvent:
    """Something that happened to a machine."""

    id: int
    at: datetime
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class MachineEventPage:
    """Events, newest first; `next` as in `MachinePage`."""

    items: list[MachineEvent]
    next: str


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of a machine, all of them."""

    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class UpdateForecast:
    """What installing one update would do.

    Attributes:
        update: which.
        line: what it does to the hotpatch line, an outcome of `servicing.install`; "": nothing, or it is not known.
        reboot: whether it needs one; None: not known, which plans take for a yes.
        why: a sentence for each cause.
    """

    update: str
    line: str
    reboot: bool | None
    why: list[str]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What installing now would bring, as far as the machine has said.

    Attributes:
        token: names this forecast; an installation has to show that it was seen.
        at: of the report it rests on.
        updates: that would be installed.
        restarts, reboot: due already, before anything is installed; a sentence each.
        told: what a person should know, a sentence each.
        effects: what each update would do, in their order.
        needs_reboot: whether one of them needs a reboot; None: not known.
    """

    token: str
    at: datetime
    updates: list[str]
    restarts: list[str]
    reboot: list[str]
    told: list[str]
    effects: list[UpdateForecast] = field(default_factory=list)
    needs_reboot: bool | None = None


@dataclass(frozen=True, slots=True)
class ActionWanted:
    """An action to be.

    Attributes:
        kind: what.
        updates: as PACKAGE=VERSION or a release's id; all that are offered where there are none.
        anytime: outside a window too.
        emergency: a revert that goes before all else and ignores windows and the brake.
        disk: packages are installed as well.
        reboot: at most so much of what the machine's policy allows; "": all of it.
        minutes: not begun after so many; 0: without an end.
        reason: for people.
        forecast: token of the forecast that was seen; an installation needs it.
        undoes: a revert is of what this action of the machine brought, by the machine's record; "": of `updates`.
    """

    kind: ActionKind
    updates: list[str] = field(default_factory=list)
    anytime: bool = False
    emergency: bool = False
    disk: bool = True
    minutes: int = 0
    reason: str = ""
    forecast: str = ""
    reboot: Literal["", "never", "if-required", "always"] = ""
    undoes: str = ""


@dataclass(frozen=True, slots=True)
class ActionStep:
    """An action came to a state."""

    at: datetime
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class Action:
    """An action on one machine; `steps` is empty in lists; `undoes`: the action that a revert is of."""

    id: str
    machine: str
    kind: ActionKind
    updates: list[str]
    state: str
    detail: str
    anytime: bool
    emergency: bool
    reason: str
    rollout: str | None
    created_by: str
    created_at: datetime
    due_at: datetime
    until: datetime | None
    handed_at: datetime | None
    steps: list[ActionStep] = field(default_factory=list)
    undoes: str | None = None


@dataclass(frozen=True, slots=True)
class ActionPage:
    """Actions, newest first, without their steps; `next` is the cursor of the page after, "" at the end."""

    items: list[Action]
    next: str


@dataclass(frozen=True, slots=True)
class Query:
    """Which machines. What is None or empty asks nothing; all that is given must hold.

    Attributes:
        state, line, enrollment, platform, tier, release: exactly this.
        tags: name and value of each; a value "" stands for any.
        search: a part of the name.
        cve: is in one of its processes still.
        waiting, restarts_due, reboot_due, alerts: whether there are any.
    """

    state: MachineState | None = None
    line: str | None = None
    enrollment: str | None = None
    platform: str | None = None
    tier: TierName | None = None
    release: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    search: str = ""
    cve: str = ""
    waiting: bool | None = None
    restarts_due: bool | None = None
    reboot_due: bool | None = None
    alerts: bool | None = None


@dataclass(frozen=True, slots=True)
class ScopeWanted:
    """A dynamic scope to be: machines belong to it as long as they match."""

    name: str
    query: Query


@dataclass(frozen=True, slots=True)
class Scope:
    """A dynamic scope, and how many machines match now."""

    id: str
    name: str
    query: Query
    machines: int


@dataclass(frozen=True, slots=True)
class ScopePage:
    """Scopes by name; `next` is the cursor of the page after, "" at the end."""

    items: list[Scope]
    next: str
