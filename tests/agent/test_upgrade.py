"""`hotmend upgrade` on a machine with stock servers of an old version."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent.machine import Machine

HAPROXY_OLD, HAPROXY_NEW = "2.6.12-1+deb12u3", "2.6.12-1+deb12u4"
NGINX_OLD, NGINX_NEW = "1.22.1-9+deb12u9", "1.22.1-9+deb12u11"
CONFIGURATION = """
global
    master-worker
    stats socket /run/haproxy.sock mode 600
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
frontend all
    bind 127.0.0.1:18411
    http-request return status 200 content-type text/plain string "here"
"""
LOAD = """
import urllib.request, sys, pathlib
good = bad = 0
while not pathlib.Path("/run/load-ends").exists():
    try:
        good += urllib.request.urlopen("http://127.0.0.1:18411/", timeout=5).read() == b"here"
    except OSError:
        bad += 1
print(good, bad)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine") as begun:
        yield begun


@pytest.fixture
def haproxy(machine: Machine) -> Machine:
    """With haproxy of the main archive, started as its package starts it."""
    machine.install(f"haproxy={HAPROXY_OLD}")
    machine.run("/etc/init.d/haproxy stop")
    machine.run(f"cat > /etc/haproxy/haproxy.cfg <<'END'\n{CONFIGURATION}END")
    machine.run("/etc/init.d/haproxy start")
    machine.settle("haproxy", 2)
    return machine


def upgraded(machine: Machine, *arguments: str) -> tuple[int, Any]:
    """Run it; return exit code and object."""
    done = machine.hotmend("upgrade", "--json", *arguments)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def settled(machine: Machine) -> list[int]:
    """Return the processes in which a hotpatch is settled."""
    rows = [json.loads(line) for line in machine.hotmend("status", "--json").stdout.splitlines()]
    return sorted(row["pid"] for row in rows if [h["state"] for h in row["hotpatches"]] == ["settled"])


def test_the_package_itself_would_restart_it(haproxy: Machine) -> None:
    """What the next test has not to be so."""
    before = haproxy.pids("haproxy")
    haproxy.install(f"haproxy={HAPROXY_NEW}")
    assert not set(before) & set(haproxy.settle("haproxy", 2))


def test_in_memory_first_and_no_restart(haproxy: Machine) -> None:
    before = haproxy.pids("haproxy")
    load = subprocess.Popen(haproxy.command(f"exec python3 -c '{LOAD}'"), stdout=subprocess.PIPE, text=True)
    code, answer = upgraded(haproxy, "haproxy")
    haproxy.run("touch /run/load-ends")
    told, _ = load.communicate(timeout=60)
    good, bad = map(int, told.split())
    (package,) = answer["packages"]
    assert (code, package["memory"], package["disk"], package["error"]) == (0, "fixed", "updated", "")
    assert package["cves"]
    assert (answer["held"], answer["restarts"], answer["disk_error"]) == (["haproxy"], [], "")
    assert haproxy.pids("haproxy") == before
    assert haproxy.version("haproxy") == HAPROXY_NEW
    assert (good > 0, bad) == (True, 0)
    assert settled(haproxy) == before
    assert haproxy.run("test -e /usr/sbin/policy-rc.d", check=False).returncode == 1
    assert "nothing to do" in haproxy.hotmend("upgrade", "haproxy").stderr
    haproxy.run("/etc/init.d/haproxy restart")
    assert not set(before) & set(haproxy.settle("haproxy", 2))


def test_dry_run_and_memory_only_leave_the_disk(haproxy: Machine) -> None:
    code, answer = upgraded(haproxy, "--dry-run", "haproxy")
    assert (code, answer["packages"][0]["memory"], answer["packages"][0]["disk"]) == (0, "fixed", "left as it is")
    assert haproxy.hotmend("status", "--json").stdout == ""
    code, answer = upgraded(haproxy, "--memory-only", "haproxy")
    assert (code, answer["packages"][0]["memory"], answer["packages"][0]["disk"]) == (0, "fixed", "left as it is")
    assert haproxy.version("haproxy") == HAPROXY_OLD
    assert settled(haproxy) == haproxy.pids("haproxy")


