"""Rolling back: the latest update is taken away, the last working baseline installed, and the machine rebooted.

There is no way back by itself; these are the three steps that Microsoft names. They are one action whose record says
how far it is: it goes on after a reboot, or where it was interrupted, when the same command is given again. It is done
when the machine has booted after the last step, the update is gone and the baseline is there. Everything is looked for
before the first step: an update is not taken away when the baseline is not at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from hotmend.model.errors import HotmendError
from hotmend.model.verdict import Reason, refusal
from hotmend.servicing.evaluate import Program
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.message import Message, message
from hotmend.servicing.offered import line_channel
from hotmend.servicing.releases import Release
from hotmend.windows.action import Action, Actions
from hotmend.windows.agent import ABSENT, INSTALLED, UpdateAgent
from hotmend.windows.registry import Machine
from hotmend.windows.updates import Found, Work, code_text
from hotmend.windows.work import (
    RebootSetting,
    agent_reasons,
    fail,
    has_booted_since,
    noted,
    order_reboot,
    removable,
    succeeded,
)

SUBJECT: Final = "rollback"
KEPT_AWAY: Final = "kept-away"
"""An update that was taken away by itself, and is not to come again."""
_AWAY: Final = (SUBJECT, KEPT_AWAY)


@dataclass(frozen=True, slots=True)
class Rolled:
    """How far it is.

    Attributes:
        refused: why it was not begun, if so.
        action: the record; None where there is none.
        sentences: what this command did and found.
        reboot_ordered: a reboot was ordered.
    """

    refused: tuple[Reason, ...] = ()
    action: Action | None = None
    sentences: tuple[Message, ...] = ()
    reboot_ordered: bool = False


def rolled_back(actions: Actions) -> frozenset[str]:
    """Return the KBs that were rolled back here, or are being, and those that are kept away."""
    return frozenset(
        action.details["remove"] for action in actions.all() if action.subject in _AWAY and action.state != "undone"
    )


def keep_away(kb: str, actions: Actions, machine: Machine) -> None:
    """Keep an update from being installed again, until `release`; kept away already, it stays so."""
    if kb not in rolled_back(actions):
        begun = actions.begin(KEPT_AWAY, machine.now(), remove=kb)
        actions.save(replace(begun.happened(machine.now(), f"{kb} is kept away"), state="done"))


def open_rollback(actions: Actions) -> Action | None:
    """Return the action that goes on; None where none is open."""
    last = actions.last(SUBJECT)
    return last if last is not None and last.state != "done" else None


def release(kb: str, actions: Actions, agent: UpdateAgent, machine: Machine) -> Action | None:
    """Let an update that was rolled back be installed again, and return the action; None where there was none."""
    last = None
    for action in actions.all():
        if action.subject in _AWAY and action.state != "undone" and action.details["remove"] == kb:
            last = replace(action.happened(machine.now(), f"{kb} may be installed again"), state="undone")
            actions.save(last)
    hidden = agent.search(ABSENT).with_kb(kb) if last is not None else None
    if hidden is not None and hidden.hidden:
        agent.hide(hidden, hidden=False)
    return last


def rollback(
    facts: Callable[[], MachineFacts],
    program: Program,
    agent: UpdateAgent,
    machine: Machine,
    actions: Actions,
    *,
    to: str | None,
    reboot: RebootSetting,
) -> Rolled:
    """Begin, or go on.

    Args:
        facts: of this machine; asked where a new action begins.
        program: calendar, products and rules.
        agent: of this machine.
        machine: this one.
        actions: its records.
        to: KB of the baseline; None: the last one that was installed before the update.
        reboot: whether the third step is done, too; `if-required` is always here, because the step is required.

    Raises:
        HotmendError: the agent failed as a whole; the record says so, and the same command tries again.
    """
    action = open_rollback(actions)
    if action is None:
        plan = _plan(facts(), program, agent, machine, to)
        if not isinstance(plan, _Plan):
            return Rolled(plan)
        action = actions.begin(SUBJECT, machine.now(), remove=plan.remove, baseline=plan.baseline)
    sentences: list[Message] = []
    for step in (_remove, _restore):
        action, told, goes_on = step(action, agent, machine, actions)
        sentences += told
        if not goes_on:
            return _rest(action, sentences, machine, actions, reboot)
    action, told = _prove(action, agent, machine, actions)
    return _rest(action, [*sentences, *told], machine, actions, reboot)


@dataclass(frozen=True, slots=True)
class _Plan:
    remove: str
    baseline: str


def _plan(
    facts: MachineFacts, program: Program, agent: UpdateAgent, machine: Machine, to: str | None
) -> _Plan | tuple[Reason, ...]:
    """Return what goes and what comes, or why it cannot be done; everything must be at hand."""
    known = _installed_releases(facts, program, machine.now())
    if not known:
        return (
            refusal(
                "nothing-to-roll-back",
                "Which update is the latest is not known: the update history has none of a channel with baselines.",
            ),
        )
    latest = known[-1]
    baseline = to or next((r.id for r in reversed(known[:-1]) if r.kind.is_baseline), None)
    if baseline is None or baseline == latest.id:
        return (
            refusal(
                "no-earlier-baseline",
                "No baseline was installed before the latest update, as far as the history goes; name one by --to.",
                latest.id,
            ),
        )
    installed = agent.search(INSTALLED, superseded=True)
    found = installed.with_kb(latest.id)
    if found is None:
        return (
            refusal(
                "latest-update-not-found",
                "The latest update of the history is not among those that the update agent has as installed.",
                latest.id,
            ),
        )
    reasons = (*removable(found, machine), *agent_reasons(agent))
    if installed.with_kb(baseline) is None and agent.search(ABSENT, superseded=True).with_kb(baseline) is None:
        reasons = (
            *reasons,
            refusal(
                "baseline-not-at-hand",
                "The baseline is neither installed nor offered, so nothing was taken away; provide it or name another.",
                baseline,
            ),
        )
    return reasons or _Plan(latest.id, baseline)


def _installed_releases(facts: MachineFacts, program: Program, now: datetime) -> list[Release]:
    """Return the releases of the machine's channel that are installed, oldest first."""
    channel = line_channel(facts, program, now)
    updates = facts.windows.updates if facts.windows is not None else None
    if channel is None or updates is None:
        return []
    present = (u.kb for u in updates if u.state in {"installed", "pending-reboot"})
    found = (program.calendar.find(channel.name, kb) for kb in present)
    return sorted((each for each in found if each is not None), key=lambda each: (each.day, each.id))


