"""Enrollment: one table of transitions, and where a machine stands by its facts.

Enabling is asynchronous. Prerequisites are checked when it is asked for, the service answers within about ten minutes,
and what is still pending after that will not come by itself: it becomes a state with a reason and a remedy. The diagram
in docs/servicing.md is made from `TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from hotmend.servicing.eligibility import Eligibility
from hotmend.servicing.facts import Enablement, MachineFacts, Windows
from hotmend.servicing.message import Cause, cause

PENDING_MAX: Final = timedelta(minutes=10)


class State(StrEnum):
    """Where an enrollment stands."""

    NOT_ENROLLED = "NOT_ENROLLED"
    PENDING = "PENDING"
    ENABLED = "ENABLED"
    DISABLED = "DISABLED"
    CANCELED = "CANCELED"
    ACTION_REQUIRED = "ACTION_REQUIRED"


class Event(StrEnum):
    """What moves it."""

    REQUESTED = "requested"
    CONFIRMED = "confirmed"
    TIMED_OUT = "timed out"
    FAILED = "failed"
    PREREQUISITE_LOST = "prerequisite lost"
    LICENCE_LAPSED = "licence lapsed"
    REMEDIED = "remedied"
    SWITCHED_OFF = "switched off"
    SWITCHED_ON = "switched on"
    CANCELED = "canceled"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.NOT_ENROLLED, Event.REQUESTED): State.PENDING,
    (State.NOT_ENROLLED, Event.FAILED): State.ACTION_REQUIRED,
    (State.PENDING, Event.CONFIRMED): State.ENABLED,
    (State.PENDING, Event.TIMED_OUT): State.ACTION_REQUIRED,
    (State.PENDING, Event.FAILED): State.ACTION_REQUIRED,
    (State.PENDING, Event.CANCELED): State.CANCELED,
    (State.ENABLED, Event.SWITCHED_OFF): State.DISABLED,
    (State.ENABLED, Event.PREREQUISITE_LOST): State.ACTION_REQUIRED,
    (State.ENABLED, Event.LICENCE_LAPSED): State.ACTION_REQUIRED,
    (State.ENABLED, Event.CANCELED): State.CANCELED,
    (State.DISABLED, Event.SWITCHED_ON): State.ENABLED,
    (State.DISABLED, Event.PREREQUISITE_LOST): State.ACTION_REQUIRED,
    (State.DISABLED, Event.CANCELED): State.CANCELED,
    (State.ACTION_REQUIRED, Event.REMEDIED): State.PENDING,
    (State.ACTION_REQUIRED, Event.SWITCHED_OFF): State.DISABLED,
    (State.ACTION_REQUIRED, Event.CANCELED): State.CANCELED,
    (State.CANCELED, Event.REQUESTED): State.PENDING,
    (State.CANCELED, Event.FAILED): State.ACTION_REQUIRED,
}
"""The machine. What is not here does not happen."""


def advance(state: State, event: Event) -> State | None:
    """Return the next state; None: this cannot happen in that state."""
    return TRANSITIONS.get((state, event))


@dataclass(frozen=True, slots=True)
class Enrollment:
    """Where a machine stands.

    Attributes:
        state: None: not known.
        causes: why, and what comes next.
        remedy: name of the remedy of an ACTION_REQUIRED that no prerequisite explains; "" otherwise.
    """

    state: State | None
    causes: tuple[Cause, ...]
    remedy: str = ""


_PATHS: Final[dict[Enablement, tuple[Event, ...]]] = {
    "Disabled": (),
    "PendingEvaluation": (Event.REQUESTED,),
    "ActionRequired": (Event.REQUESTED, Event.FAILED),
    "Enabled": (Event.REQUESTED, Event.CONFIRMED),
}
"""What must have happened for the service to say so."""


def enrollment(facts: MachineFacts, eligible: Eligibility, now: datetime) -> Enrollment:
    """Return where a machine stands by its facts. A default enrollment needs none of them but its prerequisites."""
    product = eligible.product
    if product is None or product.not_supported:
        return Enrollment(State.NOT_ENROLLED, eligible.causes)
    enablement, requested_at = _told(facts)
    if product.enrollment == "default" and enablement is None:
        enablement = "Enabled"
    if enablement is None or enablement == "Unknown":
        return Enrollment(None, (cause("enrollment-unknown", "Whether Hotpatch is enabled is not known."),))
    state = _REACHED[enablement]
    if enablement == "Disabled" and (requested_at is not None or product.enrollment == "default"):
        state = _SWITCHED_OFF
    return _timed(state, requested_at, now) or _lost(state, eligible) or _plain(state)


def walk(events: Iterable[Event]) -> State:
    """Return the state that events lead to from the start; what cannot happen changes nothing."""
    state = State.NOT_ENROLLED
    for event in events:
        state = advance(state, event) or state
    return state


_REACHED: Final = {told: walk(events) for told, events in _PATHS.items()}
_SWITCHED_OFF: Final = walk([Event.REQUESTED, Event.CONFIRMED, Event.SWITCHED_OFF])


def _told(facts: MachineFacts) -> tuple[Enablement | None, datetime | None]:
    part = (facts.windows or Windows()).hotpatch if facts.linux is None else facts.linux
    return part.enablement, part.requested_at


def _timed(state: State, requested_at: datetime | None, now: datetime) -> Enrollment | None:
    """Return what time has made of a pending enrollment."""
    if state is not State.PENDING:
        return None
    if requested_at is None:
        return Enrollment(
            state,
            (
                cause(
                    "pending-since-unknown", "Enabling is pending, since when is not known; look again in ten minutes."
                ),
            ),
        )
    if now - requested_at <= PENDING_MAX:
        return Enrollment(
            state,
            (cause("pending", "Enabling is pending since {since}; it takes about ten minutes.", since=requested_at),),
        )
    stuck = cause(
        "pending-too-long",
        "Enabling has been pending since {since}, longer than ten minutes: agent trouble,"
        " or the licence bug of October 2025.",
        since=requested_at,
    )
    return Enrollment(TRANSITIONS[state, Event.TIMED_OUT], (stuck,), "pending-stuck")


def _lost(state: State, eligible: Eligibility) -> Enrollment | None:
    """Return what failed prerequisites make of it: they are checked again whenever facts are."""
    failed = [check for check in eligible.checks if check.holds is False]
    lapsed = any(check.name in {"subscription", "entitlement"} for check in failed)
    event = Event.LICENCE_LAPSED if lapsed else Event.PREREQUISITE_LOST
    after = advance(state, event) if failed else None
    if after is None:
        return None
    return Enrollment(after, tuple(check.cause for check in failed))


def _plain(state: State) -> Enrollment:
    match state:
        case State.ENABLED:
            return Enrollment(state, (cause("enabled", "Hotpatch is enabled."),))
        case State.ACTION_REQUIRED:
            return Enrollment(state, (cause("enabling-failed", "Enabling failed."),), "pending-stuck")
        case State.DISABLED:
            return Enrollment(state, (cause("disabled", "Hotpatch is switched off."),))
    return Enrollment(state, (cause("not-enrolled", "Hotpatch was not enabled on this machine."),))


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = [f"    {old} --> {new}: {event}" for (old, event), new in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.NOT_ENROLLED}", *lines])
