"""Updates that were taken here and that their publisher has withdrawn since.

A withdrawal says that a hotpatch is not to be placed any more. It changes no memory by itself: to take the code back
opens the hole again that it closes, which is for people to weigh. Until then it raises an alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hotmend.agent.record.history import Action, AnyEvent, Assessed, Withdrawn


def taken(events: Iterable[AnyEvent]) -> dict[str, Action]:
    """Return the last line with hotpatches of each update that came by a channel; memory says whether they run."""
    actions = (event for event in events if isinstance(event, Action))
    return {action.update: action for action in actions if action.release and action.hotpatches}


def last_withdrawn(events: Iterable[AnyEvent]) -> tuple[Withdrawn, ...]:
    """Return what was withdrawn when the agent looked last."""
    return next((event.withdrawn for event in reversed(tuple(events)) if isinstance(event, Assessed)), ())


def withdrawn_now(events: Iterable[AnyEvent], said: Mapping[str, str]) -> tuple[Withdrawn, ...]:
    """Return what is withdrawn of what was taken.

    Args:
        events: of the history.
        said: what the source says now of updates that it knows: why it was withdrawn, "" for one that stands. What it
            does not know stays as it was: another channel, or apt, may have taken its place.
    """
    events = tuple(events)
    actions = taken(events)
    before = {one.update: one.reason for one in last_withdrawn(events)}
    reasons = {**before, **said}
    return tuple(
        Withdrawn(update, reason, action.hotpatches)
        for update, action in actions.items()
        if (reason := reasons.get(update))
    )


def sentences(withdrawn: Iterable[Withdrawn]) -> dict[str, str]:
    """Return what to tell of each hotpatch, by its id."""
    return {hotpatch: f"{one.update}: {one.reason}" for one in withdrawn for hotpatch in one.hotpatches}
