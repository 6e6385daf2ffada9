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
class TokenWanted:
    """An API token to be: at most the role of who makes it; `days` 0 is without an end."""

    name: str
    role: RoleName = "viewer"
    days: int = 90


@dataclass(frozen=True, slots=True)
class Token:
    """An API token; `secret` is there once, when it is made."""

    id: str
    name: str
    user: str
    role: RoleName
    created_at: datetime
    expires_at: datetime | None
    revoked: bool
    secret: str = ""


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
    """A registration key; `secret` and `script` are there once, when it is made."""

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
