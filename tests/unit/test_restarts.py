"""Which restarts are due, in which order, what is named instead, and that the first failure ends it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotmend.agent.census.assessment import RunningProcess, restarts_due
from hotmend.agent.census.code_state import RunningImage
from hotmend.agent.census.never import DEFAULT_COMMANDS, DEFAULT_UNITS, Never
from hotmend.agent.census.owners import NOBODY, Owner, OwnerKind
from hotmend.agent.census.restarts import Ended, How, Means, Need, Plan, do_restarts, plan_restarts
from hotmend.agent.census.systemd import UnitFacts, parse_units, reboot_machine
from hotmend.agent.rebooting import decide_reboot
from hotmend.agent.record.history import Restarted
from hotmend.model.errors import RemoteError
from tests.unit.test_assessment import NEW, NEXT, PATCH, image

NEVER = Never((*DEFAULT_UNITS, "database.service"), DEFAULT_COMMANDS)


def service(name: str) -> Owner:
    return Owner(OwnerKind.SERVICE, f"{name}.service")


def old(pid: int, owner: Owner, *images: RunningImage, comm: str = "x") -> RunningProcess:
    return RunningProcess(pid, comm, 1, owner, (image(disk=NEW), *images))


def unit(name: str, *behind: str) -> UnitFacts:
    return UnitFacts(name, loaded=True, active="active", refuses=False, behind=frozenset(behind))


def planned(*processes: RunningProcess, own: str = "", units: Sequence[UnitFacts] = ()) -> Plan:
    found = {facts.name: facts for facts in units}
    for each in processes:
        if each.owner.kind is OwnerKind.SERVICE:
            found.setdefault(each.owner.name, unit(each.owner.name))
    return plan_restarts(processes, restarts_due(processes), found, NEVER, own)


@pytest.mark.parametrize(
    ("owner", "how", "words"),
    [
        (service("nginx"), How.RESTART, ""),
        (service("dbus"), How.REBOOT, "sessions"),
        (service("systemd-logind"), How.REBOOT, "sessions"),
        (service("getty@tty1"), How.REBOOT, "sessions"),
        (service("gdm3"), How.REBOOT, "sessions"),
        (service("user@1000"), How.REBOOT, "sessions"),
        (Owner(OwnerKind.SCOPE, "init.scope"), How.REBOOT, "sessions"),
        (service("docker"), How.REBOOT, "never touched"),
        (service("database"), How.REBOOT, "never touched"),
        (service("NetworkManager"), How.HAND, "connection"),
        (Owner(OwnerKind.SCOPE, "work.scope"), How.HAND, "cannot start it again"),
        (Owner(OwnerKind.SESSION, "3", 1000), How.HAND, "log out"),
        (Owner(OwnerKind.USER_SERVICE, "dbus.service", 1000), How.HAND, "systemctl --user restart dbus.service"),
        (Owner(OwnerKind.CONTAINER, "docker 3f3f"), How.HAND, "renew its image"),
        (NOBODY, How.HAND, "no service manager"),
    ],
)
def test_what_it_takes(owner: Owner, how: How, words: str) -> None:
    plan = planned(old(7, owner))
    (need,) = (*plan.restarts, *plan.others)
    assert need.how is how
    assert words in need.reason
    assert bool(plan.restarts) == (how is How.RESTART)


def test_a_process_that_is_never_touched_keeps_its_unit_from_being_restarted() -> None:
    (need,) = planned(old(7, service("mine"), comm="containerd-shim")).others
    assert need.how is How.REBOOT


def test_a_process_that_is_never_touched_keeps_its_unit_also_where_it_runs_new_code() -> None:
    shim = RunningProcess(8, "containerd-shim", 1, service("mine"), (image(),))
    (need,) = planned(old(7, service("mine")), shim).others
    assert need.how is How.REBOOT


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("database.service", "it is on the list of what is never touched"),
        ("user@1000.service", "its restart ends sessions"),
        ("NetworkManager.service", "its restart may cut the connection that you are on"),
        ("me.service", "hotmend runs in it"),
        ("helper.service", "it is on the list of what is never touched"),
    ],
)
def test_a_unit_is_not_restarted_with_which_goes_what_must_not(name: str, why: str) -> None:
    """redis takes a target along, and that another unit; a process of `helper` is never touched."""
    units = [
        replace(unit("redis.service"), along=frozenset({"cache.target", "idle.service"})),
        replace(unit("cache.target"), along=frozenset({name, "redis.service"})),
        replace(unit("idle.service"), active="inactive", along=frozenset({"unknown.service"})),
        unit(name),
    ]
    helper = RunningProcess(8, "qemu-system-x86", 1, service("helper"), (image(),))
    (need,) = planned(old(7, service("redis")), helper, units=units, own="me.service").others
    assert (need.how, need.reason) == (How.HAND, f"{name} goes with it: {why}")
    units[3] = replace(unit(name), active="inactive")
    assert [n.name for n in planned(old(7, service("redis")), helper, units=units, own="me.service").restarts]


def test_a_unit_is_not_restarted_where_nobody_says_what_goes_with_it() -> None:
    (need,) = planned(old(7, service("a")), units=[replace(unit("a.service"), along=frozenset({"b.service"}))]).others
    assert (need.how, need.reason) == (How.HAND, "the service manager does not say what would be restarted with it")


def test_a_restart_that_would_bring_old_code_back_is_not_made() -> None:
    """One library is old in memory, another is fixed in memory alone."""
    worse = old(7, service("nginx"), image(patch=PATCH, path="/usr/lib/libssl.so.3"))
    (need,) = planned(worse).others
    assert (need.how, need.reason) == (
        How.HAND,
        "a restart would bring old code back: bring the disk up to date first",
    )
    other = RunningProcess(8, "x", 1, service("nginx"), (image(patch=PATCH),))
    assert planned(old(7, service("nginx")), other).restarts == ()
    assert len(planned(old(7, service("nginx")), replace(other, owner=service("redis"))).restarts) == 1


def test_units_that_cannot_be_restarted_are_named() -> None:
    gone = replace(unit("a.service"), loaded=False)
    refusing = replace(unit("b.service"), refuses=True)
    plan = planned(
        old(5, service("a")), old(6, service("b")), old(7, service("c")), units=[gone, refusing], own="c.service"
    )
    assert [(need.name, need.how) for need in plan.others] == [
        ("a.service", How.HAND),
        ("b.service", How.REBOOT),
        ("c.service", How.HAND),
    ]
    unknown = plan_restarts([old(5, service("a"))], restarts_due([old(5, service("a"))]), {}, NEVER)
    assert unknown.restarts == ()


NAMES = [f"u{n}.service" for n in range(7)]
RELATIONS = st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from([*NAMES, "basic.target"])))


@settings(deadline=None)  # a busy machine is no mistake
@given(RELATIONS)
def test_each_unit_comes_behind_what_it_is_started_after(relations: dict[str, set[str]]) -> None:
    processes = [old(n, Owner(OwnerKind.SERVICE, name)) for n, name in enumerate(NAMES, 10)]
    plan = planned(*processes, units=[unit(name, *relations.get(name, ())) for name in NAMES])
    order = [need.name for need in plan.restarts]
    assert sorted([*order, *(need.name for need in plan.others)]) == NAMES
    assert all("circle" in need.reason for need in plan.others)
    for place, name in enumerate(order):
        assert not (relations.get(name, set()) & set(order[place + 1 :]))


SHOWN = """Id=web.service
LoadState=loaded
ActiveState=active
RefuseManualStart=no
RefuseManualStop=no
CanStart=yes
After=cache.service basic.target
Requires=cache.service
Requisite=
BindsTo=
PartOf=
Wants=

