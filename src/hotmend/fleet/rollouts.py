"""Rollouts and the halt, over the API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from hotmend.fleet.client import Client, segment
from hotmend.wire.rollouts import (
    EventAnswer,
    EventPage,
    Halt,
    MemberPage,
    Reason,
    Rollout,
    RolloutMember,
    RolloutPage,
    RolloutPreview,
    RolloutState,
    RolloutWanted,
    StartAt,
    Yes,
)

_PAGE: Final = 1000


class Rollouts:
    """What people do with rollouts. Every method raises as `Client.get`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def preview(self, wanted: RolloutWanted) -> RolloutPreview:
        """Return what a rollout would do; nothing is done. With its seed the creation draws the same machines."""
        return self._client.post("/rollouts/preview", wanted, RolloutPreview)

    def create(self, wanted: RolloutWanted) -> Rollout:
        """Plan a rollout."""
        return self._client.create("/rollouts", wanted, Rollout)

    def planned(self, identity: str) -> RolloutPreview:
        """Return what a rollout that has not begun would do now, with the machines of its plan."""
        return self._client.get(f"/rollouts/{segment(identity)}/preview", RolloutPreview)

    def page(self, cursor: str = "", limit: int = 100) -> RolloutPage:
        """Return rollouts, newest first."""
        return self._client.get("/rollouts", RolloutPage, cursor=cursor, limit=limit)

    def get(self, identity: str) -> Rollout:
        """Return a rollout with its groups."""
        return self._client.get(f"/rollouts/{segment(identity)}", Rollout)

    def machines(self, identity: str, group: int | None = None, cursor: str = "", limit: int = 1000) -> MemberPage:
        """Return machines of a rollout."""
        path = f"/rollouts/{segment(identity)}/machines"
        return self._client.get(path, MemberPage, group=group, cursor=cursor, limit=limit)

    def members(self, identity: str, group: int | None = None) -> Iterator[RolloutMember]:
        """Yield all machines of a rollout, or of one of its groups, by id."""
        path = f"/rollouts/{segment(identity)}/machines"
        return self._client.each(path, MemberPage, group=group, limit=_PAGE)

    def events(self, identity: str, cursor: str = "", limit: int = 1000) -> EventPage:
        """Return what happened to a rollout, oldest first."""
        return self._client.get(f"/rollouts/{segment(identity)}/events", EventPage, cursor=cursor, limit=limit)

    def approve(self, identity: str, plan: str) -> RolloutState:
        """Say yes to a plan."""
        return self._client.post(f"/rollouts/{segment(identity)}/approve", Yes(plan), RolloutState)

    def schedule(self, identity: str, at: datetime | None) -> RolloutState:
        """Have an approved rollout begin by itself at a moment, with its offset; None: not any more."""
        return self._client.post(f"/rollouts/{segment(identity)}/schedule", StartAt(at), RolloutState)

    def act(self, identity: str, verb: str, reason: str = "") -> RolloutState:
        """Do what a verb says: start, pause, resume, stop, roll-back."""
        return self._client.post(f"/rollouts/{segment(identity)}/{segment(verb)}", Reason(reason), RolloutState)

    def answer(self, identity: str, group: int, kind: str, allow: bool, reason: str = "") -> None:
        """Answer a pre- or post-event of a group."""
        path = f"/rollouts/{segment(identity)}/groups/{group}/events/{segment(kind)}"
        self._client.post(path, EventAnswer(allow, reason), type(None))

    def halt(self, reason: str = "") -> Halt:
        """Let nothing new begin anywhere."""
        return self._client.post("/halt", Reason(reason), Halt)

    def release(self, reason: str = "") -> Halt:
        """Let everything go on."""
        return self._client.post("/release", Reason(reason), Halt)

    def halted(self) -> Halt:
        """Say whether everything is halted."""
        return self._client.get("/halt", Halt)
