"""Which restarts are still due, in which order they are safe, and doing them one after another.

What is fixed in memory needs none: that is what sets this apart from tools that compare files. What a restart would
make worse, or what would cost people their sessions, is named and left alone.
"""

from __future__ import annotations

import graphlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from hotmend.agent.census.assessment import Assessment, Due, OldCode, RunningProcess, owner_text, take_assessment
from hotmend.agent.census.code_state import CodeState
from hotmend.agent.census.never import Never
from hotmend.agent.census.owners import OwnerKind
from hotmend.agent.census.systemd import UnitFacts, active_state, facts_with_along, restart_unit
from hotmend.agent.census.units import unit_of
from hotmend.agent.record.history import History, Restarted
from hotmend.model.errors import HotmendError

OF_ONE_SESSION: Final = (
    "user@*.service", "getty@*.service", "serial-getty@*.service", "console-getty.service", "container-getty@*.service",
    "autovt@*.service",
)  # fmt: skip
"""Masks of services that end, or begin anew, with the session of a person."""

SESSIONS: Final = (
    *OF_ONE_SESSION,
    "dbus.service", "dbus-broker.service", "systemd-logind.service", "elogind.service", "user-runtime-dir@*.service",
    "display-manager.service", "gdm*.service", "lightdm.service", "sddm.service", "lxdm.service", "nodm.service",
    "slim.service", "wdm.service", "xdm.service", "greetd.service", "init.scope",
)  # fmt: skip
"""Masks of units whose restart ends sessions of people, or is not possible."""

CONNECTIONS: Final = ("NetworkManager.service", "wpa_supplicant*.service", "openvpn*.service", "wg-quick@*.service")
"""Masks of units whose restart may cut off whoever asks for it."""


class How(StrEnum):
    """What takes an owner's processes to the new code."""

    RESTART = "restart"
    REBOOT = "reboot"
    HAND = "by hand"


