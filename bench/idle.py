"""What the agent costs between turns and in one, alone and in a fleet: the installed package on a booted machine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench.exposure import apt_exposure, await_event, channel_exposure, newcomer_exposure
from bench.report import Figure, progress
from tests.agent.machine import Machine
from tests.agent.package import built
from tests.server.running import running

SECONDS = 300
LIMIT_MB, LIMIT_PERCENT = 60.0, 0.1
_SETTLING_SECONDS = 90
"""After enrolment: the first report and what the server asks for on it."""


def idle_measure(folder: Path) -> Iterator[Figure]:
    """Yield memory and processor time of the agent between turns, and the processor time of a turn; then exposures."""
    progress("the package")
    with built() as package, Machine(folder / "machine", systemd=True) as machine:
        machine.run(f"apt-get install -qq -y --no-install-recommends {package}")
        await_event(machine, "assessed", 1)
        yield from _memory(machine, "hotmend-agent", "between turns")
        asked, kept = (_turn(machine, number, ask) for number, ask in ((2, True), (3, False)))
        waiting = machine.run("apt-get -s upgrade | grep -c ^Inst", check=False).stdout.strip()
        note = f"in the mode observe; {waiting} packages wait; load {os.getloadavg()[0]:.1f}"
        yield Figure("Agent", "processor, a turn that asks apt", asked, "s", note=note)
        yield Figure("Agent", "processor, a turn where nothing that apt reads has changed", kept, "s")
        hourly = (asked + 23 * kept) / 86_400 * 100
        yield _limit("processor, a turn an hour, where apt's lists change once a day", hourly)
        yield from _fleet(machine, folder)
        yield from apt_exposure(machine)
        yield from channel_exposure(machine, folder / "channel")
        yield from newcomer_exposure(machine)


def _turn(machine: Machine, number: int, ask: bool) -> float:
    """Return the processor time of a turn; `ask`: apt's last answer is gone."""
    if ask:
        machine.run("rm /var/lib/hotmend/agent/simulation.json")
    before = _all_seconds(machine)
    machine.run("systemctl reload hotmend-agent")
    await_event(machine, "assessed", number)
    return _all_seconds(machine) - before


def _fleet(machine: Machine, folder: Path) -> Iterator[Figure]:
    """Yield what both units cost between turns on a machine of a fleet; it leaves the fleet at the end."""
    with running(f"sqlite:///{folder}/server.sqlite") as server:
        server.set_up()
        key = server.post("/api/v1/registration-keys", {"name": "measured"})["secret"]
        machine.run(f"HOTMEND_KEY={key} hotmend enroll {server.url} --name measured")
        machine.run("systemctl start hotmend-uplink; systemctl reload hotmend-agent")
        await_event(machine, "assessed", 4)
        seconds = server.app.state.context.settings.check_in_seconds
        progress(f"{_SETTLING_SECONDS + SECONDS} s in a fleet")
        time.sleep(_SETTLING_SECONDS)
        before = [_unit_seconds(machine, unit) for unit in ("hotmend-agent", "hotmend-uplink")]
        time.sleep(SECONDS)
        agent, uplink = (
            _unit_seconds(machine, unit) - spent
            for unit, spent in zip(("hotmend-agent", "hotmend-uplink"), before, strict=True)
        )
        yield _share(f"processor of the agent, {SECONDS} s between turns", agent)
        yield _share(f"processor of the uplink, {SECONDS} s", uplink, f"a check-in every {seconds} s or so")
        yield from _memory(machine, "hotmend-uplink", "of the uplink")
        machine.run("systemctl stop hotmend-uplink; hotmend enroll --leave")


def _share(name: str, seconds: float, note: str = "") -> Figure:
    note = "; ".join(text for text in (note, f"load {os.getloadavg()[0]:.1f}") if text)
    return _limit(name, seconds / SECONDS * 100, note)


def _limit(name: str, percent: float, note: str = "") -> Figure:
    return Figure("Agent", name, percent, "%", LIMIT_PERCENT, "limit", note)


def _memory(machine: Machine, unit: str, what: str) -> Iterator[Figure]:
    pid = machine.run(f"systemctl show --property=MainPID --value {unit}").stdout.strip()
    rollup = dict(_fields(machine.run(f"cat /proc/{pid}/smaps_rollup").stdout))
    note = f"load {os.getloadavg()[0]:.1f}"
    for name, key in (("PSS", "Pss"), ("RSS", "Rss")):
        yield Figure("Agent", f"memory {what}, {name}", rollup[key] / 1000, "MB", LIMIT_MB, "limit", note)


def _fields(text: str) -> Iterator[tuple[str, int]]:
    """Yield the fields of /proc/PID/smaps_rollup in units of 1000 bytes."""
    for line in text.splitlines()[1:]:
        name, _, value = line.partition(":")
        yield name, int(value.split()[0]) * 1024 // 1000


def _unit_seconds(machine: Machine, unit: str) -> float:
    """Return the processor time that a unit has used, with all its processes."""
    return int(machine.run(f"systemctl show --property=CPUUsageNSec --value {unit}").stdout) / 1e9


def _all_seconds(machine: Machine) -> float:
    """Return the processor time of all system services: apt runs in a unit of its own, which is gone afterwards."""
    text = machine.run("cat /sys/fs/cgroup/system.slice/cpu.stat").stdout
    return int(text.split()[1]) / 1e6
