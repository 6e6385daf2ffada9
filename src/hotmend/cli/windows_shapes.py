"""What `hotmend windows ... --json` prints. The fields are documented in docs/commands.md; a test compares both."""

from __future__ import annotations

from datetime import datetime

import msgspec

from hotmend.cli.shapes import ReasonShape


class RemedyShape(msgspec.Struct, frozen=True):
    """`hotmend windows apply`, `verify` and `undo`."""

    remedy: str
    standing: str
    changed: int
    sentences: tuple[str, ...]
    reasons: tuple[ReasonShape, ...]
    action: str | None
    exports: tuple[str, ...]


class OfferedShape(msgspec.Struct, frozen=True):
    """One update of `hotmend windows assess`."""

    id: str
    kbs: tuple[str, ...]
    title: str
    classification: str | None
    msrc_severity: str
    needs_reboot: bool | None
    deed: str
    why: str
    outcome: str | None
    line_causes: tuple[str, ...]


class AssessShape(msgspec.Struct, frozen=True):
    """`hotmend windows assess`."""

    at: datetime
    line: str | None
    baseline: str | None
    reboot_pending: bool | None
    counts: dict[str, int]
    offered: tuple[OfferedShape, ...]
    warnings: tuple[str, ...]


class BecameShape(msgspec.Struct, frozen=True):
    """What became of one update."""

    id: str
    result: str
    result_code: str
    needs_reboot: bool | None


class WorkShape(msgspec.Struct, frozen=True):
    """`hotmend windows install` and `uninstall`."""

    chosen: tuple[str, ...]
    reboot_expected: bool
    result: str | None
    updates: tuple[BecameShape, ...]
    reboot_due: bool
    reboot_ordered: bool
    reasons: tuple[ReasonShape, ...]
    action: str | None


class RollbackShape(msgspec.Struct, frozen=True):
    """`hotmend windows rollback`."""

    state: str | None
    remove: str | None
    baseline: str | None
    sentences: tuple[str, ...]
    reboot_ordered: bool
    reasons: tuple[ReasonShape, ...]
    action: str | None


class EntryShape(msgspec.Struct, frozen=True):
    """One line of `hotmend windows history`."""

    at: datetime
    kbs: tuple[str, ...]
    title: str
    operation: str
    result: str
    result_code: str
    client: str
    hotpatch: bool


class ActionShape(msgspec.Struct, frozen=True):
    """One line of `hotmend windows history --actions`."""

    action: str
    subject: str
    state: str
    began_at: datetime
    events: tuple[str, ...]
    exports: tuple[str, ...]
