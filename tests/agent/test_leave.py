"""The Debian package on a booted machine: installed, at work in its sandbox, upgraded, removed, purged, back again."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.machine import Machine

pytestmark = [pytest.mark.servers, pytest.mark.slow]

REDIS_OLD, REDIS_NEW = "5:7.0.15-1~deb12u7", "5:7.0.15-1~deb12u10"
PORT = 18491
AUTOMATIC = """
mode = "automatic"
observe_days = 0
health_seconds = 1
[[maintenance.window]]
name = "always"
rule = "FREQ=DAILY"
start = 2026-01-01T00:00:00
minutes = 1440
[[pre_event]]
command = ["/root/before"]
[[probe]]
kind = "command"
name = "redis answers"
command = ["redis-cli", "-p", "18491", "ping"]
"""
BEFORE = """#!/bin/sh
# The sandbox has no /usr that can be written.
set -e
cut -d: -f3 /proc/self/cgroup | tail -n 1 > /usr/lib/hook-was-here
echo "$HOTMEND_UPDATES" >> /usr/lib/hook-was-here
touch /root/began
until test -e /root/go; do sleep 0.1; done
"""
GONE = "/usr/bin/hotmend /usr/lib/hotmend /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/99hotmend"
TRACES = "/etc/hotmend /var/lib/hotmend /var/log/hotmend /var/cache/hotmend /usr/lib/hotmend"


@pytest.fixture
def machine(tmp_path: Path, package: Path) -> Iterator[Machine]:
    """With a stock, hardened redis of an old version, and the package."""
    with Machine(tmp_path / "machine", systemd=True) as begun:
        begun.install(f"redis-server={REDIS_OLD}", f"redis-tools={REDIS_OLD}")
        begun.run(f"systemctl stop redis-server; sed -i 's/^port .*/port {PORT}/' /etc/redis/redis.conf")
        begun.run("systemctl start redis-server; rm -rf /var/log/hotmend")
        begun.offer_only("redis-*")
        begun.run(f"apt-get install -qq -y --no-install-recommends {package}")
        settled(begun)
        yield begun


def hotmend(machine: Machine, arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command."""
    return machine.run(f"cd / && env -u PYTHONPATH /usr/bin/hotmend {arguments}", check=False)


def redis(machine: Machine) -> tuple[str, str, str]:
    """Return main process, number of restarts, and what it answers."""
    shown = machine.run("systemctl show --property=MainPID,NRestarts --value redis-server").stdout.split()
    return shown[0], shown[1], machine.run(f"redis-cli -p {PORT} ping").stdout.strip()


def patched(machine: Machine) -> list[int]:
    """Return the processes that run new code."""
    rows = [json.loads(line) for line in hotmend(machine, "status --json").stdout.splitlines()]
    return [row["pid"] for row in rows if [h["active"] for h in row["hotpatches"]] == [True]]


def history(machine: Machine, kind: str) -> list[dict[str, object]]:
    """Return the lines of one kind."""
    text = machine.run("cat /var/lib/hotmend/agent/history.jsonl", check=False).stdout
    return [event for line in text.splitlines() if (event := json.loads(line))["event"] == kind]


def await_lines(machine: Machine, kind: str, count: int = 1) -> list[dict[str, object]]:
    """Wait for lines of the history."""
    limit = time.monotonic() + 300
    while len(found := history(machine, kind)) < count:
        assert time.monotonic() < limit, machine.run("journalctl -u hotmend-agent", check=False).stdout
        time.sleep(0.2)
    return found


def settled(machine: Machine) -> None:
    """Wait until the agent has taken its first turn."""
    await_lines(machine, "assessed")
    machine.run(
        "until test $(grep -c . /sys/fs/cgroup/system.slice/hotmend-agent.service/cgroup.procs) = 1; do sleep 0.1; done"
    )


def gone(machine: Machine, paths: str) -> bool:
    return machine.run(f"ls -d {paths}", check=False).stdout == ""


def newer(package: Path, folder: Path) -> Path:
    """Return the same package by a later version, beside the first, where the machine sees it."""
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    control = folder / "DEBIAN" / "control"
    control.write_text(control.read_text().replace("\nVersion: ", "\nVersion: 1:"))
    made = package.with_name("newer.deb")
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "--build", folder, made], check=True)
    return made


def only_looks(machine: Machine, before: tuple[str, str, str]) -> None:
    """As it is installed: it tells what waits, and changes nothing."""
    assert machine.run("systemctl is-enabled hotmend-agent").stdout == "enabled\n"
    assert machine.run("systemctl is-enabled hotmend-fetch", check=False).stdout == "disabled\n"
    seen = await_lines(machine, "assessed")[-1]
    assert any(str(one).startswith("redis-tools=") for one in seen["waiting"])  # type: ignore[attr-defined]
    assert (history(machine, "run-began"), patched(machine), redis(machine)) == ([], [], before)
    owners = machine.run("stat -c '%U %a' /var/lib/hotmend/agent /var/lib/hotmend/mirror").stdout
    assert owners == "root 700\nhotmend 755\n"
    assert machine.run("find /usr/lib/hotmend -name '*.pyc' | wc -l").stdout != "0\n"
    machine.run("systemctl start hotmend-fetch")
    said = "until journalctl -u hotmend-fetch | grep -q 'no channel is configured'; do sleep 0.2; done"
    machine.run(said)
    machine.run("systemctl stop hotmend-fetch")


