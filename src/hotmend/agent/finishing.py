"""What memory cannot have, in the window: restarts of single services in a safe order, and the reboot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hotmend.agent.census.assessment import Assessment, take_assessment
from hotmend.agent.census.code_state import CodeState
from hotmend.agent.census.never import Never
from hotmend.agent.census.restarts import Ended, do_restarts, means_of, plan_of
from hotmend.agent.census.systemd import reboot_machine
from hotmend.agent.machine import Machine, baseline_window
from hotmend.agent.rebooting import RebootDecision, decide_reboot
from hotmend.agent.record.history import Rebooting
from hotmend.agent.record.hold import read_hold
from hotmend.agent.uplink.asking import slot_of
from hotmend.agent.uplink.slot import NO_SLOT, Slot
from hotmend.linux.apt import at_work
from hotmend.model.errors import HotmendError


@dataclass(frozen=True, slots=True)
class Finished:
    """What was restarted, and whether the machine is being rebooted."""

    restarts: tuple[Ended, ...]
    reboot: RebootDecision


def finish(
    machine: Machine, *, installed: bool, reboot: Callable[[], None] | None = None, seen: Assessment | None = None
) -> Finished:
    """Restart what is due where the configuration wants that, and reboot where its policy does.

    Args:
        machine: which; its window and hold are asked before each restart.
        installed: the run before this has installed something.
        reboot: reboots; the service manager by default.
        seen: a look at the machine since which nothing was changed; a new one by default.

    Raises:
        HotmendError: the history cannot be written; nothing was done then.
    """
    assessment = seen or take_assessment(now=machine.clock())
    done: tuple[Ended, ...] = ()
    slot = slot_of(machine)
    if machine.configuration.restart and slot is not Slot.MISSING and not _forbidden(machine):
        plan = plan_of(assessment, Never(*machine.configuration.never))
        means = means_of(machine.history)
        done = do_restarts(plan, replace(means, restart=lambda unit: _restart(machine, unit, means.restart)))
        assessment = take_assessment(now=machine.clock())
    decision = decide_reboot(
        machine.configuration.reboot,
        assessment.reboot,
        installed=installed,
        in_window=baseline_window(machine.configuration, machine.clock()).allowed,
        obstacles=(*_obstacles(machine, assessment), *([NO_SLOT] if slot is Slot.MISSING else [])),
    )
    if decision.reboot:
        machine.record(Rebooting(reasons=assessment.reboot or (decision.reason,)))
        (reboot or reboot_machine)()
    return Finished(done, decision)


def _forbidden(machine: Machine) -> str:
    """Return why nothing may be restarted now, or ""."""
    now = machine.clock()
    if hold := read_hold(machine.places.hold, now):
        return str(hold)
    decision = baseline_window(machine.configuration, now)
    return _busy() if decision.allowed else str(decision.cause.message)


def _busy() -> str:
    """Return why nobody may restart or reboot anything whatever the window says, or ""."""
    busy = at_work()
    return "" if busy is None else f"apt or dpkg is at work, process {busy}"


def _restart(machine: Machine, unit: str, restart: Callable[[str], None]) -> None:
    if why := _forbidden(machine) or (slot_of(machine) is Slot.MISSING and "the restart slot is over"):
        raise HotmendError(f"not restarted: {why}")
    restart(unit)


def _obstacles(machine: Machine, assessment: Assessment) -> tuple[str, ...]:
    """Return what a reboot would make worse."""
    hold = read_hold(machine.places.hold, machine.clock())
    old = {i.disk_path for p in assessment.processes for i in p.images if i.state is CodeState.DISK_OLD}
    on_disk = [f"it would bring old code back: {', '.join(sorted(old))}"] if old else []
    busy = [why] if (why := _busy()) else []
    return (*([str(hold)] if hold else []), *on_disk, *busy)
