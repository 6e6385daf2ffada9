"""Doing, checking and undoing a remedy. Every change is on record before it is made, and read back after.

* Affected keys are exported before the first change. Only values that a remedy names are touched; no key is removed.
* A second run finds everything as it should be and changes nothing.
* A step after a reboot waits until the machine has booted *later* than the changes before it. Values that were in place
  already count from the time their key was last written.
* Undo puts back what the record says was there, and only where the value still is what the remedy made it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from msgspec.structs import replace

from hotmend.model.errors import SystemCallError
from hotmend.model.verdict import Reason, refusal
from hotmend.servicing.message import Message, message
from hotmend.windows.action import Action, Actions, Change
from hotmend.windows.registry import Machine, Value, value_or_none
from hotmend.windows.remedies import Reboot, Remedy, Remove, Step, Stop, Write

STOP_SECONDS_MAX: Final = 60.0

VsmRuns = Callable[[], bool | None]
"""Whether virtual secure mode runs; None for unknown."""


class Standing(StrEnum):
    """How far a remedy is."""

    NOT_APPLIED = "not-applied"
    AWAITING_REBOOT = "awaiting-reboot"
    DONE = "done"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of a command.

    Attributes:
        standing: after it.
        sentences: what was found or done, in order.
        changed: how many values and services this command changed.
        refused: why it was not done, if so.
        action: the record, if there is one.
    """

    standing: Standing
    sentences: tuple[Message, ...]
    changed: int = 0
    refused: tuple[Reason, ...] = ()
    action: Action | None = None


def apply(remedy: Remedy, machine: Machine, actions: Actions, vsm_runs: VsmRuns) -> Outcome:
    """Do the steps up to the next reboot that is still due.

    Raises:
        HotmendError: Windows refused something; what was done until then is on record, and a second run goes on.
    """
    action = _open_action(remedy, actions)
    sentences: list[Message] = []
    changed = 0
    for number, step in enumerate(remedy.steps):
        if isinstance(step, Reboot):
            if boot_is_due(remedy.steps[:number], action, machine):
                break
            continue
        if _stands(step, remedy, number, machine):
            continue
        if action is None:
            action = _begin(remedy, machine, actions)
        action = _do(step, action, machine, actions)
        sentences.append(_sentence(step))
        changed += 1
    found = verify(remedy, machine, actions, vsm_runs)
    if action is not None:
        action = _settle(action, found, machine, actions, remedy)
    return Outcome(found.standing, (*sentences, *found.sentences), changed, action=action)


def verify(remedy: Remedy, machine: Machine, actions: Actions, vsm_runs: VsmRuns) -> Outcome:
    """Say how far the remedy is, changing nothing."""
    action = _open_action(remedy, actions)
    sentences: list[Message] = []
    standing = Standing.DONE
    for number, step in enumerate(remedy.steps):
        if isinstance(step, Reboot):
            if boot_is_due(remedy.steps[:number], action, machine):
                sentences.append(
                    message("A reboot is due: the last boot is not later than the change; nothing else completes it.")
                )
                standing = Standing.AWAITING_REBOOT
                break
        elif not isinstance(step, Stop) and not _in_place(step, machine):
            sentences.append(_missing(step))
            standing = Standing.NOT_APPLIED
            break
    if standing is Standing.DONE and remedy.proven_by_vsm:
        standing, sentence = _vsm_proof(vsm_runs())
        sentences.append(sentence)
    if standing is Standing.DONE:
        sentences.append(
            message("Done: everything is in place, and the last boot is later than the change where that counts.")
        )
    return Outcome(standing, tuple(sentences), action=action)


def undo(remedy_name: str, machine: Machine, actions: Actions) -> Outcome:
    """Put back what the newest record of this remedy says was there before it."""
    action = actions.last(remedy_name)
    if action is None:
        return Outcome(Standing.NOT_APPLIED, (message("Nothing to undo: no action of this remedy is on record."),))
    foreign = tuple(change for change in action.changes if _was_changed_by_others(change, machine))
    if foreign:
        reason = refusal(
            "changed-by-others",
            "A value is no longer what the remedy made it; undoing would lose that; the exports have what was there.",
            *(f"{change.key}\\{change.name}" for change in foreign),
        )
        return Outcome(Standing.UNPROVEN, (), refused=(reason,), action=action)
    sentences: list[Message] = []
    for change in reversed(action.changes):
        if value_or_none(machine, change.key, change.name) != change.before:
            _put(machine, change.key, change.name, change.before)
            value = _shown(change.before)
            sentences.append(message("{name} is {value} again.", name=f"{change.key}\\{change.name}", value=value))
    action = actions.save(replace(action, state="undone").happened(machine.now(), "undone"))
    changed = len(sentences)
    if changed and action.reboot_after is not None:
        sentences.append(message("The machine goes on as before after its next boot."))
    return Outcome(Standing.NOT_APPLIED, tuple(sentences), changed, action=action)


def boot_is_due(before: tuple[Step, ...], action: Action | None, machine: Machine) -> bool:
    """Return whether the last boot is not later than the changes that the steps `before` it made.

    A clock that went back (the boot lies in the future) proves nothing: then a reboot is due.
    """
    boot = machine.booted_at()
    if boot > machine.now():
        return True
    return any(boot <= moment for moment in _moments(before, action, machine))


def _moments(steps: tuple[Step, ...], action: Action | None, machine: Machine) -> list[datetime]:
    """Return when each value got to be what it is: from the record, else when its key was last written."""
    recorded = {(change.key, change.name): change.at for change in (action.changes if action else ())}
    found = [action.reboot_after] if action is not None and action.reboot_after is not None else []
    for step in steps:
        if isinstance(step, Write | Remove):
            moment = recorded.get((step.key, step.name))
            if moment is None and isinstance(step, Write):
                moment = machine.written_at(step.key)
            found += [moment] if moment is not None else []
    return found


