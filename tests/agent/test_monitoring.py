"""`hotmend nagios` and `hotmend metrics` on a booted machine: well, fixed in memory alone, and on hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.machine import Machine
from tests.agent.test_restarts import NO_RESTARTS, REDIS_NEW, REDIS_OLD

PLUGIN_LINE = re.compile(r"HOTMEND (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+ \|( \w+=\d+;;;0)+\n")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine", systemd=True) as begun:
        begun.offer_only("redis-*")
        begun.run(NO_RESTARTS)
        begun.install(f"redis-server={REDIS_OLD}", f"redis-tools={REDIS_OLD}")
        begun.run("sed -i 's/^port .*/port 18963/' /etc/redis/redis.conf; systemctl start redis-server")
        begun.settle("redis-server", 1)
        yield begun


def nagios(machine: Machine, *arguments: str) -> tuple[int, str]:
    """Return exit code and line; what any plugin must keep to is looked at."""
    done = machine.hotmend("nagios", *arguments)
    assert PLUGIN_LINE.fullmatch(done.stdout), done.stdout
    return done.returncode, done.stdout


def test_well_then_fixed_in_memory_alone_then_on_hold(machine: Machine) -> None:
    code, line = nagios(machine)
    assert (code, line.startswith("HOTMEND OK - ")) == (0, True)

    machine.hotmend("upgrade", "--memory-only", "redis-server", "redis-tools")
    code, line = nagios(machine)
    assert (code, line.startswith("HOTMEND WARNING - fixed-in-memory-old-on-disk: ")) == (1, True)
    assert " patched=1;;;0 " in line
    assert nagios(machine, "--ignore", "fixed-in-memory-old-on-disk")[0] == 0
    assert nagios(machine, "--critical", "fixed-in-memory-old-on-disk")[0] == 2
    answer = json.loads(machine.hotmend("nagios", "--json").stdout)
    assert [(alert["alert"], len(alert["subjects"])) for alert in answer["alerts"]] == [
        ("fixed-in-memory-old-on-disk", 1)
    ]

    machine.run("mkdir /srv/metrics")
    assert machine.hotmend("metrics", "-o", "/srv/metrics/hotmend.prom").stdout == ""
    text = machine.run("cat /srv/metrics/hotmend.prom").stdout
    assert '\nhotmend_alert{alert="fixed-in-memory-old-on-disk"} 1.0\n' in text
    assert '\nhotmend_images{state="disk_old"} 1.0\n' in text
    assert "\nhotmend_processes_patched 1.0\n" in text
    assert machine.run("ls -a /srv/metrics; stat -c %a /srv/metrics/hotmend.prom").stdout.split()[2:] == [
        "hotmend.prom",
        "644",
    ]

    machine.install(f"redis-server={REDIS_NEW}", f"redis-tools={REDIS_NEW}")
    assert nagios(machine)[0] == 0
    machine.run("mkdir -p /etc/hotmend && touch /etc/hotmend/hold")
    code, line = nagios(machine)
    assert (code, line.startswith("HOTMEND WARNING - on-hold: ")) == (1, True)


def test_what_cannot_be_looked_at_is_unknown(machine: Machine) -> None:
    done = machine.hotmend("nagios", "--ignore", "nothing-of-the-kind")
    assert (done.returncode, done.stdout.startswith("HOTMEND UNKNOWN - there is no alert")) == (3, True)
    machine.run("mkdir -p /etc/hotmend && echo 'mode = 7' > /etc/hotmend/agent.toml")
    done = machine.hotmend("nagios")
    assert (done.returncode, done.stdout.startswith("HOTMEND UNKNOWN - ")) == (3, True)
