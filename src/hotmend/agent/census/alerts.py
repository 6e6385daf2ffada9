"""What is not as it should be, each with a code that monitoring and the runbook know, and how bad it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Final

from hotmend.agent.record.history import AgentBegan, AnyEvent, Assessed, Crashed, Ordered, OrderEnded, RunEnded
from hotmend.agent.record.hold import Hold
from hotmend.agent.record.lost import last_lost
from hotmend.agent.uplink.standing import Standing
from hotmend.servicing.actions import State
from hotmend.wire.report import Issue

_CRASH_AGE: Final = timedelta(days=1)
_SILENT_TURNS: Final = 3
_SERVER_SILENT: Final = timedelta(days=1)
"""What an older letter asks for is not done any more."""
_REVERT_AGE: Final = timedelta(days=7)
TAKES_BACK: Final = frozenset({"revert", "undo"})
"""Kinds of orders that take fixes back."""


class AlertCode(StrEnum):
    """What it is; docs/runbook.md has a section for each."""

    DISK_OLD = "fixed-in-memory-old-on-disk"
    LOST = "fix-lost"
    RESTART_DUE = "restart-due"
    REBOOT_DUE = "reboot-due"
    UNSETTLED = "hotpatch-not-settled"
    UNSEEN = "process-not-seen"
    WAITING = "update-waiting"
    CRASHED = "crash-in-new-code"
    WITHDRAWN = "release-withdrawn-but-runs"
    ISSUE = "known-issue-overdue"
    RUN_FAILED = "last-run-failed"
    PROBE_FAILED = "probe-failed"
    QUARANTINED = "update-in-quarantine"
    HELD = "on-hold"
    SILENT = "agent-silent"
    HISTORY = "history-unreadable"
    SERVER_SILENT = "server-silent"
    POLICY_ENDS = "policy-ends"
    REVERTED = "reverted-by-server"


class Level(IntEnum):
    """How bad it is, with the exit codes of monitoring plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


LEVELS: Final = dict.fromkeys(AlertCode, Level.WARNING) | {
    AlertCode.LOST: Level.CRITICAL,
    AlertCode.UNSETTLED: Level.CRITICAL,
    AlertCode.CRASHED: Level.CRITICAL,
    AlertCode.WITHDRAWN: Level.CRITICAL,
    AlertCode.RUN_FAILED: Level.CRITICAL,
    AlertCode.PROBE_FAILED: Level.CRITICAL,
    AlertCode.UNSEEN: Level.UNKNOWN,
    AlertCode.SILENT: Level.UNKNOWN,
    AlertCode.HISTORY: Level.UNKNOWN,
    AlertCode.REVERTED: Level.CRITICAL,
}
_BY_WEIGHT: Final = (Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL)


@dataclass(frozen=True, slots=True)
class Alert:
    """One of them: what it is, a sentence, and what it rests on."""

    code: AlertCode
    sentence: str
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What the machine's records say.

    Attributes:
        events: of the history, oldest first.
        unreadable: numbers of its lines that cannot be read.
        hold: in force now; None: none.
        quarantine: updates in it.
        turn: how often the agent looks, where there is one.
        server: how it stands with its server; None: it has none.
    """

    events: tuple[AnyEvent, ...]
    unreadable: tuple[int, ...]
    hold: Hold | None
    quarantine: tuple[str, ...]
    turn: timedelta
    server: Standing | None = None

    @property
    def issues(self) -> tuple[Issue, ...]:
        """Known issues of the channel's releases that concern the machine, as the agent saw last."""
        return next((event.issues for event in reversed(self.events) if isinstance(event, Assessed)), ())


def worst(levels: Iterable[Level]) -> Level:
    """Return the worst: critical is worse than not knowing, and that is worse than a warning."""
    return max(levels, key=_BY_WEIGHT.index, default=Level.OK)


def record_alerts(record: Record, now: datetime) -> Iterator[Alert]:
    """Yield what the records say is not as it should be."""
    if lost := last_lost(record.events):
        subjects = tuple(f"{each.update} ({', '.join(each.cves)}): {', '.join(each.processes)}" for each in lost)
        yield Alert(AlertCode.LOST, "fixes that were in memory are gone: processes run the old code again", subjects)
    recent = [event for event in record.events if isinstance(event, Crashed) and now - event.at < _CRASH_AGE]
    if ours := [event for event in recent if event.ours]:
        subjects = tuple(f"{e.unit or e.comm} ({e.pid}): {', '.join(e.hotpatches)}" for e in ours)
        yield Alert(AlertCode.CRASHED, "processes crashed in new code within a day", subjects)
    ended = [event for event in record.events if isinstance(event, RunEnded)]
    if ended and ended[-1].outcome.bad:
        subjects = (f"{ended[-1].run}: {ended[-1].outcome}",)
        yield Alert(AlertCode.RUN_FAILED, ended[-1].detail or "the last run did not succeed", subjects)
    looks = [event for event in record.events if isinstance(event, Assessed)]
    if looks and looks[-1].ill:
        yield Alert(AlertCode.PROBE_FAILED, "; ".join(looks[-1].ill), looks[-1].ill)
    if late := [issue for issue in record.issues if issue.overdue]:
        may = {True: "", None: ", may concern this machine"}
        subjects = tuple(f"{i.id} (before {i.deadline}{may[i.affected or None]}): {i.title}" for i in late)
        yield Alert(AlertCode.ISSUE, "the workaround of a known issue is late", subjects)
    if record.quarantine:
        yield Alert(AlertCode.QUARANTINED, "updates are not taken here any more", record.quarantine)
    if record.hold is not None:
        yield Alert(AlertCode.HELD, str(record.hold), ())
    if any(isinstance(event, AgentBegan) for event in record.events):
        last = max(event.at for event in record.events if isinstance(event, Assessed | AgentBegan))
        if now - last > _SILENT_TURNS * record.turn:
            yield Alert(AlertCode.SILENT, f"the agent has not looked since {last.isoformat(timespec='minutes')}", ())
    yield from _server_alerts(record, now)
    if record.unreadable:
        subjects = tuple(f"line {number}" for number in record.unreadable)
        yield Alert(AlertCode.HISTORY, "lines of the history cannot be read", subjects)


def _server_alerts(record: Record, now: datetime) -> Iterator[Alert]:
    """Yield what a server does that withholds, was stolen, or is gone."""
    orders = {e.order: e for e in record.events if isinstance(e, Ordered) and e.kind in TAKES_BACK}
    recent = [e for e in record.events if isinstance(e, OrderEnded) and now - e.at < _REVERT_AGE]
    real = [(orders[e.order], e) for e in recent if e.order in orders and e.state is not State.NOT_APPLICABLE]
    if real:
        subjects = tuple(
            f"{end.at:%Y-%m-%d %H:%M} {order.kind} {' '.join(order.updates)} ({order.reason}): {end.state}"
            for order, end in real
        )
        yield Alert(AlertCode.REVERTED, "fixes were to be taken back by order of the server", subjects)
    standing = record.server
    if standing is None:
        return
    if now - standing.heard_at > _SERVER_SILENT:
        since = standing.heard_at.isoformat(timespec="minutes")
        yield Alert(AlertCode.SERVER_SILENT, f"nothing signed by the server has come since {since}", ())
    if standing.policy is not None:
        issued, expires = standing.policy
        if now >= issued + (expires - issued) / 2:
            when = expires.isoformat(timespec="minutes")
            told = "has ended" if now >= expires else "ends"
            yield Alert(AlertCode.POLICY_ENDS, f"the server's policy {told} at {when}, and was not renewed", ())