def test_where_the_disk_fails_memory_stays_fixed(haproxy: Machine) -> None:
    """Somebody else is installing packages."""
    locks = 'import fcntl,time; f=open("/var/lib/dpkg/lock-frontend","w"); fcntl.lockf(f, 2); time.sleep(200)'
    other = subprocess.Popen(haproxy.command(f"exec python3 -c '{locks}'"))
    try:
        code, answer = upgraded(haproxy, "haproxy")
    finally:
        other.kill()
        other.wait()
    (package,) = answer["packages"]
    assert (code, package["memory"], package["disk"]) == (1, "fixed", "failed")
    assert answer["disk_error"].startswith("apt or dpkg is at work already, process ")
    assert haproxy.version("haproxy") == HAPROXY_OLD
    assert haproxy.run("test -e /usr/sbin/policy-rc.d", check=False).returncode == 1


def test_a_file_that_is_not_the_packages_is_refused(haproxy: Machine) -> None:
    before = haproxy.pids("haproxy")
    haproxy.run("cp /usr/sbin/haproxy /tmp/own && printf x >> /tmp/own && mv /tmp/own /usr/sbin/haproxy")
    code, answer = upgraded(haproxy, "--memory-only", "haproxy")
    (package,) = answer["packages"]
    assert (code, package["memory"]) == (4, "old")
    assert "/usr/sbin/haproxy is not what package haproxy holds" in package["error"]
    assert sorted(old["pid"] for old in package["still_old"]) == before


@pytest.mark.long
def test_a_part_is_named_and_not_held_back(machine: Machine) -> None:
    """nginx goes in as a part: its processes are changed, and named with the restart they still need."""
    machine.install(f"nginx={NGINX_OLD}", f"nginx-common={NGINX_OLD}")
    machine.run("/etc/init.d/nginx stop; printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d")
    listen = "-e '/\\[::\\]/d' -e 's/listen 80 default_server/listen 127.0.0.1:18412/'"
    machine.run(f"chmod 755 /usr/sbin/policy-rc.d; sed -i {listen} /etc/nginx/sites-enabled/default; nginx")
    before = machine.settle("nginx", 1 + int(machine.run("nproc").stdout))
    code, answer = upgraded(machine, "--memory-only", "nginx")
    assert (code, answer["packages"][0]["memory"]) == (4, "old")
    assert "allocation-size-changed" in {reason["code"] for reason in answer["packages"][0]["reasons"]}
    code, answer = upgraded(machine, "--partial", "nginx")  # apt brings nginx-common along
    found = {package["package"]: package for package in answer["packages"]}
    assert (code, found["nginx"]["memory"], found["nginx-common"]["memory"]) == (4, "partly fixed", "not running")
    assert {reason["code"] for reason in found["nginx"]["reasons"]} == set()
    assert [(old["pid"], old["part"]) for old in found["nginx"]["still_old"]] == [(pid, True) for pid in before]
    assert answer["held"] == []
    assert machine.version("nginx") == NGINX_NEW
    assert machine.pids("nginx") == before
    assert machine.run("cat /usr/sbin/policy-rc.d").stdout == "#!/bin/sh\nexit 101\n"
    assert answer["earlier"] == []
    machine.install(f"haproxy={HAPROXY_OLD}")  # another update, which changes nothing that runs: nginx is still due
    code, answer = upgraded(machine, "haproxy")
    assert (code, answer["packages"][0]["memory"], answer["packages"][0]["disk"]) == (4, "not running", "updated")
    (need,) = answer["earlier"]
    assert sorted(old["pid"] for old in need["processes"]) == before
    shown = machine.hotmend("upgrade", "--dry-run", "--all").stdout
    assert "No restart is due" not in shown
