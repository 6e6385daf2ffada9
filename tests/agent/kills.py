"""The agent killed right after a line of its history is on the disk; is what the next turn records the truth?

The truth is read elsewhere: from memory, from dpkg, from the service manager, and from what the hooks have written.
Each scenario begins again with the old redis for each kill.
"""

from __future__ import annotations

import functools
import itertools
import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hotmend.servicing.actions import State
from tests.agent import redis
from tests.agent.machine import Machine
from tests.agent.redis import ALWAYS, configure

newest, oldest = functools.cache(redis.newest), functools.cache(redis.oldest)
"""Asked of apt once for a machine and a package."""

HISTORY = "/var/lib/hotmend/agent/history.jsonl"
_EVENTS = "/run/events"
ONCE = shlex.join([sys.executable, "-m", "hotmend", "agent", "run", "--once"])
_KILLED = f"strace -qq -e trace=fdatasync -e inject=fdatasync:signal=KILL:when={{}} -o /dev/null {ONCE}"
_KILLED_CODE = 128 + signal.SIGKILL
_NO_RESTARTS = "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d"
_MAINTENANCE = f"""
mode = "automatic"
observe_days = 0
health_seconds = 0
zone = "UTC"
[maintenance]
classifications = []
include = ["redis-*"]
{ALWAYS}
"""
_HOOKS = f"""
[[pre_event]]
command = ["sh", "-c", "echo pre $HOTMEND_RUN >> {_EVENTS}"]
[[post_event]]
command = ["sh", "-c", "echo post $HOTMEND_RUN >> {_EVENTS}"]
"""
_ILL_AFTERWARDS = f"""
[[probe]]
kind = "command"
name = "well until the change"
command = ["sh", "-c", "! grep -q HEALTH_CHECK {HISTORY}"]
tries = 1
"""


@dataclass(frozen=True)
class Scenario:
    """What the agent is about when it is killed.

    Attributes:
        name: for people.
        settings: the agent's configuration.
        disk_is_new: the disk has the update from the beginning, and nobody was restarted.
        wrong: returns what is not true after the next turn; by machine, processes before, versions old and new.
    """

    name: str
    settings: str
    wrong: Callable[[Machine, list[int]], list[str]]
    disk_is_new: bool = False


def history(machine: Machine) -> list[Any]:
    """Return the lines."""
    return [json.loads(line) for line in machine.run(f"cat {HISTORY}").stdout.splitlines()]


def active(machine: Machine) -> list[int]:
    """Return the processes that run new code, by their memory."""
    rows = [json.loads(line) for line in machine.hotmend("status", "--json").stdout.splitlines()]
    return [row["pid"] for row in rows if any(hotpatch["active"] for hotpatch in row["hotpatches"])]


def kind_of(line: Any) -> str:
    """Return what a line is, for people: its event, and its state or outcome."""
    return " ".join(text for text in (line["event"], line.get("state", ""), line.get("outcome", "")) if text)


def begin(machine: Machine, scenario: Scenario) -> list[int]:
    """Bring the machine to where the scenario begins; return the processes of redis."""
    version = newest if scenario.disk_is_new else oldest
    machine.hotmend("revert", "--all")
    if machine.version("redis-tools") != oldest(machine, "redis-tools") or machine.pids("redis-server") == []:
        _install(machine, oldest)
        machine.run("systemctl restart redis-server")
    pids = machine.settle("redis-server", 1)
    if scenario.disk_is_new:
        _install(machine, version)
        machine.run("touch /run/reboot-required")
    configure(machine, scenario.settings)
    machine.run(f"rm -f {HISTORY} {_EVENTS} /var/lib/hotmend/agent/quarantine.json")
    return pids


def _install(machine: Machine, version: Callable[[Machine, str], str]) -> None:
    machine.run(_NO_RESTARTS)
    machine.install(*(f"{package}={version(machine, package)}" for package in ("redis-server", "redis-tools")))
    machine.run("rm /usr/sbin/policy-rc.d")


def killed(machine: Machine, number: int) -> str:
    """Take a turn that is killed after so many lines; return the kind of the last one, "" where it came to its end."""
    code = machine.run(_KILLED.format(number), check=False).returncode
    lines = history(machine)
    if code != _KILLED_CODE:  # it ends with another code than 0 where it has taken something back
        return ""
    if len(lines) != number:
        raise RuntimeError(f"killed at line {number}: {len(lines)} lines are there")
    return kind_of(lines[-1])


def next_turn(machine: Machine) -> None:
    """Take a turn; machines of these tests are not rebooted in it."""
    machine.run("rm -f /run/reboot-required")
    done = machine.hotmend("agent", "run", "--once")
    if done.returncode not in (0, 1, 4):
        raise RuntimeError(f"{done.returncode}: {done.stderr}")


def kinds(machine: Machine, scenario: Scenario) -> list[str]:
    """Return the kinds of the lines of a whole turn."""
    begin(machine, scenario)
    machine.hotmend("agent", "run", "--once")
    return [kind_of(line) for line in history(machine)]


