"""What `hotmend agent ... --json` and `hotmend hold --json` print."""

from __future__ import annotations

import msgspec

from hotmend.wire.report import Issue


class ActionShape(msgspec.Struct, frozen=True):
    """One update of a run.

    Attributes:
        update: as the history names it.
        state: how it ended.
        detail: why.
        cves: what it fixes.
        changed, old: processes with new and with old code.
        restarts: units that run old code.
    """

    update: str
    state: str
    detail: str
    cves: tuple[str, ...]
    changed: tuple[int, ...]
    old: tuple[int, ...]
    restarts: tuple[str, ...]


class RunShape(msgspec.Struct, frozen=True):
    """A run: the worst of its actions, why, and each of them."""

    state: str
    detail: str
    actions: tuple[ActionShape, ...]


class AgentTurnShape(msgspec.Struct, frozen=True):
    """One turn of the agent.

    Attributes:
        mode: in force.
        waiting: updates that are offered and wanted.
        recovered: run that had been left and is ended now; "" for none.
        held: the hold in force; "" for none.
        run: of this turn; null where there was none.
        restarted: units that were restarted in this turn, with how each ended.
        reboot: whether and why the machine is rebooted; "" where the mode allows none.
        withdrawn: updates that were taken here and that their publisher has withdrawn, with the reason.
    """

    mode: str
    waiting: tuple[str, ...]
    recovered: str
    held: str
    run: RunShape | None
    restarted: tuple[str, ...] = ()
    reboot: str = ""
    withdrawn: tuple[str, ...] = ()


class AssessmentShape(msgspec.Struct, frozen=True):
    """What an assessment found.

    Attributes:
        at: when, UTC.
        waiting: updates that are offered and wanted.
        restarts: units and processes that a restart takes to newer code.
        reboot: why a reboot is due.
        alerts: code and sentence of what is not as it should be.
        issues: known issues of the channel's releases that concern this machine, or may.
    """

    at: str
    waiting: tuple[str, ...]
    restarts: tuple[str, ...]
    reboot: tuple[str, ...]
    alerts: tuple[tuple[str, str], ...]
    issues: tuple[Issue, ...] = ()


class FetchedShape(msgspec.Struct, frozen=True):
    """What was copied of a channel.

    Attributes:
        channel, tier: which.
        files: names of bundles.
        bytes: that were fetched for them now.
        deltas: those of `files` of which the delta was fetched now, and not the bundle.
    """

    channel: str
    tier: str
    files: tuple[str, ...]
    bytes: int
    deltas: tuple[str, ...]


class CheckInShape(msgspec.Struct, frozen=True):
    """One check-in.

    Attributes:
        machine: id of this machine at its server.
        approved: whether it takes part.
        halted: why nothing new begins; "" where it may.
        orders: ids of what is due.
        next_seconds: until the next check-in.
    """

    machine: str
    approved: bool
    halted: str
    orders: tuple[str, ...]
    next_seconds: int


class TrustedShape(msgspec.Struct, frozen=True):
    """The root that is trusted from now on: SHA-256 of its file."""

    sha256: str


class QuarantineShape(msgspec.Struct, frozen=True):
    """An update that is not taken."""

    update: str
    since: str
    reason: str


class HoldShape(msgspec.Struct, frozen=True):
    """Whether nothing may be changed; `until` is "" for no end."""

    held: bool
    until: str
    reason: str
