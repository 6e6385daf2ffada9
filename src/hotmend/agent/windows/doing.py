"""Doing what is due on a Windows machine: by the same code as the commands of `hotmend windows`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, cast
from zoneinfo import ZoneInfo

import msgspec

from hotmend import __version__
from hotmend.agent.uplink.letters import Opened
from hotmend.agent.windows.ledger import Ledger
from hotmend.model.errors import HotmendError, SystemCallError
from hotmend.model.verdict import Reason
from hotmend.servicing import maintenance
from hotmend.servicing.actions import State
from hotmend.servicing.evaluate import Program
from hotmend.servicing.maintenance import Interval, intervals, may_start, reboot_within
from hotmend.windows.action import Actions
from hotmend.windows.agent import ABSENT, INSTALLED, UpdateAgent
from hotmend.windows.assess import Assessment, assess
from hotmend.windows.facts import Collected, Sources, collect
from hotmend.windows.facts_system import time_zone
from hotmend.windows.notes import Notes
from hotmend.windows.rollback import keep_away, release, rollback, rolled_back
from hotmend.windows.updates import Result, code_text
from hotmend.windows.work import RebootSetting, Told, agent_reasons, install, install_reasons, settle, uninstall
from hotmend.wire.messages import Kind, Order

NEEDED: Final = timedelta(minutes=30)
"""What must be left of a window where something begins: the update agent cannot be told to end in time."""
_AHEAD: Final = timedelta(days=400)
_IN_WINDOWS: Final = frozenset({Kind.INSTALL, Kind.REVERT, Kind.UNDO})

_Ended = tuple[State, str]


@dataclass(frozen=True, slots=True)
class Hands:
    """What a Windows machine acts with.

    Attributes:
        sources: of its facts; the machine itself is among them.
        actions: records of what is done to it.
        program: calendar, products and rules.
        ledger: orders and what became of them.
        own: the same of what this machine does by itself.
    """

    sources: Sources
    actions: Actions
    program: Program
    ledger: Ledger
    own: Ledger

    def now(self) -> datetime:
        """Return the time."""
        return self.sources.machine.now()


def perform(hands: Hands, order: Order, wanted: Opened) -> bool:
    """Do one order; return whether it has ended. What is begun is in the ledger before anything is asked of Windows.

    Raises:
        InputError: the ledger cannot be read.
        OSError: it cannot be written.
    """
    if order.until is not None and order.until <= hands.now():
        state, detail = State.TIMED_OUT, "it was not done in time"
    else:
        try:
            state, detail = _closed(hands, order, wanted) or _done(hands, order, wanted)
        except HotmendError as error:
            state, detail = State.FAILED, str(error)
    hands.ledger.note(order, state, hands.now(), detail)
    return state.final


def _done(hands: Hands, order: Order, wanted: Opened) -> _Ended:
    hands.ledger.note(order, State.PRECHECK, hands.now())
    match order.kind:
        case Kind.ASSESS:
            return State.SUCCEEDED, ""  # a report follows every order
        case Kind.INSTALL:
            return _installed(hands, order, wanted)
        case Kind.REVERT | Kind.UNDO if order.undoes is not None:
            return _undone(hands, order, order.undoes, wanted)
        case Kind.REVERT:
            return _reverted(hands, order, wanted)
        case Kind.UNDO:
            return State.BLOCKED, "it does not say which action is to be taken back"
        case Kind.QUARANTINE:
            return _hidden(hands, order.updates, hidden=True)
        case Kind.LIFT:
            return _hidden(hands, order.updates, hidden=False)
        case Kind.UNKNOWN:
            return State.BLOCKED, f"hotmend {__version__} does not know what is asked for: update it"


def _closed(hands: Hands, order: Order, wanted: Opened) -> _Ended | None:
    """Return that an order has to wait for a window; None: it may begin."""
    if order.kind not in _IN_WINDOWS or order.anytime or order.emergency:
        return None
    if wanted.closed:
        return State.WAITING_WINDOW, "the window waits for a word"
    windows = _windows(hands, wanted)
    if windows is None:
        return State.BLOCKED, "the machine's time zone is not known, so that no window is"
    decision = may_start(windows, hands.now(), NEEDED)
    return None if decision.allowed else (State.WAITING_WINDOW, str(decision.cause.message))


def open_window(hands: Hands, wanted: Opened) -> Interval | None:
    """Return the window that is open with enough time left; None: there is none, or nobody knows."""
    now, found = hands.now(), _windows(hands, wanted) or ()
    return next((each for each in found if each.start <= now and each.end - now >= NEEDED), None)


def _windows(hands: Hands, wanted: Opened) -> tuple[Interval, ...] | None:
    """Return the windows that are open or to come; None: the time zone is not known, and windows are in it."""
    now, policy = hands.now(), wanted.policy
    name = (policy.zone if policy else "") or time_zone(hands.sources.machine, Notes()) or ""
    if not name:
        return None
    return intervals(policy.maintenance if policy else maintenance.Policy(), ZoneInfo(name), now, now + _AHEAD)


def _installed(hands: Hands, order: Order, wanted: Opened) -> _Ended:
    collected, agent = _asked(hands)
    chosen = wanted.policy.maintenance if wanted.policy else maintenance.Policy()
    if order.updates:
        chosen = msgspec.structs.replace(chosen, classifications=(), include=order.updates)
    found = assess(collected, hands.program, chosen, rolled_back(hands.actions), hands.now())
    if not found.chosen:
        return _nothing(order.updates, found, agent)
    reasons = (*install_reasons(found, hands.program, leave_line=False), *agent_reasons(agent))
    if reasons:
        return State.BLOCKED, _why(reasons)
    hands.ledger.bring(order, [kb for update in found.chosen for kb in update.kbs])
    hands.ledger.note(order, State.APPLYING, hands.now(), ", ".join(update.name for update in found.chosen))
    machine = hands.sources.machine
    reboot = _reboot(order, wanted)
    told = install(found, hands.program, agent, machine, hands.actions, leave_line=False, reboot=reboot)
    return _of_work(told, wanted)


def _nothing(kbs: Sequence[str], found: Assessment, agent: UpdateAgent) -> _Ended:
    """Return why nothing is installed; it may have been before an order was cut off."""
    there = agent.search(INSTALLED)
    if kbs and all(there.with_kb(kb) is not None for kb in kbs):
        return State.ALREADY_INSTALLED, ", ".join(kbs)
    missing = [f"{kb} is not offered" for kb in kbs if not any(kb in item.update.kbs for item in found.items)]
    kept = [f"{i.update.name}: {i.choice.cause.message}" for i in found.items if {*i.update.kbs} & {*kbs}]
    return State.NOT_APPLICABLE, "; ".join((*missing, *kept)) or "nothing is offered that would be installed"


def _reverted(hands: Hands, order: Order, wanted: Opened) -> _Ended:
    """Take named updates away, or, where none is named, roll back: three steps, of which a reboot is the last."""
    collected, agent = _asked(hands)
    machine, reboot = hands.sources.machine, _reboot(order, wanted)
    hands.ledger.note(order, State.APPLYING, hands.now(), ", ".join(order.updates))
    if not order.updates:
        rolled = rollback(lambda: collected.facts, hands.program, agent, machine, hands.actions, to=None, reboot=reboot)
        told = "; ".join(str(sentence) for sentence in rolled.sentences)
        if rolled.refused or rolled.action is None:
            return State.FAILED, _why(rolled.refused)
        if rolled.action.state == "failed":
            return State.FAILED, told
        return (State.SUCCEEDED if rolled.action.state == "done" else State.SUCCEEDED_WITH_WARNINGS), told
    return _taken_away(hands, order, order.updates, (collected, agent), wanted)


def _undone(hands: Hands, order: Order, undoes: str, wanted: Opened) -> _Ended:
    """Take away what another order brought, by the ledger, and keep that away; nothing else is touched."""
    kbs = hands.ledger.brought(undoes)
    if kbs is None:
        states = {each.state for each in hands.ledger.reached() if each.action == undoes}
        if State.APPLYING in states:  # by a version that did not write it down
            return State.BLOCKED, "the ledger does not say what that action brought; revert its updates by their names"
        if states:
            return State.SUCCEEDED, "it had changed nothing here"
        return State.NOT_APPLICABLE, "the ledger of this machine has nothing of that action"
    asked = _asked(hands)
    hands.ledger.note(order, State.APPLYING, hands.now(), ", ".join(kbs))
    for kb in kbs:
        keep_away(kb, hands.actions, hands.sources.machine)
    state, detail = _taken_away(hands, order, kbs, asked, wanted)
    _hidden(hands, kbs, hidden=True)  # what needs a boot to be gone is offered after it, and kept away all the same
    return (State.SUCCEEDED if state is State.NOT_APPLICABLE else state), detail


def _taken_away(
    hands: Hands, order: Order, kbs: Sequence[str], asked: tuple[Collected, UpdateAgent], wanted: Opened
) -> _Ended:
    collected, agent = asked
    ends = [
        _of_work(
            uninstall(
                kb,
                collected.facts,
                hands.program,
                agent,
                hands.sources.machine,
                hands.actions,
                leave_line=order.emergency,
                reboot=_reboot(order, wanted),
            ),
            wanted,
        )
        for kb in kbs
    ]
    worst = max((state for state, _ in ends), key=_BY_WEIGHT.index)
    return worst, "; ".join(f"{kb}: {detail}" for kb, (_, detail) in zip(kbs, ends, strict=True))


_BY_WEIGHT: Final = (State.NOT_APPLICABLE, State.SUCCEEDED, State.SUCCEEDED_WITH_WARNINGS, State.FAILED)


def _hidden(hands: Hands, kbs: Sequence[str], *, hidden: bool) -> _Ended:
    """Hide updates from the update agent, or let it offer them again."""
    agent, machine = hands.sources.agent(), hands.sources.machine
    offered = agent.search(ABSENT)
    changed = []
    for kb in kbs:
        found = offered.with_kb(kb)
        back = None if hidden else release(kb, hands.actions, agent, machine)
        if found is not None and found.hidden != hidden:
            agent.hide(found, hidden=hidden)
        if back is not None or (found is not None and found.hidden != hidden):
            changed.append(kb)
    if changed:
        return State.SUCCEEDED, ", ".join(changed)
    return State.NOT_APPLICABLE, "none of these is offered" if hidden else "none of these is hidden"


def _asked(hands: Hands) -> tuple[Collected, UpdateAgent]:
    """Return facts with what is offered, and the update agent, its records brought up to date.

    Raises:
        SystemCallError: it does not answer; then nothing is known of what is offered.
    """
    collected = collect(hands.sources)
    if collected.search is None or collected.agent is None:
        unread = collected.facts.unread
        raise SystemCallError(unread.get("offered") or unread.get("windows.updates") or "the update agent is not there")
    settle(hands.actions, collected.agent, hands.sources.machine)
    return collected, collected.agent


def _of_work(told: Told, wanted: Opened) -> _Ended:
    if told.refused:
        return State.FAILED, _why(told.refused)
    if told.work is None:
        return State.NOT_APPLICABLE, "it is not installed"
    each = [
        f"{b.update.name}: {b.result} ({code_text(b.code)})" for b in told.work.each if b.result != Result.SUCCEEDED
    ]
    if told.action is not None and told.action.state == "failed":
        return State.FAILED, "; ".join(each)
    if told.reboot_ordered:
        return State.SUCCEEDED, "; ".join((*each, "a reboot is ordered"))
    if told.reboot:
        return State.SUCCEEDED_WITH_WARNINGS, "; ".join((*each, f"a reboot is due, and {_without_it(wanted)}"))
    return (State.SUCCEEDED_WITH_WARNINGS if each else State.SUCCEEDED), "; ".join(each)


def _without_it(wanted: Opened) -> str:
    """Return why a reboot that is due was not ordered."""
    takes_slot = wanted.policy is not None and wanted.policy.slots and wanted.policy.reboot != "never"
    return "takes a restart slot" if takes_slot else "the policy orders none"


def _why(refused: tuple[Reason, ...]) -> str:
    return "; ".join(f"{reason.sentence} [{reason.code}] {' '.join(reason.subjects)}".strip() for reason in refused)


def _reboot(order: Order, wanted: Opened) -> RebootSetting:
    """Return what the policy and the order allow at once: nothing where it takes a restart slot; see `reboot`."""
    policy = wanted.policy
    if policy is None or policy.slots:
        return "never"
    return cast("RebootSetting", reboot_within(policy.reboot, order.reboot))
