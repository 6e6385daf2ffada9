"""The Debian package on a booted machine: installed, at work in its sandbox, removed."""

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
PORT = 18471
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
command = ["redis-cli", "-p", "18471", "ping"]
"""
BEFORE = """#!/bin/sh
# The sandbox has no /usr that can be written.
set -e
cut -d: -f3 /proc/self/cgroup | tail -n 1 > /usr/lib/hook-was-here
echo "$HOTMEND_UPDATES" >> /usr/lib/hook-was-here
"""


@pytest.fixture
def machine(tmp_path: Path, package: Path) -> Iterator[Machine]:
    """With a stock, hardened redis of an old version, and the package."""
    with Machine(tmp_path / "machine", systemd=True) as begun:
        begun.install(f"redis-server={REDIS_OLD}", f"redis-tools={REDIS_OLD}")
        begun.run(f"systemctl stop redis-server; sed -i 's/^port .*/port {PORT}/' /etc/redis/redis.conf")
        begun.run("systemctl start redis-server; rm -rf /var/log/hotmend")
        hold_the_rest(begun)
        begun.run(f"apt-get install -qq -y --no-install-recommends {package}")
        settled(begun)
        yield begun


def hold_the_rest(machine: Machine) -> None:
    """Have apt leave alone what is not the subject; this machine's files are those of whoever tests."""
    listed = "apt-get -s --with-new-pkgs upgrade | sed -n 's/^Inst \\([^ ]*\\) .*/\\1/p' | grep -v '^redis'"
    machine.run(f"{listed} | xargs --no-run-if-empty apt-mark hold")


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
    return [row["pid"] for row in rows if [h["state"] for h in row["hotpatches"]] == ["settled"]]


def history(machine: Machine, kind: str) -> list[dict[str, object]]:
    """Return the lines of one kind."""
    text = machine.run("cat /var/lib/hotmend/agent/history.jsonl", check=False).stdout
    return [event for line in text.splitlines() if (event := json.loads(line))["event"] == kind]


def await_lines(machine: Machine, kind: str, count: int = 1) -> list[dict[str, object]]:
    """Wait for lines of the history."""
    limit = time.monotonic() + 120
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


def test_the_agent_at_work_in_its_sandbox(machine: Machine) -> None:
    """A hardened service gets its new code; apt and an administrator's command are not in the sandbox."""
    pid, restarts, _ = redis(machine)
    machine.run(f"cat > /root/before <<'END'\n{BEFORE}END\nchmod +x /root/before")
    machine.run(f"cat > /etc/hotmend/agent.toml <<'END'\n{AUTOMATIC}END\nsystemctl reload hotmend-agent")
    await_lines(machine, "run-ended")
    assert patched(machine) == [int(pid)]
    assert redis(machine) == (pid, restarts, "PONG")
    assert machine.version("redis-server") == REDIS_NEW
    assert machine.run("test -e /usr/sbin/policy-rc.d", check=False).returncode == 1
    group, updates = machine.run("cat /usr/lib/hook-was-here").stdout.splitlines()
    assert group.startswith("/system.slice/run-")
    assert f"redis-tools={REDIS_NEW}" in updates.split()
    assert machine.run("find /var/cache/hotmend -name '*.deb'").stdout == ""


def test_with_a_filter_it_could_not_see_those_of_others(machine: Machine) -> None:
    """Why the agent's unit has none: a hardened service is refused."""
    filtered = "systemd-run --quiet --wait --pipe --property=SystemCallArchitectures=native"
    upgrade = "/usr/bin/hotmend upgrade --memory-only --json redis-tools"
    done = machine.run(f"cd / && {filtered} {upgrade}", check=False)
    (package,) = json.loads(done.stdout)["packages"]
    codes = {reason["code"] for process in package["processes"] for reason in process["reasons"]}
    assert (done.returncode, codes, patched(machine)) == (4, {"seccomp"}, [])


def test_leaving_leaves_every_process(machine: Machine) -> None:
    pid, restarts, _ = redis(machine)
    services = "systemctl show --property=Id,MainPID redis-server dbus systemd-journald systemd-logind"
    running = machine.run(services).stdout
    hotmend(machine, "upgrade redis-server redis-tools")
    assert (patched(machine), machine.version("redis-server")) == ([int(pid)], REDIS_NEW)
    hotmend(machine, "apt-hook on")
    machine.run("echo '# mine' >> /etc/hotmend/agent.toml")
    machine.run("apt-get remove -qq -y hotmend")
    assert (redis(machine), machine.run(services).stdout) == ((pid, restarts, "PONG"), running)
    assert machine.run("systemctl is-active hotmend-agent", check=False).stdout.strip() == "inactive"
    left = "/usr/bin/hotmend /usr/lib/hotmend /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/99hotmend"
    for gone in left.split():
        assert machine.run(f"test -e {gone}", check=False).returncode == 1, gone
    assert machine.run("tail -n 1 /etc/hotmend/agent.toml").stdout == "# mine\n"
    assert history(machine, "assessed")
