"""What an upgrade reads of apt and dpkg, the units of processes, and restarts that are held back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotmend.agent.apt import disk
from hotmend.agent.apt.held import Held, Holder, held_restarts, hold_restarts, release_restarts
from hotmend.agent.apt.installed import InstalledFile, parse_md5sums
from hotmend.agent.apt.pending import Pending, parse_simulation
from hotmend.agent.census.units import unit_in
from hotmend.agent.memory import Changed, Memory, StillOld
from hotmend.linux.process import ProcessImages
from hotmend.model.errors import InputError

SIMULATION = """\
NOTE: This is only a simulation!
Reading package lists...
The following packages will be upgraded:
  libexpat1 nginx
Inst libexpat1 [2.5.0-1+deb12u1] (2.5.0-1+deb12u2 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])
Inst nginx [1.22.1-9+deb12u9] (1.22.1-9+deb12u11 Debian-Security:12/oldstable-security [amd64]) []
Inst nginx-common [1.22.1-9+deb12u9] (1.22.1-9+deb12u11 Debian-Security:12/oldstable-security [all])
Inst bash [5.2.15-2+b8] (5.2.15-2+b13 Debian:12.15/oldstable [amd64])
Inst linux-image-6.1.0-41-amd64 (6.1.159-1 Debian-Security:12/oldstable-security [amd64])
Conf nginx (1.22.1-9+deb12u11 Debian-Security:12/oldstable-security [amd64])
"""


def test_simulation() -> None:
    expat, nginx, common, bash, kernel = parse_simulation(SIMULATION)
    both = ("Debian:12.15/oldstable", "Debian-Security:12/oldstable-security")
    assert expat == Pending("libexpat1", "amd64", "2.5.0-1+deb12u1", "2.5.0-1+deb12u2", both)
    assert [p.security for p in (expat, nginx, common, bash, kernel)] == [True, True, True, False, True]
    assert [p.is_kernel for p in (expat, kernel)] == [False, True]
    assert (common.architecture, kernel.old_version, str(nginx)) == ("all", "", "nginx=1.22.1-9+deb12u11")


def test_md5sums() -> None:
    text = "d41d8cd98f00b204e9800998ecf8427e  usr/sbin/nginx\nbroken\n0cc175b9c0f1b6a831c399e269772661  a file\n"
    assert parse_md5sums(text) == (
        InstalledFile("usr/sbin/nginx", "d41d8cd98f00b204e9800998ecf8427e"),
        InstalledFile("a file", "0cc175b9c0f1b6a831c399e269772661"),
    )


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n", "postgresql@15-main.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service\n", ""),
        ("0::/user.slice/user-0.slice/session-1.scope\n", ""),
        ("12:cpu:/other.service\n1:name=systemd:/system.slice/redis-server.service\n", "redis-server.service"),
        ("9:name=systemd:/\n8:pids:/\n0::/system.slice/redis-server.service\n", "redis-server.service"),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_unit(text: str, unit: str) -> None:
    assert unit_in(text) == unit


@pytest.fixture(params=["none", "another"])
def policy(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Where the policy is, with the machine's own one or without; its own denies the action `no`."""
    path = tmp_path / "policy-rc.d"
    if request.param == "another":
        path.write_text('#!/bin/sh\n[ "$2" = no ] && exit 101\nexit 104\n')
        path.chmod(0o755)
    return path


@contextmanager
def restarts_held(services: Sequence[str], policy: Path) -> Iterator[None]:
    """For the time of this process."""
    holder = Holder.of(os.getpid())
    hold_restarts(services, holder, policy)
    yield
    release_restarts(holder, policy)


def asked(policy: Path, service: str, action: str) -> int:
    return subprocess.run([policy, service, action], check=False).returncode


def test_held_back(policy: Path) -> None:
    own = policy.read_text() if policy.exists() else None
    with restarts_held(["nginx", "postgresql@15-main"], policy):
        for name in ("nginx", "nginx.service", "postgresql@15-main.service"):
            assert [asked(policy, name, action) for action in ("restart", "stop", "start")] == [101] * 3
        expected = 0 if own is None else 104
        assert [asked(policy, name, "restart") for name in ("nginx2", "redis", "nginx.timer")] == [expected] * 3
        assert asked(policy, "redis", "no") == (0 if own is None else 101)
        quiet = [subprocess.run([policy, "--quiet", name, "restart", "5"], check=False) for name in ("nginx", "redis")]
        assert [done.returncode for done in quiet] == [101, expected]
        assert asked(policy, "nginx", "status") == expected
    assert (policy.read_text() if policy.exists() else None) == own
    assert [path.name for path in policy.parent.iterdir()] == ([] if own is None else [policy.name])


def test_nothing_is_held_back_where_there_is_nothing(policy: Path) -> None:
    own = policy.read_text() if policy.exists() else None
    with restarts_held([], policy):
        assert (policy.read_text() if policy.exists() else None) == own


