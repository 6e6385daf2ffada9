"""What the agent costs, and how long the archive is ahead of memory: the installed package on a booted machine."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bench.report import Figure, progress
from tests.agent.machine import Machine
from tests.agent.package import built
from tests.agent.redis import ALWAYS, oldest

SECONDS = 300
PORT = 18495
AUTOMATIC = f"""
mode = "automatic"
observe_days = 0
health_seconds = 10
[maintenance]
{ALWAYS}
"""
LIMIT_MB, LIMIT_PERCENT = 60.0, 0.1


def idle_measure(folder: Path) -> Iterator[Figure]:
    """Yield memory and processor time of the agent between turns, and the processor time of a turn."""
    progress("the package")
    with built() as package, Machine(folder / "machine", systemd=True) as machine:
        machine.run(f"apt-get install -qq -y --no-install-recommends {package}")
        _await(machine, "assessed", 1)
        pid = machine.run("systemctl show --property=MainPID --value hotmend-agent").stdout.strip()
        rollup = dict(_fields(machine.run(f"cat /proc/{pid}/smaps_rollup").stdout))
        note = f"load {os.getloadavg()[0]:.1f}"
        for name, key in (("PSS", "Pss"), ("RSS", "Rss")):
            yield Figure("Agent", f"memory between turns, {name}", rollup[key] / 1000, "MB", LIMIT_MB, "limit", note)
        progress(f"{SECONDS} s between turns")
        before = _unit_seconds(machine)
        time.sleep(SECONDS)
        spent = _unit_seconds(machine) - before
        yield Figure(
            "Agent", f"processor, {SECONDS} s between turns", spent / SECONDS * 100, "%", LIMIT_PERCENT, "limit"
        )
        before = _all_seconds(machine)
        machine.run("systemctl reload hotmend-agent")
        _await(machine, "assessed", 2)
        turn = _all_seconds(machine) - before
        waiting = machine.run("apt-get -s upgrade | grep -c ^Inst", check=False).stdout.strip()
        note = f"in the mode observe, with apt's own simulation; {waiting} packages wait; load {os.getloadavg()[0]:.1f}"
        yield Figure("Agent", "processor, one turn", turn, "s", note=note)
        yield Figure("Agent", "processor, a turn an hour", turn / 3600 * 100, "%")
        yield from _exposure(machine)


def _exposure(machine: Machine) -> Iterator[Figure]:
    """Yield what passes from an update being offered to the new code in memory, and from there to the disk.

    The turn is begun at once; waiting for the next one adds up to `assess_minutes`, and for the window what that takes.
    """
    progress("an update that is offered")
    machine.offer_only("nothing-at-all")
    old = [f"{name}={oldest(machine, name)}" for name in ("redis-server", "redis-tools")]
    machine.install(*old)
    machine.run(f"systemctl stop redis-server; sed -i 's/^port .*/port {PORT}/' /etc/redis/redis.conf")
    machine.run(f"systemctl start redis-server; cat > /etc/hotmend/agent.toml <<'END'\n{AUTOMATIC}END")
    began = time.time()
    machine.offer_only("redis-*")
    machine.run("systemctl reload hotmend-agent")
    _await(machine, "run-ended", 1)
    text = machine.run("cat /var/lib/hotmend/agent/history.jsonl").stdout
    events = [json.loads(line) for line in text.splitlines()]
    placed = next(e for e in events if e.get("state") == "HEALTH_CHECK" and e["changed"])
    installed = next(e for e in events if e["event"] == "disk-ended" and not e["error"])
    in_memory, on_disk = (datetime.fromisoformat(e["at"]).timestamp() for e in (placed, installed))
    note = f"redis; apt offers it, a turn begins at once; load {os.getloadavg()[0]:.1f}"
    yield Figure("Agent", "exposure: offered to fixed in memory", in_memory - began, "s", note=note)
    note = "health_seconds = 10 of it; a process begun meanwhile from the old file waits for the next turn in a window"
    yield Figure("Agent", "fixed in memory to the new file on the disk", on_disk - in_memory, "s", note=note)


def _fields(text: str) -> Iterator[tuple[str, int]]:
    """Yield the fields of /proc/PID/smaps_rollup in units of 1000 bytes."""
    for line in text.splitlines()[1:]:
        name, _, value = line.partition(":")
        yield name, int(value.split()[0]) * 1024 // 1000


def _unit_seconds(machine: Machine) -> float:
    """Return the processor time that the unit has used, with all its processes."""
    return int(machine.run("systemctl show --property=CPUUsageNSec --value hotmend-agent").stdout) / 1e9


def _all_seconds(machine: Machine) -> float:
    """Return the processor time of all system services: apt runs in a unit of its own, which is gone afterwards."""
    text = machine.run("cat /sys/fs/cgroup/system.slice/cpu.stat").stdout
    return int(text.split()[1]) / 1e6


def _await(machine: Machine, event: str, count: int) -> None:
    """Wait until so many lines of the history are of that kind, and the turn's process has ended."""
    limit = time.monotonic() + 300
    while _count(machine, f'grep -c \'"event":"{event}\' /var/lib/hotmend/agent/history.jsonl') < count:
        if time.monotonic() > limit:
            raise RuntimeError(f"no {event} within 300 s")
        time.sleep(0.5)
    while _count(machine, "grep -c . /sys/fs/cgroup/system.slice/hotmend-agent.service/cgroup.procs") > 1:
        time.sleep(0.1)


def _count(machine: Machine, command: str) -> int:
    return int(machine.run(command, check=False).stdout or 0)
