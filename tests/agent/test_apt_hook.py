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
        begun.offer_only("haproxy")
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


@pytest.mark.timeout(1500)
def test_unattended_upgrade(machine: Machine) -> None:
    """The real one, with its own rules for what it takes; only haproxy is let through."""
    machine.install("unattended-upgrades")
    only = 'Unattended-Upgrade::Package-Whitelist { "haproxy"; }; Unattended-Upgrade::Package-Whitelist-Strict "true";'
    machine.run(f"cat > /etc/apt/apt.conf.d/99only <<'END'\n{only}\nEND")
    before, pids = started(machine), machine.pids("haproxy")
    with Load(machine, http(PORT, "here")) as load:
        log = "/var/log/unattended-upgrades/unattended-upgrades-dpkg.log"
        done = machine.run(f"unattended-upgrade -v 2>&1; cat {log}", seconds=1200)
    assert load.count.fine, load.count
    assert "All upgrades installed" in done.stdout
    assert (machine.version("haproxy"), started(machine), machine.pids("haproxy")) == (NEW, before, pids)
    assert settled(machine) == pids
    assert "hotmend: not restarted by their packages, because the new code runs: haproxy" in done.stdout
    assert nothing_is_left(machine)


@pytest.mark.long
def test_no_restart_is_held_back_where_memory_is_not_changed(machine: Machine) -> None:
    """On hold; never to be touched; what is wanted is not known; in quarantine; off for this call."""
    state = "/var/lib/hotmend/agent"
    poison = json.dumps([{"update": f"haproxy={NEW}", "at": "2026-11-29T00:00:00Z", "reason": "it suffered"}])
    cases = {
        "on hold": "mkdir -p /etc/hotmend; touch /etc/hotmend/hold",
        "0 of 2 processes": "rm /etc/hotmend/hold; echo 'never_commands = [\"haproxy\"]' > /etc/hotmend/agent.toml",
        "modus": "echo 'modus = 1' > /etc/hotmend/agent.toml",
        "is in quarantine": f"rm /etc/hotmend/agent.toml; mkdir -p {state}; echo '{poison}' > {state}/quarantine.json",
        "": f"rm {state}/quarantine.json",
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


def test_it_never_keeps_apt_waiting_for_ever(machine: Machine) -> None:
    """A hook that hangs in the middle, here at a file that never ends, is ended; apt goes on as without it."""
    assert hook(machine, "on", "--deadline", "1")["deadline"] == 1
    machine.run("mkdir -p /etc/hotmend; mkfifo /etc/hotmend/agent.toml")
    pids = machine.pids("haproxy")
    done = machine.run("apt-get install -y --only-upgrade haproxy")
    assert "hotmend: not done within 21 s; packages restart their services as ever\n" in done.stderr
    assert (machine.version("haproxy"), settled(machine), nothing_is_left(machine)) == (NEW, [], True)
    assert machine.settle("haproxy", 2) != pids


def test_apt_goes_on_without_hotmend(machine: Machine) -> None:
    """The hook is on and the command gone, as after a removal by hand."""
    machine.run("sed -i 's,/[^ \"]*/hotmend,/nowhere/hotmend,g' /etc/apt/apt.conf.d/99hotmend")
    done = machine.run("apt-get install -y --only-upgrade haproxy")
    assert "/nowhere/hotmend: not found" in done.stderr
    assert machine.version("haproxy") == NEW


@pytest.mark.long
def test_what_an_apt_that_ended_too_early_leaves_holds_nothing_back(machine: Machine) -> None:
    """Another hook stops apt after ours; apt is killed after ours. The next run finds memory fixed, and goes on."""
    asked = f"{POLICY} haproxy restart; echo $?"
    pids, before = machine.pids("haproxy"), started(machine)
    upgrade = "apt-get install -y --only-upgrade haproxy"
    assert machine.run(f"{upgrade} -o DPkg::Pre-Install-Pkgs::=false", check=False).returncode != 0
    assert (machine.version("haproxy"), settled(machine)) == (OLD, pids)
    assert (machine.run(asked).stdout, hook(machine, "status")["held"]) == ("0\n", [])

    script = f"""
import os, signal, subprocess, time
apt = subprocess.Popen("exec {upgrade} -o DPkg::Pre-Install-Pkgs::='touch /run/held; sleep 60'", shell=True)
while not os.path.exists("/run/held"):
    time.sleep(0.1)
print(subprocess.run(["{POLICY}", "haproxy", "restart"]).returncode, flush=True)
os.kill(apt.pid, signal.SIGKILL)
apt.wait()
print(subprocess.run(["{POLICY}", "haproxy", "restart"]).returncode, flush=True)
"""
    machine.run(f"cat > /tmp/killed.py <<'END'\n{script}END")
    assert machine.run("python3 /tmp/killed.py | grep -x '[0-9]*'").stdout == "101\n0\n"
    assert (machine.version("haproxy"), settled(machine), hook(machine, "status")["held"]) == (OLD, pids, [])

    done = machine.run(upgrade)
    assert "fixed in memory, 2 of 2 processes" in done.stderr
    assert (machine.version("haproxy"), settled(machine), started(machine)) == (NEW, pids, before)
    assert nothing_is_left(machine)


NEXT_UPDATE = f"""
set -e
cd /tmp
apt-get download -q haproxy={NEW}
dpkg-deb -R haproxy_*.deb next
sed -i 's/^Version: .*/Version: 2.6.12-1+deb12u5/' next/DEBIAN/control
python3 - <<'END'
import hashlib, pathlib, subprocess
file = pathlib.Path("next/usr/sbin/haproxy")
notes = subprocess.run(["readelf", "-n", file], capture_output=True, text=True, check=True).stdout
build_id = bytes.fromhex(notes.split("Build ID: ")[1].split()[0])
content = file.read_bytes()
assert content.count(build_id) == content.count(b"No such server.\\n") == 1
content = content.replace(build_id, bytes(byte ^ 0x55 for byte in build_id))
file.write_bytes(content.replace(b"No such server.\\n", b"No such Server.\\n"))
sums = pathlib.Path("next/DEBIAN/md5sums")
rows = [line for line in sums.read_text().splitlines() if not line.endswith("  usr/sbin/haproxy")]
rows.append(hashlib.md5(file.read_bytes()).hexdigest() + "  usr/sbin/haproxy")
sums.write_text("\\n".join(rows) + "\\n")
END
dpkg-deb -b next next.deb
"""
"""The update after the next, as the distribution would make it: another version, another text in two functions."""


@pytest.mark.long
@pytest.mark.parametrize("restarted", [False, True])
def test_the_next_update_goes_over_the_one_before(machine: Machine, *, restarted: bool) -> None:
    """Processes that began with the old file get the second update too, compared with what they still map."""
    machine.run(NEXT_UPDATE)
    machine.run("apt-get install -y --only-upgrade haproxy")
    if restarted:
        machine.run("systemctl restart haproxy")
    pids, before = machine.settle("haproxy", 2), started(machine)
    with Load(machine, http(PORT, "here")) as load:
        done = machine.run("apt-get install -y /tmp/next.deb")
    assert load.count.fine, load.count
    assert "hotmend: haproxy 2.6.12-1+deb12u4 -> 2.6.12-1+deb12u5: fixed in memory, 2 of 2 processes\n" in done.stderr
    assert (machine.version("haproxy"), started(machine), machine.pids("haproxy")) == ("2.6.12-1+deb12u5", before, pids)
    rows = [json.loads(line) for line in machine.hotmend("status", "--json").stdout.splitlines()]
    states = [sorted((h["state"], h["old_version"], h["new_version"]) for h in row["hotpatches"]) for row in rows]
    next_version = "2.6.12-1+deb12u5"
    over = [("replaced", OLD, NEW), ("settled", OLD, next_version)]
    assert states == [[("settled", NEW, next_version)] if restarted else over] * 2
    assert machine.hotmend("apt-hook", "fixed").stdout == "haproxy.service\n"
    assert "old code runs" not in done.stderr