@dataclass(frozen=True, slots=True)
class Need:
    """One owner of processes with old code.

    Attributes:
        name: unit, or what else it is, for people.
        how: what it takes.
        reason: why not a restart by hotmend; "" where it is one.
        processes: that run old code.
    """

    name: str
    how: How
    reason: str
    processes: tuple[OldCode, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is due.

    Attributes:
        restarts: units, in the order in which they are to be restarted.
        others: what hotmend does not restart.
    """

    restarts: tuple[Need, ...]
    others: tuple[Need, ...]


def plan_restarts(
    processes: Sequence[RunningProcess],
    due: Iterable[Due],
    units: Mapping[str, UnitFacts],
    never: Never,
    own_unit: str = "",
) -> Plan:
    """Return what has to be done for each owner, restarts in a safe order.

    Args:
        processes: all of the machine.
        due: owners whose processes run old code.
        units: what the service manager says of the units among them, and of those that go where they go; one that
            is missing is not restarted.
        never: what must not be touched.
        own_unit: the unit that this process runs in.
    """
    worse = {p.owner.unit for p in processes if any(i.state is CodeState.DISK_OLD for i in p.images)}
    spared = {p.owner.unit for p in processes if p.owner.unit and never.names(p.pid, p.comm, p.owner.unit)}
    ground = _Ground(units, never, own_unit, frozenset(worse), frozenset(spared))
    needs = [_need(each, ground) for each in due]
    restarts = {need.name: need for need in needs if need.how is How.RESTART}
    order, circle = _order(list(restarts), units)
    others = [need for need in needs if need.how is not How.RESTART]
    others += [_instead(restarts[name], "its order among the others goes round in a circle") for name in circle]
    return Plan(tuple(restarts[name] for name in order), tuple(others))


def _instead(need: Need, reason: str) -> Need:
    return Need(need.name, How.HAND, reason, need.processes)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What stands against restarts.

    Attributes:
        units: what the service manager says.
        never: what must not be touched.
        own: the unit that this process runs in.
        worse: units of which a restart would bring old code back.
        spared: units with a process that is never touched, whatever code it runs.
    """

    units: Mapping[str, UnitFacts]
    never: Never
    own: str
    worse: frozenset[str]
    spared: frozenset[str]

    def of(self, unit: str) -> tuple[How, str] | None:
        """Return what a restart of a unit takes instead, and why; None where nothing of its own stands against it."""
        if unit in self.spared or self.never.names(0, "", unit):
            return How.REBOOT, "it is on the list of what is never touched"
        if _matches(SESSIONS, unit):
            return How.REBOOT, "its restart ends sessions"
        if unit in self.worse:
            return How.HAND, "a restart would bring old code back: bring the disk up to date first"
        if unit == self.own:
            return How.HAND, "hotmend runs in it"
        if _matches(CONNECTIONS, unit):
            return How.HAND, "its restart may cut the connection that you are on"
        return None

    def along(self, unit: str) -> tuple[str, ...] | None:
        """Return the units that are up and go where a unit goes, however far; None where nobody can say."""
        found: dict[str, None] = {}
        left = [unit]
        while left:
            for name in sorted(self.units[left.pop()].along - found.keys() - {unit}):
                if name not in self.units:
                    return None
                if self.units[name].up:
                    found[name] = None
                    left.append(name)
        return tuple(found)


def _need(due: Due, ground: _Ground) -> Need:
    how, reason = _how(due, ground)
    return Need(owner_text(due.owner, due.processes), how, reason, due.processes)


def _how(due: Due, ground: _Ground) -> tuple[How, str]:
    unit = due.owner.unit
    if any(ground.never.names(old.pid, old.comm, unit) for old in due.processes):
        return How.REBOOT, "it is on the list of what is never touched"
    match due.owner.kind:
        case OwnerKind.SESSION:
            return How.HAND, "it is somebody's session: log out and in again"
        case OwnerKind.USER_SERVICE:
            return How.HAND, f"systemctl --user restart {due.owner.name}, by that user"
        case OwnerKind.CONTAINER:
            return How.HAND, "it is a container: renew its image and start it anew"
        case OwnerKind.NONE:
            return How.HAND, "no service manager keeps it"
    facts = ground.units.get(unit)
    against = ground.of(unit)
    if against is not None:
        return against
    if due.owner.kind is OwnerKind.SCOPE or facts is None or not facts.loaded:
        return How.HAND, "the service manager cannot start it again"
    if facts.refuses:
        return How.REBOOT, "its unit refuses to be restarted by hand"
    along = ground.along(unit)
    if along is None:
        return How.HAND, "the service manager does not say what would be restarted with it"
    others = ((name, other) for name in along if (other := ground.of(name)) is not None)
    return next(((How.HAND, f"{name} goes with it: {why}") for name, (_, why) in others), (How.RESTART, ""))


def _matches(masks: Iterable[str], name: str) -> bool:
    return any(fnmatchcase(name, mask) for mask in masks)


def _order(names: Sequence[str], units: Mapping[str, UnitFacts]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return units, each behind what it is started after or needs; and those that go round in a circle."""
    left, circle = sorted(names), list[str]()
    while True:
        graph = {name: {n for n in units[name].behind if n in left and n != name} for name in left}
        try:
            return tuple(_sorted(graph)), tuple(circle)
        except graphlib.CycleError as error:
            found = set(error.args[1])
            circle += sorted(found)
            left = [name for name in left if name not in found]


def _sorted(graph: Mapping[str, set[str]]) -> Iterator[str]:
    """Yield the names of a graph, each behind those it points to, and by name among equals."""
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        yield from ready
        sorter.done(*ready)


@dataclass(frozen=True, slots=True)
class Ended:
    """How one restart ended: `restarted`, `already` (another unit's restart had done it), or `failed`."""

    unit: str
    outcome: str
    detail: str

    @property
    def good(self) -> bool:
        """Whether its processes run the new code."""
        return self.outcome != "failed"


@dataclass(frozen=True, slots=True)
class Means:
    """What restarting needs of the machine.

    Attributes:
        still_old: pids of a unit's processes with old code, as they are now.
        restart: has the service manager restart a unit, and waits until it has; raises `HotmendError` where it fails.
        state: what the service manager says of a unit now, such as `active`.
        record: writes a line into the history, on the disk when it returns.
    """

    still_old: Callable[[str], tuple[int, ...]]
    restart: Callable[[str], None]
    state: Callable[[str], str]
    record: Callable[[Restarted], None]


def do_restarts(plan: Plan, means: Means, run: str = "") -> tuple[Ended, ...]:
    """Restart the units of a plan, one after another; the first failure ends it.

    Args:
        plan: what is due.
        means: of the machine.
        run: id of the run it belongs to, for the history.
    """
    ended: list[Ended] = []
    for need in plan.restarts:
        ended.append(_restart(need.name, means, run))
        if not ended[-1].good:
            break
    return tuple(ended)


def _restart(unit: str, means: Means, run: str) -> Ended:
    if not means.still_old(unit):
        return Ended(unit, "already", "it came with the restart of another")
    means.record(Restarted(unit=unit, outcome="", run=run))
    try:
        means.restart(unit)
        ended = _judged(unit, means)
    except HotmendError as error:
        ended = Ended(unit, "failed", str(error))
    means.record(Restarted(unit=unit, outcome=ended.outcome, detail=ended.detail, run=run))
    return ended


def _judged(unit: str, means: Means) -> Ended:
    """Look at a unit that was restarted."""
    if (state := means.state(unit)) != "active":
        return Ended(unit, "failed", f"after its restart it is {state}")
    if old := means.still_old(unit):
        return Ended(unit, "failed", f"processes of it run old code after its restart: {', '.join(map(str, old))}")
    return Ended(unit, "restarted", "")


def plan_of(assessment: Assessment, never: Never) -> Plan:
    """Return what has to be done on this machine, asking its service manager."""
    due = assessment.restarts
    units = facts_with_along(each.owner.unit for each in due if each.owner.kind is OwnerKind.SERVICE)
    return plan_restarts(assessment.processes, due, units, never, unit_of(os.getpid()))


def means_of(history: History) -> Means:
    """Return what restarting needs of this machine."""

    def still_old(unit: str) -> tuple[int, ...]:
        due = take_assessment().restarts
        return tuple(old.pid for each in due if each.owner.unit == unit for old in each.processes)

    return Means(still_old, restart_unit, active_state, history.append)
