"""How long the archive is ahead of memory: the installed agent on a booted machine, by apt alone and by a channel.

Turns are begun at once; waiting for the next one adds up to `assess_minutes`, for the window what that takes, and for
the publisher's next run what its timer says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.report import Figure, progress
from hotmend.repository.layout import Tier
from tests.agent.machine import Machine
from tests.agent.redis import ALWAYS, configure, newest, oldest
from tests.agent.six import HAPROXY_SETTINGS
from tests.release.archive import MAIN, SECURITY, Archive, keyring
from tests.release.served import served
from tests.repository.kit import CHANNEL, World
from tests.servers.packages import deb_fetch

PORT = 18495
HISTORY = "/var/lib/hotmend/agent/history.jsonl"
UNFINISHED = "/var/lib/hotmend/agent/unfinished"
COPY = "/var/lib/hotmend/mirror/copy"
AUTOMATIC = f"""
mode = "automatic"
observe_days = 0
health_seconds = 10
[maintenance]
{ALWAYS}
"""
_SECONDS_MAX = 300


def apt_exposure(machine: Machine) -> Iterator[Figure]:
    """Yield what passes from an update being offered to the new code in memory, and from there to the disk."""
    progress("an update that is offered")
    machine.offer_only("nothing-at-all")
    old = [f"{name}={oldest(machine, name)}" for name in ("redis-server", "redis-tools")]
    machine.install(*old)
    machine.run(f"systemctl stop redis-server; sed -i 's/^port .*/port {PORT}/' /etc/redis/redis.conf")
    machine.run("systemctl start redis-server")
    configure(machine, AUTOMATIC)
    began = time.time()
    machine.offer_only("redis-*")
    machine.run("systemctl reload hotmend-agent")
    await_event(machine, "run-ended", 1)
    events = _history(machine)
    in_memory = _placed(events)
    installed = next(e for e in events if e["event"] == "disk-ended" and not e["error"])
    note = f"redis; apt offers it, a turn begins at once; load {os.getloadavg()[0]:.1f}"
    yield Figure("Agent", "exposure: offered to fixed in memory", in_memory - began, "s", note=note)
    note = "health_seconds = 10 of it"
    on_disk = datetime.fromisoformat(installed["at"]).timestamp()
    yield Figure("Agent", "fixed in memory to the new file on the disk", on_disk - in_memory, "s", note=note)


def channel_exposure(machine: Machine, folder: Path) -> Iterator[Figure]:
    """Yield what passes from the archive's change to the new code in memory by way of publisher and channel, by steps.

    The publisher is this machine: it fetches signed lists and packages over HTTP, builds each hotpatch twice and signs
    for the canary tier. The stable tier has it after as many days as the plan says, and two signatures.
    """
    progress("an update that a channel brings")
    machine.offer_only("nothing-at-all")
    machine.install(f"haproxy={oldest(machine, 'haproxy')}")
    machine.run(f"cat > /etc/haproxy/haproxy.cfg <<'END'\n{HAPROXY_SETTINGS}END\nsystemctl restart haproxy")
    with keyring("sample") as (home, public), served(folder) as address:
        archive = Archive(folder / "archive", home, public)
        world = World(folder).make_keys().found()
        plan = archive.plan(folder, CHANNEL, ("haproxy",), 'manifest = "watched"', f"{address}/archive")
        archive.offer(MAIN, "haproxy", deb_fetch("haproxy", oldest(machine, "haproxy")))
        new = deb_fetch("haproxy", newest(machine, "haproxy"))
        archive.publish()
        baseline = _publish(world, plan)
        _follow(machine, world, f"{address}/repository/public")
        began = time.time()
        archive.offer(SECURITY, "haproxy", new)
        archive.publish()
        release = _publish(world, plan)
        published = time.time()
        machine.run("systemctl reload hotmend-fetch")
        _await(lambda: _copied(machine, release), f"{release} after {baseline}")
        copied = time.time()
        machine.run("systemctl reload hotmend-agent")
        _await(lambda: any(e.get("release") == release and e["event"] == "action" for e in _history(machine)), release)
        await_event(machine, "run-ended", 2)
        in_memory = _placed([e for e in _history(machine) if e.get("release") == release])
    note = f"haproxy, canary tier; each step begins at once; load {os.getloadavg()[0]:.1f}"
    name = "exposure by a channel: archive change to fixed in memory"
    yield Figure("Agent", name, in_memory - began, "s", note=note)
    steps = {
        "publish run: lists, packages, two builds, signatures": published - began,
        "the copy that the part with network makes": copied - published,
        "the agent's turn, until the new code is in memory": in_memory - copied,
    }
    for step, seconds in steps.items():
        yield Figure("Agent", f"... {step}", seconds, "s", note=f"{seconds / (in_memory - began):.0%} of it")


def newcomer_exposure(machine: Machine) -> Iterator[Figure]:
    """Yield what passes from the start of a service from a file whose fix is in memory alone, to the fix in it."""
    progress("a service that is started anew from the old file")
    machine.offer_only("nothing-at-all")
    machine.install(*(f"{name}={oldest(machine, name)}" for name in ("redis-server", "redis-tools")))
    configure(machine, "disk = false\nassess_minutes = 600\n" + AUTOMATIC)
    machine.run("systemctl restart redis-server hotmend-agent")
    runs = _count(machine, "run-ended")
    machine.offer_only("redis-*")
    machine.run("systemctl reload hotmend-agent")
    await_event(machine, "run-ended", runs + 1)
    _await(lambda: machine.run(f"test -s {UNFINISHED}", check=False).returncode == 0, UNFINISHED)
    lines = len(_history(machine))
    began = time.time()
    machine.run("systemctl restart redis-server")
    _await(lambda: any(event.get("state") == "HEALTH_CHECK" for event in _history(machine)[lines:]), "new code")
    in_memory = _placed(_history(machine)[lines:])
    note = f"redis, with a turn every ten hours; until then it serves with the old code; load {os.getloadavg()[0]:.1f}"
    yield Figure("Agent", "started anew from the old file, until fixed in memory", in_memory - began, "s", note=note)


def _publish(world: World, plan: Path) -> str:
    """Have the publisher's command do what is due; return the release that it has published to the canary tier."""
    command = [sys.executable, "-m", "hotmend", "publish", "run", str(world.repository), str(plan), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"hotmend publish run: {done.returncode}\n{done.stderr}")
    (release,) = json.loads(done.stdout)["published"]
    return str(release)


