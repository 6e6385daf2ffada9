"""Where a long call stands, and what a machine's feature is then: rules without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from hotmend.servicing.actions import State
from hotmend.servicing.enrollment import PENDING_MAX
from hotmend.servicing.enrollment import State as Enrollment

Status = Literal["InProgress", "Succeeded", "Failed", "Canceled"]

_ENABLEMENTS: Final = {
    Enrollment.ENABLED: "Enabled",
    Enrollment.PENDING: "PendingEvaluation",
    Enrollment.DISABLED: "Disabled",
    Enrollment.CANCELED: "Disabled",
    Enrollment.NOT_ENROLLED: "Disabled",
    Enrollment.ACTION_REQUIRED: "ActionRequired",
}


@dataclass(frozen=True, slots=True)
class Settled:
    """Where a switch stands: its status, and why where it failed."""

    status: Status
    why: str = ""


def action_status(state: State) -> Status:
    """Return the status of a call whose action is in a state."""
    if not state.final:
        return "InProgress"
    if state.good or state is State.NOT_APPLICABLE:
        return "Succeeded"
    return "Canceled" if state is State.CANCELED else "Failed"


def switched(
    *,
    enable: bool,
    asked_at: datetime,
    now: datetime,
    enrollment: str,
    lacking: Sequence[str],
    held: bool,
) -> Settled:
    """Return where a switch of the feature stands.

    Args:
        enable: on or off.
        asked_at: aware.
        now: aware.
        enrollment: what the machine reports; "": it has not reported.
        lacking: prerequisites that do not hold, a sentence each.
        held: the machine has the policy that follows from it, and has said so since it was asked.
    """
    if enable and enrollment == Enrollment.ACTION_REQUIRED:
        return Settled("Failed", "prerequisites do not hold: " + ("; ".join(lacking[:5]) or "the machine says why"))
    if held:
        return Settled("Succeeded")
    if now - asked_at > PENDING_MAX:
        return Settled(
            "Failed",
            "the machine has not taken its new policy within ten minutes: look whether it checks in, and ask again",
        )
    return Settled("InProgress")


def enablement(feature: str | None, enrollment: str) -> str:
    """Return `hotpatchEnablementStatus` by the licence profile (None: there is none) and the machine's report."""
    if feature in ("Disabled", "Disabling"):
        return "Disabled"
    if enrollment == Enrollment.ACTION_REQUIRED or feature == "Failed":
        return "ActionRequired"
    if feature is not None:
        return "Enabled" if feature == "Enabled" else "PendingEvaluation"
    return _ENABLEMENTS.get(Enrollment(enrollment), "Unknown") if enrollment in set(Enrollment) else "Unknown"
