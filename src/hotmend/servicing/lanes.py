"""The three lanes of an action: what each may leave out, and how many people it takes.

| lane | windows, freezes | restart slots | canary and gates | people |
|---|---|---|---|---|
| normal | kept | kept | kept | 1 approves |
| zero-day | left out | kept | kept | 2 approve, and neither has planned it |
| emergency, which only takes back | left out | left out | left out | 1 operator, recorded |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hotmend.servicing.message import Cause, cause


class Lane(StrEnum):
    """How urgent it is."""

    NORMAL = "normal"
    ZERO_DAY = "zero-day"
    EMERGENCY = "emergency"


@dataclass(frozen=True, slots=True)
class Rules:
    """What a lane keeps.

    Attributes:
        windows: maintenance windows and freezes.
        slots: restart slots.
        canary: the first ring and the gates.
        approvals: how many people approve the plan.
        author: whoever planned it may be one of them.
    """

    windows: bool
    slots: bool
    canary: bool
    approvals: int
    author: bool = True


RULES: Final = {
    Lane.NORMAL: Rules(windows=True, slots=True, canary=True, approvals=1),
    Lane.ZERO_DAY: Rules(windows=False, slots=True, canary=True, approvals=2, author=False),
    Lane.EMERGENCY: Rules(windows=False, slots=False, canary=False, approvals=0),
}


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's yes.

    Attributes:
        person: who.
        plan: digest of the plan that was seen.
        may: they may still approve: not disabled since, and with the role.
    """

    person: str
    plan: str
    may: bool = True


def approved(lane: Lane, plan: str, author: str, approvals: Iterable[Approval]) -> Cause | None:
    """Return what is missing; None: the plan is approved.

    A yes is to one plan: after a change everybody is asked again. The same person twice is one person, and who may
    not approve any more has said nothing.

    Args:
        lane: of the action.
        plan: digest of it.
        author: who planned it.
        approvals: what people said.
    """
    rules = RULES[lane]
    people = {each.person for each in approvals if each.plan == plan and each.may}
    needed = rules.approvals
    if not rules.author:
        people.discard(author)
    if len(people) >= needed:
        return None
    if not rules.author:
        return cause(
            "approval-missing",
            "{count} of {needed} people have approved; whoever planned it is not counted.",
            count=len(people),
            needed=needed,
        )
    return cause("approval-missing", "{count} of {needed} people have approved.", count=len(people), needed=needed)