def _follow(machine: Machine, world: World, address: str) -> None:
    """Have the machine follow the channel's canary tier; its first copy is there afterwards, and looked at."""
    machine.run(f"cat > /root/root.json <<'END'\n{world.first_root.decode()}\nEND")
    machine.run("hotmend agent trust /root/root.json")
    configure(
        machine, f'{AUTOMATIC}[channel]\naddress = "{address}"\nname = "{CHANNEL}"\ntier = "{Tier.CANARY.value}"\n'
    )
    looks = _count(machine, "assessed")
    machine.run("systemctl start hotmend-fetch")
    _await(lambda: _copied(machine, "release.json"), "the first copy")
    machine.run("systemctl reload hotmend-agent")
    await_event(machine, "assessed", looks + 1)


def _copied(machine: Machine, name: str) -> bool:
    """Return whether the copy has a file of such a name, and the copying is over."""
    here = machine.run(f"find {COPY} -name '*{name}*' | grep -q .", check=False).returncode == 0
    return here and _processes(machine, "hotmend-fetch") == 1


def _history(machine: Machine) -> list[Any]:
    return [json.loads(line) for line in machine.run(f"cat {HISTORY}").stdout.splitlines()]


def _placed(events: list[Any]) -> float:
    """Return when the new code was in a process, in seconds since 1970."""
    event = next(e for e in events if e.get("state") == "HEALTH_CHECK" and e["changed"])
    return datetime.fromisoformat(event["at"]).timestamp()


def await_event(machine: Machine, event: str, count: int) -> None:
    """Wait until so many lines of the history are of that kind, and the turn's process has ended."""
    _await(lambda: _count(machine, event) >= count and _processes(machine, "hotmend-agent") == 1, event)


def _await(there: Any, what: str) -> None:
    limit = time.monotonic() + _SECONDS_MAX
    while not there():
        if time.monotonic() > limit:
            raise RuntimeError(f"no {what} within {_SECONDS_MAX} s")
        time.sleep(0.1)


def _count(machine: Machine, event: str) -> int:
    return int(machine.run(f'grep -c \'"event":"{event}\' {HISTORY}', check=False).stdout or 0)


def _processes(machine: Machine, unit: str) -> int:
    done = machine.run(f"grep -c . /sys/fs/cgroup/system.slice/{unit}.service/cgroup.procs", check=False)
    return int(done.stdout or 0)
