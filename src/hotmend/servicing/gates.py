"""Whether the next ring may begin: thresholds over reports, and a soak in which they must stay good.

A signal that cannot be read counts as *no*: a machine that says nothing of its health, one that was well and has been
silent since, and one that was asked at the end of the soak to look at itself and has not. What a machine said before
its soak proves nothing of the time after. Machines that were off from the beginning say nothing either way, but a
canary of which nobody answered proves nothing and does not pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from hotmend.servicing.actions import State
from hotmend.servicing.message import Cause, cause


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a ring must show.

    Attributes:
        success_percent: of the machines that were there, at least so many are well.
        errors_max: more failures stop the rollout at once.
        soak_minutes: how long it must have stayed so.
        silence_minutes: a machine that was changed and is silent for longer has no readable signal.
    """

    success_percent: Annotated[int, Meta(ge=1, le=100)] = 95
    errors_max: Annotated[int, Meta(ge=0, le=100_000)] = 0
    soak_minutes: Annotated[int, Meta(ge=0, le=60 * 24 * 60)] = 30
    silence_minutes: Annotated[int, Meta(ge=1, le=7 * 24 * 60)] = 30


class Verdict(StrEnum):
    """What a gate says."""

    WAIT = "wait"
    SOAK = "soak"
    LOOK = "look"
    """The soak is over, and machines are to look at themselves."""
    OPEN = "open"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many machines of a ring are where.

    Attributes:
        well: done, and its signal says so.
        failed: ended badly, or its signal says no, or cannot be read.
        blocked: not done, for a reason that is no failure; no success either.
        none: not applicable, or canceled: counts for nothing.
        busy: being changed.
        waiting: it is there and its turn has not come.
        off: its turn came and it is not there.
        looking: of those that are well, so many have not looked at themselves since the soak.
    """

    well: int = 0
    failed: int = 0
    blocked: int = 0
    none: int = 0
    busy: int = 0
    waiting: int = 0
    off: int = 0
    looking: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """A gate's verdict and why."""

    verdict: Verdict
    cause: Cause


def well(
    state: State,
    healthy: bool | None,
    seen_at: datetime | None,
    now: datetime,
    thresholds: Thresholds,
    looked: bool | None = None,
) -> bool:
    """Say whether a machine whose action ended well is well now.

    Args:
        state: how the action ended.
        healthy: its last report has no alert that it had not before, probes among them; None: there is no report.
        seen_at: when it was last heard of; None: never.
        now: UTC.
        thresholds: how long it may be silent.
        looked: it was asked to look at itself at the end of the soak, and has; False: it has not in time; None: it has
            time for it yet.
    """
    if not state.good or healthy is not True or seen_at is None or looked is False:
        return False
    return now - seen_at <= timedelta(minutes=thresholds.silence_minutes)


def judge(
    tally: Tally, thresholds: Thresholds, quiet_since: datetime | None, now: datetime, *, canary: bool
) -> Judgement:
    """Return whether a ring has shown what it must.

    Args:
        tally: where its machines are.
        thresholds: what it must show.
        quiet_since: since when all of it has ended; None: not yet.
        now: UTC; a clock that went back has shown nothing.
        canary: it is the first ring, and must prove something.
    """
    if tally.failed > thresholds.errors_max:
        return Judgement(
            Verdict.STOP,
            cause(
                "errors-over-threshold",
                "{count} machines failed; {limit} are allowed.",
                count=tally.failed,
                limit=thresholds.errors_max,
            ),
        )
    if tally.busy or tally.waiting:
        return Judgement(Verdict.WAIT, cause("ring-running", "{count} are not done.", count=tally.busy + tally.waiting))
    counted = tally.well + tally.failed + tally.blocked
    if not counted and canary:
        return Judgement(Verdict.WAIT, cause("canary-silent", "No machine of the canary has shown anything."))
    if 100 * tally.well < thresholds.success_percent * counted:
        return Judgement(
            Verdict.STOP,
            cause(
                "success-under-threshold",
                "{count} of {all} machines are well; {percent} % are needed.",
                count=tally.well,
                all=counted,
                percent=thresholds.success_percent,
            ),
        )
    soak = timedelta(minutes=thresholds.soak_minutes)
    if quiet_since is None or now - quiet_since < soak:
        return Judgement(
            Verdict.SOAK, cause("soaking", "It must stay well for {n} minutes.", n=thresholds.soak_minutes)
        )
    if tally.looking:
        return Judgement(
            Verdict.LOOK,
            cause(
                "looking",
                "{count} machines are to look at themselves before the ring passes.",
                count=tally.looking,
            ),
        )
    return Judgement(
        Verdict.OPEN, cause("ring-passed", "{count} of {all} machines are well.", count=tally.well, all=counted)
    )
