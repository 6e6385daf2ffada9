"""What follows from what runs, what is on the disk and what is in memory: states, restarts, alerts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hotmend.agent.census.alerts import AlertCode
from hotmend.agent.census.assessment import (
    Assessment,
    RunningProcess,
    find_alerts,
    fixed_everywhere,
    owner_text,
    restarts_due,
)
from hotmend.agent.census.code_state import CodeState, Patch, RunningImage
from hotmend.agent.census.kernel import Boot, InstalledKernel, read_boot, reboot_reasons, release_key
from hotmend.agent.census.owners import NOBODY, Owner, OwnerKind, owner_in

OLD, NEW, NEXT = "aa" * 20, "bb" * 20, "cc" * 20
PATCH = Patch("0123456789abcdef", NEW, "libssl3", ("1", "2"), ("CVE-2026-0001", "CVE-2026-0002"), 1.0)
NGINX, REDIS = (Owner(OwnerKind.SERVICE, f"{name}.service") for name in ("nginx", "redis"))
QUIET = Boot("6.1.0-41-amd64", "#1", (), container=False, required=False, packages=())


def image(
    build_id: str = OLD, disk: str | None = OLD, patch: Patch | None = None, path: str = "/usr/lib/libcrypto.so.3"
) -> RunningImage:
    return RunningImage(path, build_id, disk != build_id, path, disk, patch)


def process(pid: int, *images: RunningImage, owner: Owner = NGINX) -> RunningProcess:
    return RunningProcess(pid, "nginx", 7, owner, images)


def assessment(*processes: RunningProcess) -> Assessment:
    return Assessment(datetime(2026, 11, 29, tzinfo=UTC), processes, (), QUIET)


@pytest.mark.parametrize(
    ("seen", "state", "due"),
    [
        (image(), CodeState.CURRENT, False),
        (image(disk=NEW), CodeState.OLD, True),
        (image(patch=PATCH), CodeState.DISK_OLD, False),
        (image(disk=NEW, patch=PATCH), CodeState.FIXED, False),
        (image(disk=NEW, patch=replace(PATCH, part=True)), CodeState.FIXED, True),
        (image(disk=NEXT, patch=PATCH), CodeState.OLD, True),
        (image(disk=None), CodeState.REMOVED, True),
        (image(disk=None, patch=PATCH), CodeState.REMOVED, True),
        (image(disk=None, path="/memfd:jit"), CodeState.OWN, False),
        (replace(image(disk=None), disk_path=""), CodeState.UNSEEN, False),
        (replace(image("", ""), deleted=False), CodeState.CURRENT, False),
        (replace(image("", ""), deleted=True), CodeState.OLD, True),
        (replace(image(), deleted=True), CodeState.CURRENT, False),
    ],
)
def test_states(seen: RunningImage, state: CodeState, due: bool) -> None:
    assert (seen.state, seen.restart_due) == (state, due)


BUILDS = st.sampled_from([OLD, NEW, NEXT, ""])
IMAGES = st.builds(
    RunningImage,
    path=st.sampled_from(["/usr/sbin/nginx", "/usr/lib/libcrypto.so.3", "/memfd:x"]),
    build_id=BUILDS,
    deleted=st.booleans(),
    disk_path=st.sampled_from(["/usr/sbin/nginx", "/usr/sbin/nginx", ""]),
    disk_build_id=st.one_of(st.none(), BUILDS),
    patch=st.one_of(st.none(), st.builds(replace, st.just(PATCH), part=st.booleans())),
)
PROCESSES = st.lists(
    st.builds(
        RunningProcess,
        pid=st.integers(1, 40),
        comm=st.just("x"),
        start_time_ticks=st.just(1),
        owner=st.sampled_from([NGINX, REDIS, NOBODY, Owner(OwnerKind.SESSION, "3", 1000)]),
        images=st.lists(IMAGES, max_size=4).map(tuple),
    ),
    max_size=12,
    unique_by=lambda each: each.pid,
)


@settings(deadline=None)  # a busy machine is no mistake
@given(IMAGES)
def test_what_runs_is_what_is_on_disk_exactly_where_nothing_is_said(seen: RunningImage) -> None:
    """Unless the program made it itself, nothing due and no alert means that memory and disk are one build."""
    if seen.state in (CodeState.CURRENT, CodeState.FIXED):
        assert seen.effective_build_id == seen.disk_build_id
    if seen.state is CodeState.DISK_OLD:
        assert (seen.disk_build_id, seen.patch is not None) == (seen.build_id, True)
    if seen.state in (CodeState.OLD, CodeState.REMOVED):
        assert seen.restart_due


@settings(deadline=None)  # a busy machine is no mistake
@given(PROCESSES)
def test_every_process_with_old_code_is_named_once_and_no_other(processes: list[RunningProcess]) -> None:
    found = restarts_due(processes)
    named = [old.pid for due in found for old in due.processes]
    assert sorted(named) == sorted(p.pid for p in processes if any(i.restart_due for i in p.images))
    assert len({due.owner for due in found}) == len(found)
    assert all(image.restart_due for due in found for old in due.processes for image in old.images)
    assert found == restarts_due(reversed(processes))


@settings(deadline=None)  # a busy machine is no mistake
@given(PROCESSES)
def test_alerts_are_there_exactly_where_their_cause_is(processes: list[RunningProcess]) -> None:
    codes = {alert.code for alert in find_alerts(assessment(*processes))}
    states = {image.state for each in processes for image in each.images}
    assert (AlertCode.DISK_OLD in codes) == (CodeState.DISK_OLD in states)
    assert (AlertCode.RESTART_DUE in codes) == bool(restarts_due(processes))
    assert (AlertCode.UNSEEN in codes) == (CodeState.UNSEEN in states)
    assert codes <= {AlertCode.DISK_OLD, AlertCode.RESTART_DUE, AlertCode.UNSEEN}


@settings(deadline=None)  # a busy machine is no mistake
@given(PROCESSES)
def test_fixed_everywhere_is_fixed_in_each(processes: list[RunningProcess]) -> None:
    """A further process with old code of that name takes the CVE off the list; one with the new build does not."""
    fixed = fixed_everywhere(processes)
    for cve in fixed:
        assert any(i.patch and cve in i.patch.cves for p in processes for i in p.images)
    path = "/usr/lib/libcrypto.so.3"
    if any(i.patch for p in processes for i in p.images if i.path == path):
        assert fixed_everywhere([*processes, process(99, image(OLD, OLD))]) == ()
        assert fixed_everywhere([*processes, process(99, image(NEW, NEW))]) == fixed


def test_a_library_whose_file_has_its_versions_name_is_the_same_library() -> None:
    one = image(patch=PATCH, path="/usr/lib/libexpat.so.1.8.10")
    other = image(NEXT, NEXT, path="/usr/lib/libexpat.so.1.9.0")
    assert fixed_everywhere([process(1, one)]) == PATCH.cves
    assert fixed_everywhere([process(1, one), process(2, other)]) == ()


def test_other_alerts() -> None:
    unsettled = replace(process(1), unsettled=("0123",))
    boot = replace(QUIET, required=True, packages=("libc6",))
    found = replace(assessment(unsettled), boot=boot, unseen=(5,), waiting=("nginx=2",)).alerts
    assert [(alert.code, alert.subjects) for alert in found] == [
        (AlertCode.REBOOT_DUE, ("/run/reboot-required is there: a reboot was asked for by libc6",)),
        (AlertCode.UNSETTLED, ("nginx (1): 0123",)),
        (AlertCode.UNSEEN, ("5",)),
        (AlertCode.WAITING, ("nginx=2",)),
    ]


DOCKER = "3f" * 32


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("0::/system.slice/nginx.service\n", NGINX),
        ("0::/system.slice/docker.service/sub.service\n", Owner(OwnerKind.SERVICE, "docker.service")),
        ("0::/init.scope\n", Owner(OwnerKind.SCOPE, "init.scope")),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", Owner(OwnerKind.SESSION, "3", 1000)),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service\n",
            Owner(OwnerKind.USER_SERVICE, "dbus.service", 1000),
        ),
        (
            "0::/user.slice/user-1000.slice/user@1000.service/init.scope\n",
            Owner(OwnerKind.SERVICE, "user@1000.service"),
        ),
        (f"0::/system.slice/docker-{DOCKER}.scope\n", Owner(OwnerKind.CONTAINER, "docker 3f3f3f3f3f3f")),
        (f"0::/docker/{DOCKER}\n", Owner(OwnerKind.CONTAINER, "docker 3f3f3f3f3f3f")),
        (f"0::/kubepods/burstable/pod1/{DOCKER}\n", Owner(OwnerKind.CONTAINER, "kubepods 3f3f3f3f3f3f")),
        (
            f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{DOCKER}.scope/container\n",
            Owner(OwnerKind.CONTAINER, "libpod 3f3f3f3f3f3f"),
        ),
        ("0::/lxc.payload.web/system.slice/nginx.service\n", Owner(OwnerKind.CONTAINER, "web")),
        (
            "0::/machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service\n",
            Owner(OwnerKind.CONTAINER, "web"),
        ),
        ("1:name=systemd:/\n0::/system.slice/nginx.service\n", NGINX),
        ("0::/\n", NOBODY),
        ("", NOBODY),
    ],
)
def test_owners(text: str, owner: Owner) -> None:
    assert owner_in(text) == owner


def test_process_numbers_of_its_own_are_a_container() -> None:
    assert owner_in("0::/\n", contained=True) == Owner(OwnerKind.CONTAINER)
    assert owner_in("0::/system.slice/nginx.service\n", contained=True) == NGINX


def test_owners_for_people() -> None:
    (due,) = restarts_due([process(8, image(disk=NEW), owner=NOBODY)])
    assert owner_text(due.owner, due.processes) == "nginx (8)"
    assert owner_text(Owner(OwnerKind.SESSION, "3", 1000)) == "session 3 of user 1000"
    assert owner_text(Owner(OwnerKind.CONTAINER)) == "container"
    assert owner_text(NGINX) == "nginx.service"


def test_kernels_are_in_order() -> None:
    order = ["6.1.0-9-amd64", "6.1.0-41-amd64", "6.1.0-41-rt-amd64", "6.6.13+bpo-amd64", "6.12.9"]
    assert sorted([order[3], order[0], order[4], order[2], order[1]], key=release_key) == order


@pytest.mark.parametrize(
    ("installed", "reasons"),
    [
        ([("6.1.0-40-amd64", "#9"), ("6.1.0-41-amd64", "#1")], []),
        ([("6.1.0-41-amd64", "")], []),
        ([("6.1.0-41-amd64", "#2")], ["kernel 6.1.0-41-amd64 runs as #1, #2 is installed"]),
        ([("6.1.0-42-amd64", "#1")], ["kernel 6.1.0-41-amd64 runs, 6.1.0-42-amd64 is installed"]),
        ([], []),
    ],
)
def test_reboot_for_a_kernel(installed: list[tuple[str, str]], reasons: list[str]) -> None:
    boot = replace(QUIET, installed=tuple(InstalledKernel(*each) for each in installed))
    assert list(reboot_reasons(boot)) == reasons
    assert reboot_reasons(replace(boot, container=True)) == ()


def test_what_the_machine_says_of_its_boot(tmp_path: Path) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "run").mkdir()
    image = bytearray(4096)
    image[0x202:0x206] = b"HdrS"
    image[0x20E:0x210] = (0x400).to_bytes(2, "little")
    text = b"6.1.0-41-amd64 (builder@host) #1 SMP PREEMPT_DYNAMIC Debian 6.1.158-1 (2025-11-09)\0"
    image[0x600 : 0x600 + len(text)] = text
    (tmp_path / "boot/vmlinuz-6.1.0-41-amd64").write_bytes(image)
    (tmp_path / "boot/vmlinuz-6.1.0-9-amd64").write_bytes(image)
    (tmp_path / "boot/vmlinuz-broken").write_bytes(b"")
    (tmp_path / "run/reboot-required").touch()
    (tmp_path / "run/reboot-required.pkgs").write_text("libc6\nlinux\nlibc6\n")
    boot = read_boot(tmp_path)
    assert boot.installed == (
        InstalledKernel("6.1.0-41-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.158-1 (2025-11-09)"),
        InstalledKernel("6.1.0-9-amd64", ""),
        InstalledKernel("broken", ""),
    )
    assert (boot.required, boot.packages, boot.container) == (True, ("libc6", "linux"), False)
    assert read_boot(tmp_path / "none").installed == ()
