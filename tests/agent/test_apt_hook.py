"""`hotmend apt-hook`: plain apt, unattended-upgrades and needrestart on a booted machine, a stock server under load."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.load import Load, http
from tests.agent.machine import Machine

OLD, NEW = "2.6.12-1+deb12u3", "2.6.12-1+deb12u4"
PORT = 18441
POLICY = "/usr/sbin/policy-rc.d"
CONFIGURATION = f"""
global
    user haproxy
    group haproxy
    chroot /var/lib/haproxy
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend all
    bind 127.0.0.1:{PORT}
    http-request return status 200 content-type text/plain string "here"
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With haproxy of the main archive, as its unit starts it, and the hook on."""
    with Machine(tmp_path / "machine", systemd=True) as begun:
        begun.install(f"haproxy={OLD}")
        begun.run(f"cat > /etc/haproxy/haproxy.cfg <<'END'\n{CONFIGURATION}END")
        begun.run("systemctl restart haproxy")
        begun.settle("haproxy", 2)
        assert hook(begun, "on") == {
            "on": True,
            "command": str(Path(sys.executable).with_name("hotmend")),
            "deadline": 300,
            "needrestart": True,
            "held": [],
        }
        yield begun


def hook(machine: Machine, *arguments: str) -> Any:
    done = machine.hotmend("apt-hook", *arguments, "--json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def started(machine: Machine) -> str:
    """When, how often and as which process the service manager has started it."""
    return machine.run("systemctl show -p MainPID,NRestarts,ActiveEnterTimestampMonotonic haproxy").stdout


def settled(machine: Machine) -> list[int]:
    """Return the processes in which a hotpatch is settled."""
    rows = [json.loads(line) for line in machine.hotmend("status", "--json").stdout.splitlines()]
    return sorted(row["pid"] for row in rows if [h["state"] for h in row["hotpatches"]] == ["settled"])


def nothing_is_left(machine: Machine) -> bool:
    return machine.run(f"ls {POLICY}*", check=False).stdout == ""


def test_apt_upgrade_restarts_nothing_that_runs_the_new_code(machine: Machine) -> None:
    """And needrestart, told to restart what it finds, finds nothing; without the hook it does."""
    machine.install("needrestart")
    machine.run("echo '$nrconf{restart} = \"a\";' > /etc/needrestart/conf.d/all.conf")
    before, pids = started(machine), machine.pids("haproxy")
    with Load(machine, http(PORT, "here")) as load:
        done = machine.run("apt-get install -y --only-upgrade haproxy")
    assert load.count.fine, load.count
    assert (machine.version("haproxy"), started(machine), machine.pids("haproxy")) == (NEW, before, pids)
    assert settled(machine) == pids
    assert f"hotmend: haproxy {OLD} -> {NEW}: fixed in memory, 2 of 2 processes\n" in done.stderr
    assert "hotmend: not restarted by their packages, because the new code runs: haproxy\n" in done.stderr
    assert "old code runs" not in done.stderr
    assert "No services need to be restarted" in done.stdout
    assert nothing_is_left(machine)
    assert machine.hotmend("apt-hook", "fixed").stdout == "haproxy.service\n"

    machine.run("systemctl reload haproxy")
    assert machine.hotmend("apt-hook", "fixed").stdout == ""
    assert hook(machine, "off")["on"] is False
    machine.install(f"haproxy={OLD}")
    machine.run("systemctl restart haproxy")
    pids = machine.settle("haproxy", 2)
    machine.install(f"haproxy={NEW}")
    assert "hotmend" not in machine.run("ls /etc/apt/apt.conf.d /etc/needrestart/conf.d").stdout
    assert machine.pids("haproxy") != pids  # its package reloads it: the main process takes a new worker


def test_unattended_upgrade(machine: Machine) -> None:
    """The real one, with its own rules for what it takes; only haproxy is let through."""
    machine.install("unattended-upgrades")
    others = machine.run("apt list --upgradable 2>/dev/null | cut -d/ -f1 | grep -v -x -e haproxy -e Listing...").stdout
    machine.run(f"apt-mark hold {' '.join(others.split())}")
    before, pids = started(machine), machine.pids("haproxy")
    with Load(machine, http(PORT, "here")) as load:
        done = machine.run("unattended-upgrade -v 2>&1; cat /var/log/unattended-upgrades/unattended-upgrades-dpkg.log")
    assert load.count.fine, load.count
    assert "All upgrades installed" in done.stdout
    assert (machine.version("haproxy"), started(machine), machine.pids("haproxy")) == (NEW, before, pids)
    assert settled(machine) == pids
    assert "hotmend: not restarted by their packages, because the new code runs: haproxy" in done.stdout
    assert nothing_is_left(machine)


def test_no_restart_is_held_back_where_memory_is_not_changed(machine: Machine) -> None:
    """On hold; never to be touched; no time; off for this call; apt goes on as ever each time."""
    cases = {
        "on hold": "mkdir -p /etc/hotmend; touch /etc/hotmend/hold",
        "0 of 2 processes": "rm /etc/hotmend/hold; echo 'never_commands = [\"haproxy\"]' > /etc/hotmend/agent.toml",
        "modus": "echo 'modus = 1' > /etc/hotmend/agent.toml",
        "": "rm /etc/hotmend/agent.toml",
    }
    for said, change in cases.items():
        machine.run(change)
        quiet = "HOTMEND_APT_HOOK=off " if not said else ""
        done = machine.run(f"{quiet}apt-get install -y --only-upgrade haproxy")
        assert (machine.version("haproxy"), settled(machine)) == (NEW, [])
        assert said in done.stderr
        assert "not restarted" not in done.stderr
        assert "policy-rc.d denied" not in done.stdout + done.stderr
        assert nothing_is_left(machine)
        machine.install(f"haproxy={OLD}")
        machine.run("systemctl restart haproxy")
        machine.settle("haproxy", 2)