def test_a_killed_one_holds_nothing_back(policy: Path) -> None:
    own = policy.read_text() if policy.exists() else None
    code = f"""
import os, pathlib, time
from hotmend.agent.apt.held import Holder, hold_restarts
hold_restarts(["nginx"], Holder.of(os.getpid()), pathlib.Path({str(policy)!r}))
print("held", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert asked(policy, "nginx", "restart") == 101
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert asked(policy, "nginx", "restart") == (0 if own is None else 104)
    left = held_restarts(policy)
    assert left is not None
    assert (left.services, left.holder.pid, left.holder.lives) == (("nginx",), process.pid, False)
    release_restarts(policy=policy)
    assert (policy.read_text() if policy.exists() else None) == own
    assert [path.name for path in policy.parent.iterdir()] == ([] if own is None else [policy.name])


PENDING = Pending("x", "amd64", "1", "2", ())


@pytest.mark.parametrize(
    ("old", "fixed"),
    [([], True), ([(1, False)], True), ([(1, False), (7, False)], False), ([(1, True)], False)],
)
def test_who_is_never_touched_is_no_reason_to_restart_others(old: list[tuple[int, bool]], fixed: bool) -> None:
    """Process 1 maps the library too; process 7 may be touched, and a part is not all of it."""
    still_old = tuple(StillOld(pid, "x", "", (), part=part) for pid, part in old)
    changed = Changed((), still_old, Memory.PARTLY if old else Memory.FIXED)
    assert disk.all_fixed(changed, {1}.__contains__) is fixed
    assert not disk.all_fixed(Changed((), still_old, Memory.OLD), {1}.__contains__)


@pytest.mark.parametrize("booted", [True, False])
def test_what_is_never_touched_is_not_restarted_by_its_package_either(
    booted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = {7: "docker.service", 8: "postgresql@15-main.service", 9: "nginx.service", 10: ""}
    monkeypatch.setattr(disk, "processes_mapping", lambda: tuple(ProcessImages(pid, "x", 0, ()) for pid in units))
    monkeypatch.setattr(disk, "unit_of", units.__getitem__)
    monkeypatch.setattr(disk, "is_booted", lambda: booted)
    monkeypatch.setattr(disk, "service_names", lambda package: (f"{package}-init",))
    results = [
        (name, Changed((), (StillOld(pid, "x", "", (), part=False),), Memory.OLD))
        for name, pid in (("a", 10), ("b", 9))
    ]
    found = disk.never_services(results, {7, 8, 10}.__contains__)
    assert found == tuple(sorted(["docker", "postgresql", "postgresql@15-main", *([] if booted else ["a-init"])]))


def test_who_has_ended_is_put_back_and_whose_time_goes_on_is_not(policy: Path) -> None:
    """A turn that ends a run that was killed, and an apt of somebody's that holds restarts back meanwhile."""
    own = policy.read_text() if policy.exists() else None
    with subprocess.Popen(["sleep", "60"]) as apt:
        holder = Holder.of(apt.pid)
        hold_restarts(["nginx"], holder, policy)
        release_restarts(policy=policy)
        release_restarts(Holder.of(os.getpid()), policy)
        assert held_restarts(policy) == Held(("nginx",), holder)
        assert asked(policy, "nginx", "restart") == 101
        assert asked(policy, "redis", "restart") == (0 if own is None else 104)  # what stood there is asked still
        release_restarts(holder, policy)
        assert (policy.read_text() if policy.exists() else None) == own
        apt.kill()


def test_a_name_that_would_be_code_is_refused(policy: Path) -> None:
    own = policy.read_text() if policy.exists() else None
    with pytest.raises(InputError, match="not the name of a service"), restarts_held(["a) rm -rf /;;"], policy):
        pass
    assert (policy.read_text() if policy.exists() else None) == own


def test_what_is_held_is_for_one_process_and_is_replaced_as_a_whole(policy: Path) -> None:
    own = policy.read_text() if policy.exists() else None
    assert held_restarts(policy) is None
    with subprocess.Popen(["sleep", "60"]) as other:
        hold_restarts(["nginx"], Holder.of(other.pid), policy)
        hold_restarts(["redis-server", "a\\x2db"], Holder.of(other.pid), policy)
        assert held_restarts(policy) == Held(("a\\x2db", "redis-server"), Holder.of(other.pid))
        denied = {name: asked(policy, name, "restart") == 101 for name in ("nginx", "redis-server", "a\\x2db.service")}
        assert denied == {"nginx": False, "redis-server": True, "a\\x2db.service": True}
        other.kill()
    assert asked(policy, "redis-server", "restart") == (0 if own is None else 104)
    release_restarts(policy=policy)
    assert (policy.read_text() if policy.exists() else None) == own