def _open_action(remedy: Remedy, actions: Actions) -> Action | None:
    """Return the record this remedy goes on with: the newest that was not undone, unless it is of other values."""
    action = actions.last(remedy.name)
    if action is None:
        return None
    wanted = {(step.key, step.name): step.value for step in remedy.steps if isinstance(step, Write)}
    wanted_none = {(step.key, step.name) for step in remedy.steps if isinstance(step, Remove)}
    for change in action.changes:
        where = (change.key, change.name)
        if where in wanted and change.after != wanted[where]:
            return None
        if where not in wanted and where not in wanted_none:
            return None
    return action


def _begin(remedy: Remedy, machine: Machine, actions: Actions) -> Action:
    return actions.export(actions.begin(remedy.name, machine.now()), machine, remedy.keys)


def _stands(step: Step, remedy: Remedy, number: int, machine: Machine) -> bool:
    """Return whether nothing has to be done for this step.

    A service is stopped only on the way to a change: it runs again after the reboot that completes the remedy.
    """
    if isinstance(step, Stop):
        service = machine.service(step.service)
        later = [s for s in remedy.steps[number + 1 :] if isinstance(s, Write | Remove)]
        return service is None or not service.running or all(_in_place(s, machine) for s in later)
    return isinstance(step, Reboot) or _in_place(step, machine)


def _in_place(step: Write | Remove, machine: Machine) -> bool:
    wanted = step.value if isinstance(step, Write) else None
    return value_or_none(machine, step.key, step.name) == wanted


def _do(step: Step, action: Action, machine: Machine, actions: Actions) -> Action:
    """Do one step: on record first, then done, then read back."""
    if isinstance(step, Stop):
        action = actions.save(action.happened(machine.now(), f"stopping service {step.service}"))
        machine.stop_service(step.service, STOP_SECONDS_MAX)
        return actions.save(action.happened(machine.now(), f"service {step.service} is stopped"))
    if not isinstance(step, Write | Remove):
        return action
    wanted = step.value if isinstance(step, Write) else None
    now = value_or_none(machine, step.key, step.name)
    earlier = next((c for c in action.changes if (c.key, c.name) == (step.key, step.name)), None)
    # What the value was before the remedy is what the first record says, also when somebody brought it back meanwhile.
    change = Change(step.key, step.name, earlier.before if earlier else now, wanted, machine.now())
    others = tuple(c for c in action.changes if c is not earlier)
    action = actions.save(replace(action, changes=(*others, change)))
    _put(machine, step.key, step.name, wanted)
    return actions.save(action.happened(machine.now(), str(_sentence(step))))


def _put(machine: Machine, key: str, name: str, value: Value | None) -> None:
    """Write or remove a value, read it back, and see that no sibling changed."""
    siblings = _siblings(machine, key, name)
    if value is None:
        machine.remove(key, name)
    else:
        machine.write(key, name, value)
    if value_or_none(machine, key, name) != value:
        raise SystemCallError(
            "{name}: reads back otherwise than it was written",
            "something else writes it, too",
            name=f"{key}\\{name}",
        )
    if not siblings.items() <= _siblings(machine, key, name).items():
        raise SystemCallError("{key}: other values changed at the same time", "compare with the exported file", key=key)


def _siblings(machine: Machine, key: str, name: str) -> dict[str, Value]:
    return {other: value for other, value in (machine.values(key) or {}).items() if other.lower() != name.lower()}


def _settle(action: Action, found: Outcome, machine: Machine, actions: Actions, remedy: Remedy) -> Action:
    """Write down where the action stands now, if that is news."""
    state = {Standing.DONE: "done", Standing.AWAITING_REBOOT: "awaiting-reboot"}.get(found.standing, "running")
    latest = max((change.at for change in action.changes), default=None)
    has_reboot = any(isinstance(step, Reboot) for step in remedy.steps)
    due = latest if has_reboot and state == "awaiting-reboot" else action.reboot_after
    if state == action.state and due == action.reboot_after:
        return action
    return actions.save(replace(action, state=state, reboot_after=due).happened(machine.now(), state))


def _was_changed_by_others(change: Change, machine: Machine) -> bool:
    return value_or_none(machine, change.key, change.name) not in {change.before, change.after}


def _vsm_proof(runs: bool | None) -> tuple[Standing, Message]:
    if runs is None:
        return (
            Standing.UNPROVEN,
            message("Whether virtual secure mode runs cannot be read; the value alone proves nothing."),
        )
    if runs:
        return Standing.DONE, message("Virtual secure mode is configured and running.")
    return (
        Standing.UNPROVEN,
        message(
            "The machine booted with the value, and virtual secure mode still does not run: a problem of the hardware "
            "or hypervisor; follow the vendor's guide."
        ),
    )


def _sentence(step: Step) -> Message:
    match step:
        case Write():
            return message("{name} is {value}.", name=f"{step.key}\\{step.name}", value=_shown(step.value))
        case Remove():
            return message("{name} is removed.", name=f"{step.key}\\{step.name}")
        case Stop():
            return message("Service {name} is stopped.", name=step.service)
    return message("Reboot.")


def _missing(step: Write | Remove) -> Message:
    name = f"{step.key}\\{step.name}"
    if isinstance(step, Write):
        return message("{name} is not {value}.", name=name, value=_shown(step.value))
    return message("{name} is still there.", name=name)


def _shown(value: Value | None) -> str:
    return "absent" if value is None else value.shown()
