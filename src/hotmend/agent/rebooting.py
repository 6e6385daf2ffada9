"""Whether a machine is rebooted now: one rule for machines of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

RebootPolicy = Literal["if-required", "never", "always"]


@dataclass(frozen=True, slots=True)
class RebootDecision:
    """Whether to reboot now, and why or why not, for people; `is_due`: whether there is anything to reboot for."""

    reboot: bool
    reason: str
    is_due: bool = True


def decide_reboot(
    policy: RebootPolicy, reasons: Sequence[str], *, installed: bool, in_window: bool, obstacles: Sequence[str] = ()
) -> RebootDecision:
    """Return whether to reboot at the end of a run.

    Args:
        policy: what the administrator wants.
        reasons: why a reboot is due; none: it is not.
        installed: the run has installed something: what `always` looks at.
        in_window: a window is open now.
        obstacles: why the machine must not be rebooted: a hold, fixes that the disk does not have.
    """
    wanted = bool(reasons) or (policy == "always" and installed)
    if not wanted:
        return RebootDecision(False, "no reboot is due", is_due=False)
    why = "; ".join(reasons) or "the policy is to reboot after each installation"
    if policy == "never":
        return RebootDecision(False, f"a reboot is due ({why}), and the policy is never to reboot")
    if obstacles:
        return RebootDecision(False, f"a reboot is due ({why}), and not now: {'; '.join(obstacles)}")
    if not in_window:
        return RebootDecision(False, f"a reboot is due ({why}), and waits for a window")
    return RebootDecision(True, why)