def kill_at_all(machine: Machine, scenario: Scenario) -> Iterator[tuple[str, list[str]]]:
    """Kill a turn after its first line, one after its second, and so on to its end; yield as `kill_at`."""
    for number in itertools.count(1):
        at, wrong = kill_at(machine, scenario, number)
        if not at:
            return
        yield at, wrong
        if at == "rebooting":  # the next would not be killed in time
            return


def kill_at(machine: Machine, scenario: Scenario, number: int) -> tuple[str, list[str]]:
    """Kill a turn after one line; return the kind of that line, and what is not true after the next turn.

    Where the turn has no such line, the kind is "".
    """
    pids = begin(machine, scenario)
    at = killed(machine, number)
    if not at:
        return "", []
    truth, cut = active(machine), history(machine)[-1]
    next_turn(machine)
    lines = history(machine)
    return at, [*untrue(lines, cut["run"], truth), *_hooks_wrong(machine, lines), *scenario.wrong(machine, pids)]


def untrue(lines: list[Any], cut: str, truth: list[int]) -> Iterator[str]:
    """Yield what the record says of the run that was cut off, and is not so."""
    begun = {line["run"] for line in lines if line["event"] == "run-began"}
    ended = [line["run"] for line in lines if line["event"] == "run-ended"]
    if sorted(ended) != sorted(begun):
        yield f"runs that began {begun}, that ended {ended}"
    last = {line["update"]: line for line in lines if line["event"] == "action" and line["run"] == cut}
    if open_ := [line for line in last.values() if not State(line["state"]).final]:
        yield f"actions without an end: {open_}"
    told = sorted({process["pid"] for line in last.values() for process in line["changed"]})
    taken_back = any(line["state"] == State.ROLLED_BACK for line in last.values())
    if cut and told != truth and not taken_back:
        yield f"memory had {truth}, the record has {told}"
    disk = [line["event"] for line in lines if line["event"] in ("disk-began", "disk-ended")]
    if disk != ["disk-began", "disk-ended"] * (len(disk) // 2):
        yield f"the disk: {disk}"


def _hooks_wrong(machine: Machine, lines: list[Any]) -> list[str]:
    """Return the runs whose pre-events ran and whose post-events never did."""
    said = [line.split() for line in machine.run(f"cat {_EVENTS} 2>/dev/null || true").stdout.splitlines()]
    began = {run for what, run in said if what == "pre"}
    ended = {run for what, run in said if what == "post"}
    noted = {line["run"] for line in lines if kind_of(line) == "run-state PRE_EVENT"}
    return [f"{run}: no post-event" for run in sorted((began | noted) - ended)] if said else []


def _brought_in(machine: Machine, pids: list[int]) -> list[str]:
    """It runs on, with new code, and the disk is new."""
    checks = {
        "it was restarted": machine.pids("redis-server") == pids,
        "old code runs": active(machine) == pids,
        "the disk is old": machine.version("redis-tools") == newest(machine, "redis-tools"),
        "restarts are held back still": machine.run("ls /usr/sbin/policy-rc.d", check=False).returncode != 0,
        "dpkg is in the middle": machine.run("dpkg --audit").stdout == "",
    }
    return [what for what, right in checks.items() if not right]


def _given_up(machine: Machine, pids: list[int]) -> list[str]:
    """It runs on, with old code, what made it ill is in quarantine, and the disk is old."""
    quarantined = machine.hotmend("agent", "quarantine", "--json").stdout.splitlines()
    checks = {
        "it was restarted": machine.pids("redis-server") == pids,
        "new code runs": active(machine) == [],
        "the disk is new": machine.version("redis-tools") == oldest(machine, "redis-tools"),
        f"in quarantine: {quarantined}": [json.loads(line)["update"].partition("=")[0] for line in quarantined]
        == ["redis-tools"],
    }
    return [what for what, right in checks.items() if not right]


def _restarted(machine: Machine, pids: list[int]) -> list[str]:
    """It was restarted, and the record's last word is that it was; no reboot is told that has not been."""
    lines = history(machine)
    boots = {line["boot"] for line in lines if line["event"] == "agent-began"}
    outcomes = [line["outcome"] for line in lines if line["event"] == "restarted"]
    checks = {
        "it was not restarted": machine.pids("redis-server") not in ([], pids),
        f"the record: {outcomes}": outcomes[-1:] == ["restarted"],
        "the record tells of another boot": len(boots) == 1,
    }
    return [what for what, right in checks.items() if not right]


BROUGHT_IN = Scenario("brought in", _MAINTENANCE + _HOOKS, _brought_in)
TAKEN_BACK = Scenario("taken back", _MAINTENANCE + _HOOKS + _ILL_AFTERWARDS, _given_up)
REBOOTED = Scenario(
    "restarted and rebooted", f'restart = true\nreboot = "if-required"\n{_MAINTENANCE}', _restarted, disk_is_new=True
)
