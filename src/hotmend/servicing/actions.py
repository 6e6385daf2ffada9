"""What is done on one machine, and where it stands: one table of transitions.

A server plans actions, an agent performs them; both use these words. The diagram in docs/servicing.md is made from
`TRANSITIONS`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where an action is."""

    SCHEDULED = "SCHEDULED"
    WAITING_WINDOW = "WAITING_WINDOW"
    PRECHECK = "PRECHECK"
    PRE_EVENT = "PRE_EVENT"
    DOWNLOADING = "DOWNLOADING"
    VERIFYING = "VERIFYING"
    APPLYING = "APPLYING"
    HEALTH_CHECK = "HEALTH_CHECK"
    WAITING_SLOT = "WAITING_SLOT"
    RESTARTING = "RESTARTING"
    RECOVERING = "RECOVERING"
    POST_EVENT = "POST_EVENT"
    SUCCEEDED = "SUCCEEDED"
    SUCCEEDED_WITH_WARNINGS = "SUCCEEDED_WITH_WARNINGS"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"
    CANCELED = "CANCELED"
    TIMED_OUT = "TIMED_OUT"
    WINDOW_EXCEEDED = "WINDOW_EXCEEDED"
    BLOCKED = "BLOCKED"
    NOT_APPLICABLE = "NOT_APPLICABLE"
    ALREADY_INSTALLED = "ALREADY_INSTALLED"

    @property
    def final(self) -> bool:
        """Whether nothing comes after it."""
        return self in FINAL

    @property
    def bad(self) -> bool:
        """Whether somebody has to look: it failed, was taken back, or ran out of time."""
        return self in (State.FAILED, State.ROLLED_BACK, State.TIMED_OUT, State.WINDOW_EXCEEDED)

    @property
    def good(self) -> bool:
        """Whether the machine has what the action was to bring."""
        return self in (State.SUCCEEDED, State.SUCCEEDED_WITH_WARNINGS, State.ALREADY_INSTALLED)


_ORDER: Final = tuple(State)
_BEFORE_CHANGE: Final = _ORDER[: _ORDER.index(State.VERIFYING)]
FINAL: Final = frozenset(_ORDER[_ORDER.index(State.SUCCEEDED) :])
WAITING: Final = frozenset({State.SCHEDULED, State.WAITING_WINDOW})
"""Nothing of it has begun: a machine has not been told, or has not begun."""


TRANSITIONS: Final[dict[State, tuple[State, ...]]] = {
    State.SCHEDULED: (State.WAITING_WINDOW, State.PRECHECK),
    State.WAITING_WINDOW: (State.PRECHECK,),
    State.PRECHECK: (State.WAITING_WINDOW, State.PRE_EVENT),
    State.PRE_EVENT: (State.DOWNLOADING,),
    State.DOWNLOADING: (State.VERIFYING,),
    State.VERIFYING: (State.APPLYING,),
    State.APPLYING: (State.HEALTH_CHECK,),
    State.HEALTH_CHECK: (State.WAITING_SLOT, State.RESTARTING, State.POST_EVENT, State.VERIFYING),
    State.WAITING_SLOT: (State.RESTARTING,),
    State.RESTARTING: (State.RECOVERING,),
    State.RECOVERING: (State.POST_EVENT,),
    State.POST_EVENT: (),
}
"""What comes next while all goes well; `ends` adds how it may end. An action of several updates verifies again."""


def may_follow(state: State, after: State) -> bool:
    """Say whether a state may come after another, at once or with states between that nobody was told of.

    Reports are lost and come late: an action moves forward only, and never out of an end.
    """
    if state.final or after is state:
        return False
    if after.final:
        return after in ends(state)
    return after in reachable(state)


def ends(state: State) -> frozenset[State]:
    """Return how an action in this state may end; only one that has changed nothing can be blocked."""
    if state.final:
        return frozenset()
    return FINAL if state in _BEFORE_CHANGE else FINAL - {State.BLOCKED}


def reachable(state: State) -> frozenset[State]:
    """Return the states that come after one, ends apart."""
    found: set[State] = set()
    todo: list[State] = list(TRANSITIONS.get(state, ()))
    while todo:
        next_state = todo.pop()
        if next_state not in found:
            found.add(next_state)
            todo += TRANSITIONS.get(next_state, ())
    return frozenset(found)


def diagram() -> str:
    """Return the table as a Mermaid state diagram; the ends, which every state may come to, are one node."""
    lines = [f"    {old} --> {new}" for old, following in TRANSITIONS.items() for new in following]
    last = [f"    {old} --> {State.SUCCEEDED}" for old, following in TRANSITIONS.items() if not following]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {State.SCHEDULED}", *lines, *last])
