"""The reboot of a Windows machine whose policy has restart slots: asked for, done with a slot, the slot given back.

What is ordered is on the disk before Windows is asked. The slot is given back once the machine has booted later than
that, and nothing waits for a boot any more; where that is not so, or nobody knows, nothing is said of the slot, and it
ends on the server, which counts as a machine that did not come back. A slot is for one reboot, and a window has one,
unless hotmend itself has done something since that needs another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import msgspec

from hotmend.agent.rebooting import RebootDecision, RebootPolicy, decide_reboot
from hotmend.agent.uplink.files import Wish, read, write
from hotmend.agent.uplink.letters import Opened
from hotmend.agent.uplink.slot import MARGIN, NO_SLOT, Slot, leave, said, slot_at
from hotmend.agent.windows.doing import Hands, open_window
from hotmend.agent.windows.places import WindowsPlaces
from hotmend.model.errors import HotmendError
from hotmend.servicing.actions import State
from hotmend.servicing.maintenance import reboot_within
from hotmend.windows import rollback
from hotmend.windows.action import Action
from hotmend.windows.facts_updates import reboot_pending
from hotmend.windows.notes import Notes
from hotmend.windows.work import REBOOT_SECONDS, SUBJECTS, has_booted_since
from hotmend.wire.messages import Kind, Moment, Order, Reached
from hotmend.wire.policy import Policy

WAITS: Final = "something that was installed waits for a boot"


class Ordered(msgspec.Struct, frozen=True):
    """A reboot that was ordered.

    Attributes:
        at: just before Windows was asked.
        until: end of the slot that it was ordered with.
        over: the slot was given back, or has ended.
    """

    at: Moment
    until: Moment
    over: bool = False


class _Book(msgspec.Struct, frozen=True):
    """What the file holds: the reboot that was ordered last, and what there is to say of one that is due."""

    ordered: Ordered | None = None
    told: str = ""


@dataclass(frozen=True, slots=True)
class Afterwards:
    """What a turn leaves for its reboot.

    Attributes:
        allowed: how much may be rebooted: what the policy says, and no more than its installations asked for.
        installed: one of them has installed something.
    """

    allowed: RebootPolicy
    installed: bool


def afterwards(wanted: Opened, ended: Sequence[tuple[Order, State]], by_itself: Reached | None) -> Afterwards:
    """Return what follows the orders that have ended in a turn, and what the machine did in it by itself."""
    installs = [(order, state) for order, state in ended if order.kind is Kind.INSTALL]
    allowed = wanted.policy.reboot if wanted.policy is not None else "never"
    for order, _ in installs:
        allowed = cast("RebootPolicy", reboot_within(allowed, order.reboot))
    installed = any(state.good for _, state in installs)
    return Afterwards(allowed, installed or (by_itself is not None and State(by_itself.state).good))


@dataclass(frozen=True, slots=True)
class _Due:
    """Why a boot is due, or why that is not known."""

    reasons: tuple[str, ...] = ()
    unknown: str = ""


class Reboot:
    """Reboots of one machine with restart slots.

    Args:
        places: of this machine.
        hands: what it acts with.

    Raises (all methods):
        InputError: a file cannot be read: what was ordered is not known then, and nothing is.
        OSError: one cannot be written.
    """

    def __init__(self, places: WindowsPlaces, hands: Hands) -> None:
        self._places, self._hands = places, hands

    def told(self) -> str:
        """Return what there is to say of a reboot that is due or ordered; "": nothing."""
        return self._book().told

    def look_back(self) -> None:
        """Say of the slot what has become of the reboot that was ordered last; before a check-in."""
        ordered = self._ordered()
        if ordered is None or ordered.over:
            return
        now, notes = self._hands.now(), Notes()
        told, slot = f"the reboot of {ordered.at:%Y-%m-%d %H:%M} UTC did not come", None
        if has_booted_since(ordered.at, self._hands.sources.machine):
            pending = self._pending(notes)
            if pending is False:
                self._end(ordered)
                self._say("", slot=False)
                return
            told = f"it has booted, and keeps its restart slot: {WAITS if pending else _why(notes)}"
        elif now < ordered.until:
            told, slot = "a reboot is ordered", True
        if now >= ordered.until + MARGIN:  # the server's clock may be behind by that: who did not come back is noticed
            self._end(ordered)
        self._say(told, slot=slot)

    def step(self, wanted: Opened, after: Afterwards, *, heard: bool) -> bool:
        """Order the reboot that is due where the machine has its slot, or say that it needs one.

        Args:
            wanted: by its server.
            after: what this turn leaves.
            heard: the server has answered in this turn: an earlier answer may be of a slot that was given back since.

        Returns:
            whether it asks for a slot that it has not asked for before.
        """
        ordered, policy = self._ordered(), wanted.policy
        slot = slot_at(wanted, self._hands.now())
        if policy is None or slot is Slot.NOT_NEEDED:
            self._say("", slot=None)
            return False
        if ordered is not None and not ordered.over:
            return False  # said already
        if not heard:
            slot = Slot.MISSING
        due = self._due()
        if not (due.reasons or due.unknown or after.installed):
            self._say("", slot=False)
            return False
        decision = self._decide(after, due, self._obstacles(wanted, policy, ordered), wanted)
        asks = decision.reboot and slot is Slot.MISSING
        if asks:
            decision = self._decide(after, due, (NO_SLOT,), wanted)
        if decision.reboot and wanted.slot_until is not None:
            self._order(Ordered(self._hands.now(), wanted.slot_until), decision.reason)
            return False
        told = decision.reason if decision.is_due else due.unknown
        return self._say(told, slot=said(slot, rebooting=False, due=asks)) and asks

    def _decide(self, after: Afterwards, due: _Due, obstacles: tuple[str, ...], wanted: Opened) -> RebootDecision:
        in_window = open_window(self._hands, wanted) is not None
        against = (*obstacles, *([due.unknown] if due.unknown else []))
        return decide_reboot(
            after.allowed, due.reasons, installed=after.installed, in_window=in_window, obstacles=against
        )

    def _due(self) -> _Due:
        notes, waiting = Notes(), self._waiting()
        pending = self._pending(notes)
        if pending or waiting:
            names = [action.details.get("updates", action.subject) for action in waiting]
            return _Due((" ".join((f"{WAITS}:", *names)) if names else WAITS,))
        return _Due() if pending is False else _Due(unknown=f"whether a reboot is due is not known: {_why(notes)}")

    def _obstacles(self, wanted: Opened, policy: Policy, ordered: Ordered | None) -> tuple[str, ...]:
        """Return what is in the way of a reboot, the slot and the window apart."""
        found = []
        if policy.mode != "automatic":
            found.append(f"the policy's mode is {policy.mode}")
        if wanted.halted:
            found.append(f"the fleet is halted: {wanted.halted}")
        if wanted.closed:
            found.append("the window waits for a word")
        window = open_window(self._hands, wanted)
        if ordered is not None and window is not None and ordered.at >= window.start and not self._since(ordered):
            found.append("one was ordered in this window already")
        return tuple(found) or self._busy()

    def _order(self, ordered: Ordered, why: str) -> None:
        machine = self._hands.sources.machine
        self._keep(ordered=ordered)
        for action in self._waiting():
            what = f"reboot ordered, in {REBOOT_SECONDS} s, with a restart slot"
            self._hands.actions.save(action.happened(ordered.at, what))
        try:
            machine.reboot(REBOOT_SECONDS, f"hotmend: {why}"[:500])
        except HotmendError as error:
            self._end(ordered)
            self._say(f"a reboot is due ({why}), and could not be ordered: {error}", slot=False)
        else:
            self._say(f"a reboot is ordered: {why}", slot=True)

    def _pending(self, notes: Notes) -> bool | None:
        """Return whether something waits for a boot; None: nobody knows."""
        sources = self._hands.sources
        return reboot_pending(sources.machine, notes.ask("the update agent", sources.agent), notes)

    def _busy(self) -> tuple[str, ...]:
        try:
            return ("the update agent is at work",) if self._hands.sources.agent().busy() else ()
        except HotmendError as error:
            return (f"whether the update agent is at work is not known: {error}",)

    def _waiting(self) -> tuple[Action, ...]:
        """Return the records of updates, here or taken away, that wait for a boot."""
        machine, of_updates = self._hands.sources.machine, (*SUBJECTS, rollback.SUBJECT)
        found = (a for a in self._hands.actions.all() if a.state == "awaiting-reboot" and a.subject in of_updates)
        return tuple(each for each in found if not has_booted_since(each.reboot_after, machine))

    def _since(self, ordered: Ordered) -> bool:
        """Say whether something that needs a boot was done here after one was ordered."""
        return any(each.reboot_after is not None and each.reboot_after > ordered.at for each in self._waiting())

    def _book(self) -> _Book:
        return read(self._places.reboot, _Book) or _Book()

    def _ordered(self) -> Ordered | None:
        return self._book().ordered

    def _keep(self, **changes: object) -> None:
        before = self._book()
        now = msgspec.structs.replace(before, **changes)
        if now != before:
            write(self._places.reboot, now)

    def _end(self, ordered: Ordered) -> None:
        self._keep(ordered=msgspec.structs.replace(ordered, over=True))

    def _say(self, told: str, *, slot: bool | None) -> bool:
        self._keep(told=told)
        self._places.outbox.parent.mkdir(parents=True, exist_ok=True)
        return leave(self._places, Wish(slot))


def _why(notes: Notes) -> str:
    return "; ".join(notes.unread.values())