_Stepped = tuple[Action, list[Message], bool]
"""The action after a step, what was done, and whether the next step may come."""


def _remove(action: Action, agent: UpdateAgent, machine: Machine, actions: Actions) -> _Stepped:
    kb = action.details["remove"]
    if "removed" in action.details:
        return action, [], True
    found = agent.search(INSTALLED, superseded=True).with_kb(kb)
    if found is None:
        return _marked(action, "removed", machine, actions), [message("{kb} is not installed any more.", kb=kb)], True
    return _done("removed", kb, agent.uninstall, found, action, machine, actions)


def _restore(action: Action, agent: UpdateAgent, machine: Machine, actions: Actions) -> _Stepped:
    kb = action.details["baseline"]
    if "restored" in action.details:
        return action, [], True
    if agent.search(INSTALLED, superseded=True).with_kb(kb) is not None:
        return _marked(action, "restored", machine, actions), [message("{kb} is installed.", kb=kb)], True
    if agent.boot_comes_first():
        action = _waiting(action, machine, actions)
        return (
            action,
            [message("{kb} can be installed only after a reboot; give the same command after it.", kb=kb)],
            False,
        )
    found = agent.search(ABSENT, superseded=True).with_kb(kb)
    if found is None:
        action = fail(action, f"{kb} is not offered any more", machine, actions)
        return (
            action,
            [message("{kb} is not offered any more; provide it and give the same command again.", kb=kb)],
            False,
        )
    return _done("restored", kb, agent.install, found, action, machine, actions)


def _done(
    mark: str,
    kb: str,
    work: Callable[[list[Found]], Work],
    found: Found,
    action: Action,
    machine: Machine,
    actions: Actions,
) -> _Stepped:
    """Do one step: on record first, then what became of it."""
    action = actions.save(replace(action, state="running").happened(machine.now(), f"{kb} is about to be {mark}"))
    try:
        came = work([found])
    except HotmendError as error:
        fail(action, str(error), machine, actions)
        raise
    action = noted(action, came, machine)
    if not succeeded(came):
        told = message("{kb}: {result} {code}.", kb=kb, result=came.each[0].result, code=code_text(came.each[0].code))
        return fail(action, f"{kb} was not {mark}", machine, actions), [told], False
    removed = mark == "removed"
    told = message("{kb} is taken away.", kb=kb) if removed else message("{kb} is installed.", kb=kb)
    return _marked(action, mark, machine, actions), [told], True


def _marked(action: Action, mark: str, machine: Machine, actions: Actions) -> Action:
    details = {**action.details, mark: machine.now().isoformat()}
    return _waiting(replace(action, details=details), machine, actions)


def _waiting(action: Action, machine: Machine, actions: Actions) -> Action:
    return actions.save(replace(action, state="awaiting-reboot", reboot_after=machine.now()))


def _prove(action: Action, agent: UpdateAgent, machine: Machine, actions: Actions) -> tuple[Action, list[Message]]:
    """After the boot: the update is gone, the baseline is there, and the update is not offered again."""
    remove, baseline = action.details["remove"], action.details["baseline"]
    if not has_booted_since(action.reboot_after, machine):
        return action, []
    installed = agent.search(INSTALLED, superseded=True)
    wrong: list[Message] = []
    if installed.with_kb(remove) is not None:
        wrong.append(message("{kb} is still installed, or again.", kb=remove))
    if installed.with_kb(baseline) is None:
        wrong.append(message("{kb} is not installed.", kb=baseline))
    if wrong:
        marks = ("removed",) if installed.with_kb(remove) is not None else ("restored",)
        details = {name: value for name, value in action.details.items() if name not in marks}
        return fail(replace(action, details=details), " ".join(map(str, wrong)), machine, actions), wrong
    told = [
        message(
            "{remove} is gone, {baseline} is installed, and the machine has booted since.",
            remove=remove,
            baseline=baseline,
        )
    ]
    offered = agent.search(ABSENT).with_kb(remove)
    if offered is not None and not offered.hidden:
        agent.hide(offered, hidden=True)
        told.append(message("{kb} is hidden: the update agent does not offer it by itself.", kb=remove))
    return actions.save(replace(action.happened(machine.now(), " ".join(map(str, told))), state="done")), told


def _rest(
    action: Action, sentences: list[Message], machine: Machine, actions: Actions, reboot: RebootSetting
) -> Rolled:
    """Do the third step, or say that it is due."""
    if action.state != "awaiting-reboot":
        return Rolled((), action, tuple(sentences))
    if reboot == "never":
        sentences.append(message("The reboot is due; give the same command after it."))
        return Rolled((), action, tuple(sentences))
    action = order_reboot(action, machine, actions)
    return Rolled((), action, tuple(sentences), reboot_ordered=True)
