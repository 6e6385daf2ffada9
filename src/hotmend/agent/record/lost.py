"""Holes that were closed here and are open again: a reboot, or a new process, on a disk that never got the fix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from hotmend.agent.record.history import Action, AnyEvent, Assessed, Lost, Reverted


class Image(Protocol):
    """An image as a process runs it."""

    @property
    def build_id(self) -> str:
        """In memory."""

    @property
    def patch(self) -> object | None:
        """The hotpatch whose code runs; None where the image's own does."""


class Process(Protocol):
    """A process and its images."""

    @property
    def pid(self) -> int:
        """Its number."""

    @property
    def comm(self) -> str:
        """Its name."""

    @property
    def images(self) -> Sequence[Image]:
        """What it maps."""


def lost_now(events: Iterable[AnyEvent], processes: Iterable[Process]) -> tuple[Lost, ...]:
    """Return the fixes that the history has in memory and that processes run without.

    What was taken back, or put into quarantine, is not lost; neither is what its action left old in a process of that
    name: both have an alert of their own.

    Args:
        events: of the history.
        processes: what runs now.
    """
    processes = tuple(processes)
    found = []
    for update, action in in_memory(events).items():
        if not action.cves:
            continue
        never = {old.comm for old in action.old}
        builds = set(action.old_builds)
        without = tuple(
            f"{process.comm} ({process.pid})"
            for process in processes
            if process.comm not in never
            and any(image.patch is None and image.build_id in builds for image in process.images)
        )
        if without:
            found.append(Lost(update, action.cves, without))
    return tuple(found)


def in_memory(events: Iterable[AnyEvent]) -> dict[str, Action]:
    """Return the last action of each update that is in memory, as the history has it."""
    found: dict[str, Action] = {}
    for event in events:
        if isinstance(event, Action) and event.state.final and event.says_of_memory:
            found.pop(event.update, None)
            if event.state.good:
                found[event.update] = event
        elif isinstance(event, Reverted):
            found = {update: a for update, a in found.items() if not set(a.hotpatches) & set(event.hotpatches)}
    return found


def last_lost(events: Sequence[AnyEvent]) -> tuple[Lost, ...]:
    """Return what the agent found lost when it looked last."""
    return next((event.lost for event in reversed(events) if isinstance(event, Assessed)), ())
