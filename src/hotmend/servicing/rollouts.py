"""Rollouts and their groups: one table of transitions each. Their actions are in `servicing.actions`.

A rollout takes a release to many machines, group after group. The diagrams in docs/servicing.md are made from
`TRANSITIONS` and `GROUP_TRANSITIONS`.

Three decisions that the tables make: a rollout that was paused may be taken back without running again first, because
the brake pauses it; one that has not begun may be stopped, so that nothing waits for an approval, or for a server that
begins it, for ever; and so may one that is being taken back, which a machine that never returns would keep open for
ever. A group that went wrong stays so: its rollout is stopped or taken back, and a new one is made.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a rollout stands."""

    CREATING = "CREATING"
    WAITING_FOR_APPROVAL = "WAITING_FOR_APPROVAL"
    READY = "READY"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    FINISHED = "FINISHED"
    ROLLING_BACK = "ROLLING_BACK"
    ROLLED_BACK = "ROLLED_BACK"

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self in FINAL


class Event(StrEnum):
    """What moves a rollout."""

    PLANNED = "planned"
    APPROVED = "approved"
    STARTED = "started"
    BEGAN = "began"
    PAUSED = "paused"
    RESUMED = "resumed"
    STOPPED = "stopped"
    SETTLED = "settled"
    COMPLETED = "completed"
    TAKEN_BACK = "taken back"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.CREATING, Event.PLANNED): State.WAITING_FOR_APPROVAL,
    (State.WAITING_FOR_APPROVAL, Event.APPROVED): State.READY,
    (State.WAITING_FOR_APPROVAL, Event.STOPPED): State.STOPPING,
    (State.READY, Event.STARTED): State.STARTING,
    (State.READY, Event.STOPPED): State.STOPPING,
    (State.STARTING, Event.BEGAN): State.RUNNING,
    (State.STARTING, Event.STOPPED): State.STOPPING,
    (State.RUNNING, Event.PAUSED): State.PAUSED,
    (State.RUNNING, Event.STOPPED): State.STOPPING,
    (State.RUNNING, Event.COMPLETED): State.FINISHED,
    (State.RUNNING, Event.TAKEN_BACK): State.ROLLING_BACK,
    (State.PAUSED, Event.RESUMED): State.RUNNING,
    (State.PAUSED, Event.STOPPED): State.STOPPING,
    (State.PAUSED, Event.TAKEN_BACK): State.ROLLING_BACK,
    (State.STOPPING, Event.SETTLED): State.STOPPED,
    (State.ROLLING_BACK, Event.SETTLED): State.ROLLED_BACK,
    (State.ROLLING_BACK, Event.STOPPED): State.STOPPING,
}
"""The machine of a rollout. What is not here does not happen."""

FINAL: Final = frozenset(State) - {state for state, _ in TRANSITIONS}
ASKING: Final = frozenset({State.RUNNING, State.PAUSED})
"""What was asked before or after a group still counts; in a state behind these nobody waits for the answer."""


class GroupState(StrEnum):
    """Where a group, a ring of a rollout, stands."""

    CREATING = "CREATING"
    READY = "READY"
    SCHEDULED = "SCHEDULED"
    RUNNING = "RUNNING"
    SOAKING = "SOAKING"
    FINISHED = "FINISHED"
    ERROR = "ERROR"


class GroupEvent(StrEnum):
    """What moves a group."""

    PLANNED = "planned"
    APPROVED = "approved"
    BEGAN = "began"
    ENDED = "ended"
    PASSED = "passed"
    FAILED = "failed"


GROUP_TRANSITIONS: Final[dict[tuple[GroupState, GroupEvent], GroupState]] = {
    (GroupState.CREATING, GroupEvent.PLANNED): GroupState.READY,
    (GroupState.READY, GroupEvent.APPROVED): GroupState.SCHEDULED,
    (GroupState.SCHEDULED, GroupEvent.BEGAN): GroupState.RUNNING,
    (GroupState.RUNNING, GroupEvent.ENDED): GroupState.SOAKING,
    (GroupState.RUNNING, GroupEvent.FAILED): GroupState.ERROR,
    (GroupState.SOAKING, GroupEvent.PASSED): GroupState.FINISHED,
    (GroupState.SOAKING, GroupEvent.FAILED): GroupState.ERROR,
}
"""The machine of a group. What is not here does not happen."""

GROUP_FINAL: Final = frozenset(GroupState) - {state for state, _ in GROUP_TRANSITIONS}
OPEN: Final = frozenset({GroupState.CREATING, GroupState.READY, GroupState.SCHEDULED, GroupState.RUNNING})
"""A machine may still join such a group: its gate has not begun to count the time of its soak."""


def advance(state: State, event: Event) -> State | None:
    """Return the next state of a rollout; None: this cannot happen in that state."""
    return TRANSITIONS.get((state, event))


def group_advance(state: GroupState, event: GroupEvent) -> GroupState | None:
    """Return the next state of a group; None: this cannot happen in that state."""
    return GROUP_TRANSITIONS.get((state, event))


def diagram() -> str:
    """Return the table of rollouts as a Mermaid state diagram."""
    lines = [f"    {old} --> {new}: {event}" for (old, event), new in TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.CREATING}", *lines])


def group_diagram() -> str:
    """Return the table of groups as a Mermaid state diagram."""
    lines = [f"    {old} --> {new}: {event}" for (old, event), new in GROUP_TRANSITIONS.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {GroupState.CREATING}", *lines])