def with_a_filter_it_could_not_see_those_of_others(machine: Machine) -> None:
    """Why the agent's unit has none: a hardened service is refused."""
    filtered = "systemd-run --quiet --wait --pipe --property=SystemCallArchitectures=native"
    upgrade = "/usr/bin/hotmend upgrade --memory-only --json redis-tools"
    done = machine.run(f"cd / && {filtered} {upgrade}", check=False)
    (found,) = json.loads(done.stdout)["packages"]
    codes = {reason["code"] for process in found["processes"] for reason in process["reasons"]}
    assert (done.returncode, codes, patched(machine)) == (4, {"seccomp"}, [])


def upgraded_in_the_middle_of_a_run(machine: Machine, package: Path) -> None:
    """dpkg waits for the run; the run cannot install, as dpkg is at work, and the new agent's first turn does that."""
    ended = len(history(machine, "run-ended"))
    machine.run(f"cat > /root/before <<'END'\n{BEFORE}END\nchmod +x /root/before")
    machine.run(f"cat > /etc/hotmend/agent.toml <<'END'\n{AUTOMATIC}END\nsystemctl reload hotmend-agent")
    machine.run("until test -e /root/began; do sleep 0.1; done")
    dpkg = subprocess.Popen(machine.command(f"dpkg --force-confold --install {package} >/root/dpkg 2>&1"))
    machine.run("until pgrep -x flock >/dev/null; do sleep 0.1; done")
    assert (dpkg.poll(), len(history(machine, "run-ended")), machine.version("hotmend")[:2]) == (None, ended, "0.")
    machine.run("touch /root/go")
    assert dpkg.wait(300) == 0, machine.run("cat /root/dpkg").stdout
    assert machine.version("hotmend").startswith("1:")
    assert "the disk was not brought up to date" in str(history(machine, "run-ended")[ended]["detail"])
    await_lines(machine, "run-ended", ended + 2)
    settled(machine)


def at_work_in_its_sandbox(machine: Machine, pid: str) -> None:
    """A hardened service has its new code; apt and an administrator's command are not in the sandbox."""
    assert patched(machine) == [int(pid)]
    assert machine.version("redis-server") == REDIS_NEW
    assert machine.run("find /var/cache/hotmend -name '*.deb'").stdout == ""
    assert gone(machine, "/usr/sbin/policy-rc.d")
    group, updates = machine.run("cat /usr/lib/hook-was-here").stdout.splitlines()
    assert group.startswith("/system.slice/run-")
    assert f"redis-tools={REDIS_NEW}" in updates.split()


def removed(machine: Machine) -> None:
    """Configuration and history stay; nothing that apt or maintainer scripts would call does."""
    services = "systemctl show --property=Id,MainPID redis-server dbus systemd-journald"
    running = machine.run(services).stdout
    assert hotmend(machine, "apt-hook on").returncode == 0
    machine.run("echo '# mine' >> /etc/hotmend/agent.toml")
    machine.run("apt-get remove -qq -y hotmend")
    assert machine.run(services).stdout == running
    assert machine.run("systemctl is-active hotmend-agent", check=False).stdout.strip() == "inactive"
    assert gone(machine, GONE)
    assert machine.run("tail -n 1 /etc/hotmend/agent.toml").stdout == "# mine\n"
    assert history(machine, "assessed")


def purged(machine: Machine) -> None:
    """Nothing stays but the user, whose number must not come to mean somebody else."""
    machine.run("apt-get purge -qq -y hotmend")
    assert gone(machine, TRACES)
    assert machine.run("systemctl list-unit-files 'hotmend*' --no-legend", check=False).stdout == ""
    assert machine.run("find /etc/systemd -name 'hotmend*'").stdout == ""
    machine.run("id hotmend")


def test_installed_upgraded_removed_purged_and_back(machine: Machine, package: Path, tmp_path: Path) -> None:
    """Every process runs on through all of it, and knows to the end what it runs."""
    before = redis(machine)
    pid = before[0]
    only_looks(machine, before)
    with_a_filter_it_could_not_see_those_of_others(machine)
    later = newer(package, tmp_path / "newer")
    upgraded_in_the_middle_of_a_run(machine, later)
    at_work_in_its_sandbox(machine, pid)
    removed(machine)
    assert redis(machine) == before
    purged(machine)
    assert redis(machine) == before
    machine.run(f"apt-get install -qq -y --no-install-recommends {package}")
    assert patched(machine) == [int(pid)]
    done = hotmend(machine, "revert --all")
    assert (done.returncode, patched(machine), redis(machine)) == (0, [], before)
