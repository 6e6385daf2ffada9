"""What `hotmend arc ... --json` prints. The fields are documented in docs/commands.md; a test compares both."""

from __future__ import annotations

from datetime import datetime

import msgspec

from hotmend.cli.shapes import ReasonShape


class ArcStatusShape(msgspec.Struct, frozen=True):
    """`hotmend arc status`, `enable` and `disable`."""

    machine_id: str
    agent_status: str
    agent_version: str
    os_type: str
    enablement: str
    subscription: str | None
    enrolled_at: datetime | None
    disenrolled_at: datetime | None
    billing_from: datetime | None
    billing_until: datetime | None
    patch_mode: str
    assessment_mode: str
    problem: str
    changed: bool
    reasons: tuple[ReasonShape, ...]


class ArcAssessShape(msgspec.Struct, frozen=True):
    """`hotmend arc assess`."""

    activity: str
    status: str
    started_at: datetime | None
    modified_at: datetime | None
    reboot_pending: bool | None
    counts: dict[str, int]
    problem: str


class ArcInstallShape(msgspec.Struct, frozen=True):
    """`hotmend arc install`."""

    activity: str
    status: str
    reboot_status: str
    window_exceeded: bool
    counts: dict[str, int]
    problem: str
    reasons: tuple[ReasonShape, ...]