Id=dbus.service
LoadState=loaded
ActiveState=active
RefuseManualStop=yes
After=

Id=gone.service
LoadState=not-found
ActiveState=inactive
"""


def test_what_the_service_manager_prints() -> None:
    units = parse_units(SHOWN)
    assert units["web.service"] == unit("web.service", "cache.service", "basic.target")
    assert (units["dbus.service"].refuses, units["gone.service"].loaded) == (True, False)


class Stage:
    """A machine of names: who runs old code, what a restart of each does, and every step in order."""

    def __init__(self, ends: dict[str, str]) -> None:
        self.ends = ends
        self.old = set(ends)
        self.steps: list[str] = []

    def restart(self, name: str) -> None:
        self.steps.append(f"restart {name}")
        if self.ends[name] == "error":
            raise RemoteError("systemctl restart: job failed")
        if self.ends[name] not in ("old", "error"):
            self.old.discard(name)
        if self.ends[name] == "with-next":
            self.old.clear()

    def means(self) -> Means:
        return Means(
            still_old=lambda name: (1,) if name in self.old else (),
            restart=self.restart,
            state=lambda name: "failed" if self.ends[name] == "failed" else "active",
            record=self.record,
        )

    def record(self, event: Restarted) -> None:
        self.steps.append(f"{event.unit} {event.outcome or 'begins'}")


def plan_for(*names: str) -> Plan:
    return Plan(tuple(Need(name, How.RESTART, "", ()) for name in names), ())


@pytest.mark.parametrize(
    ("how", "detail"),
    [
        ("error", "systemctl restart: job failed"),
        ("failed", "after its restart it is failed"),
        ("old", "processes of it run old code after its restart: 1"),
    ],
)
def test_the_first_failure_ends_it(how: str, detail: str) -> None:
    stage = Stage({"a": "good", "b": how, "c": "good"})
    assert do_restarts(plan_for("a", "b", "c"), stage.means()) == (
        Ended("a", "restarted", ""),
        Ended("b", "failed", detail),
    )
    assert stage.steps == ["a begins", "restart a", "a restarted", "b begins", "restart b", "b failed"]


def test_a_unit_that_another_took_with_it_is_not_restarted_again() -> None:
    stage = Stage({"a": "with-next", "b": "good"})
    assert [ended.outcome for ended in do_restarts(plan_for("a", "b"), stage.means())] == ["restarted", "already"]
    assert "restart b" not in stage.steps


@settings(deadline=None)  # a busy machine is no mistake
@given(
    policy=st.sampled_from(["if-required", "never", "always"]),
    reasons=st.lists(st.just("kernel"), max_size=1),
    installed=st.booleans(),
    in_window=st.booleans(),
    obstacles=st.lists(st.just("on hold"), max_size=1),
)
def test_reboot_decision(
    policy: str, reasons: list[str], installed: bool, in_window: bool, obstacles: list[str]
) -> None:
    decision = decide_reboot(
        policy,  # type: ignore[arg-type]
        reasons,
        installed=installed,
        in_window=in_window,
        obstacles=obstacles,
    )
    wanted = bool(reasons) or (policy == "always" and installed)
    assert decision.reboot == (wanted and policy != "never" and in_window and not obstacles)
    assert decision.reason


def test_what_is_left_of_an_older_patch_is_due() -> None:
    assert planned(RunningProcess(5, "x", 1, service("nginx"), (image(disk=NEXT, patch=PATCH),))).restarts


@pytest.mark.parametrize(("state", "begun"), [("stopping", True), ("running", False)])
def test_a_shutdown_that_ends_systemctl_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, begun: bool
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f'#!/bin/sh\ncase "$*" in *SystemState*) echo {state} ;; *) kill -TERM $$ ;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with contextlib.nullcontext() if begun else pytest.raises(RemoteError, match="systemctl reboot: exit code -15"):
        reboot_machine()
