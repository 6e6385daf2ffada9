"""Installing and removing updates: what is refused, what is on record before it is done, and what comes of it.

Everything is checked before anything is asked of the agent, and what cannot be done as a whole is not begun: one update
that would lead off the hotpatch line keeps all others out, too, until it is excluded or `leave_line` says that it may.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from msgspec.structs import replace

from hotmend.model.errors import HotmendError
from hotmend.model.verdict import Reason, refusal
from hotmend.servicing.evaluate import Program
from hotmend.servicing.facts import MachineFacts
from hotmend.servicing.level import Level, windows_level
from hotmend.servicing.message import Message
from hotmend.servicing.offered import is_outside, line_channel, line_reasons
from hotmend.servicing.releases import Line
from hotmend.windows.action import Action, Actions
from hotmend.windows.agent import INSTALLED, UpdateAgent
from hotmend.windows.assess import Assessment, line_effects
from hotmend.windows.facts_updates import PACKAGES_KEY
from hotmend.windows.registry import Machine
from hotmend.windows.updates import Found, Result, Work, code_text

RebootSetting = Literal["if-required", "never", "always"]
REBOOT_SETTINGS: Final[tuple[RebootSetting, ...]] = ("if-required", "never", "always")
REBOOT_SECONDS: Final = 60
"""What people who are logged on have until the machine goes down."""
SUBJECTS: Final = ("install", "uninstall")


@dataclass(frozen=True, slots=True)
class Told:
    """What came of it.

    Attributes:
        refused: why nothing was done, if so.
        work: what the agent did; None where it was not asked.
        action: the record.
        reboot: a reboot is due.
        reboot_ordered: and was ordered.
    """

    refused: tuple[Reason, ...] = ()
    work: Work | None = None
    action: Action | None = None
    reboot: bool = False
    reboot_ordered: bool = False


def install(
    assessment: Assessment,
    program: Program,
    agent: UpdateAgent,
    machine: Machine,
    actions: Actions,
    *,
    leave_line: bool,
    reboot: RebootSetting,
    write: Callable[[Message], str] = str,
) -> Told:
    """Install what the assessment has chosen; `write` puts what a reason rests on into the words of whoever reads it.

    Raises:
        HotmendError: the agent failed as a whole; the record says so.
    """
    chosen = assessment.chosen
    reasons = (*install_reasons(assessment, program, write, leave_line=leave_line), *agent_reasons(agent))
    if reasons or not chosen:
        return Told(reasons)
    action = begin("install", chosen, machine, actions)
    try:
        work = agent.install(chosen)
    except HotmendError as error:
        fail(action, str(error), machine, actions)
        raise
    return complete(work, action, machine, actions, reboot)


def install_reasons(
    assessment: Assessment, program: Program, write: Callable[[Message], str] = str, *, leave_line: bool
) -> tuple[Reason, ...]:
    """Return why the chosen updates are not installed together; `write` as for `install`."""
    found = line_effects(assessment.facts, program, assessment.chosen, assessment.at).values()
    return () if leave_line else line_reasons(found, write)


def agent_reasons(agent: UpdateAgent) -> tuple[Reason, ...]:
    """Return why nothing can be asked of the agent now."""
    if agent.busy():
        return (
            refusal(
                "update-client-busy",
                "The update agent is installing or removing something already; wait until it is done.",
            ),
        )
    if agent.boot_comes_first():
        return (
            refusal(
                "reboot-comes-first",
                "Something that was installed waits for a boot, and nothing can be installed before it; reboot first.",
            ),
        )
    return ()


def uninstall(
    kb: str,
    facts: MachineFacts,
    program: Program,
    agent: UpdateAgent,
    machine: Machine,
    actions: Actions,
    *,
    leave_line: bool,
    reboot: RebootSetting,
    write: Callable[[Message], str] = str,
) -> Told:
    """Take one update away; nothing happens where it is not installed. `write` as for `install`.

    Raises:
        HotmendError: the agent failed as a whole; the record says so.
    """
    found = agent.search(INSTALLED, superseded=True).with_kb(kb)
    if found is None:
        return Told()
    reasons = (
        *removable(found, machine),
        *(() if leave_line else _line_reasons(found, facts, program, machine.now(), write)),
        *agent_reasons(agent),
    )
    if reasons:
        return Told(reasons)
    action = begin("uninstall", [found], machine, actions)
    try:
        work = agent.uninstall([found])
    except HotmendError as error:
        fail(action, str(error), machine, actions)
        raise
    return complete(work, action, machine, actions, reboot)


def removable(found: Found, machine: Machine) -> tuple[Reason, ...]:
    """Return why the agent does not take an update away; where packages of it are known, by what DISM would."""
    if found.uninstallable:
        return ()
    packages = [name for name in machine.subkeys(PACKAGES_KEY) or () if any(kb in name for kb in found.kbs)]
    commands = (f"dism /online /remove-package /packagename:{name}" for name in packages)
    return (
        refusal(
            "not-uninstallable",
            "The update agent does not take this update away; DISM may, package by package.",
            found.name,
            *commands,
        ),
    )


def _line_reasons(
    found: Found, facts: MachineFacts, program: Program, now: datetime, write: Callable[[Message], str]
) -> tuple[Reason, ...]:
    levels = _without(found, facts, program, now)
    if levels is None:
        return ()
    before, after = levels
    if after.line is Line.ON or before.line is Line.OFF:
        return ()
    return (
        refusal(
            "removal-leaves-hotpatch-line",
            "Without this update the machine would not be on the hotpatch line, or nobody knows whether it would; say "
            "--leave-line if it is to go nevertheless.",
            found.name,
            write(after.causes[0].message),
        ),
    )


def _without(found: Found, facts: MachineFacts, program: Program, now: datetime) -> tuple[Level, Level] | None:
    """Return the level before and after; None where the update does not touch the line."""
    channel, windows = line_channel(facts, program, now), facts.windows
    if channel is None or windows is None or is_outside(found.offer, channel):
        return None
    kept = None if windows.updates is None else tuple(u for u in windows.updates if u.kb not in found.kbs)
    rest = replace(windows, updates=kept, revision=None)  # its build would be another, which is not known here
    return windows_level(windows, channel, program.calendar), windows_level(rest, channel, program.calendar)


def begin(subject: str, updates: Sequence[Found], machine: Machine, actions: Actions) -> Action:
    """Write down what is about to be done."""
    names = " ".join(update.name for update in updates)
    action = actions.begin(subject, machine.now(), updates=names)
    titles = "; ".join(update.title for update in updates)
    return actions.save(action.happened(machine.now(), f"asking the update agent to {subject}: {titles}"))


def fail(action: Action, why: str, machine: Machine, actions: Actions) -> Action:
    """Write down that an action came to nothing."""
    return actions.save(replace(action.happened(machine.now(), why), state="failed"))


def noted(action: Action, work: Work, machine: Machine) -> Action:
    """Return the action with what became of each update."""
    for each in work.each:
        code = f" ({code_text(each.code)})" if each.code else ""
        action = action.happened(machine.now(), f"{each.update.name}: {each.result}{code}")
    return action


def succeeded(work: Work) -> bool:
    """Return whether every update is in place, or gone."""
    return all(each.result is Result.SUCCEEDED for each in work.each)


def complete(work: Work, action: Action, machine: Machine, actions: Actions, setting: RebootSetting) -> Told:
    """Write down what became of it, and reboot if that is due and wanted."""
    action = noted(action, work, machine)
    due = work.reboot or any(each.reboot for each in work.each)
    state: Literal["failed", "awaiting-reboot", "done"] = "awaiting-reboot" if due else "done"
    if not succeeded(work):
        state = "failed"
    action = actions.save(replace(action, state=state, reboot_after=machine.now() if due else None))
    ordered = setting == "always" or (setting == "if-required" and due)
    if ordered:
        action = order_reboot(action, machine, actions)
    return Told((), work, action, due, ordered)


def order_reboot(action: Action, machine: Machine, actions: Actions) -> Action:
    """Order a reboot; on record first."""
    action = actions.save(action.happened(machine.now(), f"reboot ordered, in {REBOOT_SECONDS} s"))
    machine.reboot(REBOOT_SECONDS, f"hotmend: {action.id}")
    return action


def settle(actions: Actions, agent: UpdateAgent, machine: Machine) -> tuple[Action, ...]:
    """Bring records up to date with what has happened since: a boot, or that hotmend was ended in the middle.

    Returns:
        the actions that changed.
    """
    changed = []
    for action in actions.all():
        if action.subject not in SUBJECTS:
            continue
        if action.state == "awaiting-reboot" and has_booted_since(action.reboot_after, machine):
            changed.append(actions.save(replace(action.happened(machine.now(), "booted"), state="done")))
        elif action.state == "running" and not agent.busy():
            there = {kb for update in agent.search(INSTALLED).updates for kb in update.kbs}
            names = " ".join(name for name in action.details.get("updates", "").split() if name in there)
            what = f"interrupted before it was told what came of it; installed now: {names or 'none'}"
            changed.append(fail(action, what, machine, actions))
    return tuple(changed)


def has_booted_since(moment: datetime | None, machine: Machine) -> bool:
    """Return whether the machine booted after a moment. A boot in the future, by a clock that went back, is none."""
    boot = machine.booted_at()
    return moment is not None and moment < boot <= machine.now()
