"""One machine over two boots: downloaded and no more; by hand; the fix lost by a reboot; automatic, and rebooted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.agent.machine import Machine, disk
from tests.agent.redis import ALWAYS, configure, newest, old_redis, oldest

PORT = 18478
SETTINGS = f"""
observe_days = 0
health_seconds = 0
[maintenance]
classifications = []
include = ["redis-*"]
{ALWAYS}
"""
CONTAINER = "ab12" * 16
ELSEWHERE = f"""
useradd --create-home alice
alone='--port 0 --save "" --daemonize no'
setsid su -l alice -c "exec redis-server $alone --unixsocket /tmp/alice.sock" > /dev/null 2>&1 < /dev/null &
setsid systemd-run --quiet --scope --unit=docker-{CONTAINER} unshare --mount --pid --fork --mount-proc \\
    redis-server $alone --unixsocket /tmp/contained.sock > /dev/null 2>&1 < /dev/null &
"""
"""A user who has logged in, and a container, as their control groups say; both run what the service does."""
NO_NETWORK = """printf 'Acquire::http::Proxy "http://127.0.0.1:9";\\n' > /etc/apt/apt.conf.d/99none"""


def _asked(machine: Machine, *arguments: str) -> tuple[int, Any]:
    done = machine.hotmend(*arguments, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def _events(folder: Path, kind: str) -> list[Any]:
    lines = (folder / "written/var/lib/hotmend/agent/history.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def _downloaded_and_then_by_hand(machine: Machine) -> None:
    """With nothing to fetch from any more; who is logged in and what is in a container get it as the service does."""
    machine.run(ELSEWHERE)
    pids = machine.settle("redis-server", 3)
    old = oldest(machine, "redis-tools")
    configure(machine, f'mode = "download"\ndisk = false\n{SETTINGS}')
    code, turn = _asked(machine, "agent", "run", "--once")
    assert (code, turn["mode"], len(turn["waiting"]), turn["run"]) == (0, "download", 2, None)
    new = newest(machine, "redis-tools").partition(":")[2]
    assert machine.run(f"ls /var/cache/apt/archives/redis-*{new}*.deb | wc -l").stdout == "2\n"
    assert (machine.hotmend("status", "--json").stdout, machine.version("redis-tools")) == ("", old)

    machine.run(NO_NETWORK)
    code, ended = _asked(machine, "agent", "install")
    changed = {action["update"].partition("=")[0]: action["changed"] for action in ended["actions"]}
    assert (code, ended["state"], sorted(changed["redis-tools"])) == (0, "SUCCEEDED", pids)
    owners = [_asked(machine, "explain", str(pid))[1]["places"][0]["owner"] for pid in pids]
    user = machine.run("id -u alice").stdout.strip()
    (session,) = (owner for owner in owners if owner.startswith("session "))
    assert session.endswith(f" of user {user}")
    assert set(owners) == {"redis-server.service", session, f"container docker {CONTAINER[:12]}"}
    assert machine.version("redis-tools") == old
    machine.run("rm /etc/apt/apt.conf.d/99none")


def test_two_boots(tmp_path: Path) -> None:
    with disk(tmp_path / "machine") as folder:
        with Machine(folder, systemd=True) as machine:
            machine.offer_only("redis-*")
            old_redis(machine, PORT)
            _downloaded_and_then_by_hand(machine)
            machine.run("systemctl reboot", check=False)
            assert machine.ends_by_itself()
        with Machine(folder, systemd=True) as machine:
            machine.run("systemctl start redis-server")
            (pid,) = machine.settle("redis-server", 1)
            assert _asked(machine, "agent", "run", "--once")[0] == 0
            assert len({event["boot"] for event in _events(folder, "agent-began")}) == 2
            seen = _events(folder, "assessed")[-1]
            assert "fix-lost" in seen["alerts"]
            assert [lost["processes"] for lost in seen["lost"]] == [[f"redis-server ({pid})"]]
            new = newest(machine, "redis-tools")
            configure(machine, f'mode = "automatic"\nreboot = "always"\n{SETTINGS}')
            machine.hotmend("agent", "run", "--once")
            assert machine.ends_by_itself()
        assert _events(folder, "run-ended")[-1]["outcome"] == "SUCCEEDED"
        (rebooting,) = _events(folder, "rebooting")
        assert rebooting["reasons"] == ["the policy is to reboot after each installation"]
        assert "Package: redis-tools\nStatus: install ok installed" in (
            status := (folder / "written/var/lib/dpkg/status").read_text()
        )
        assert f"Version: {new}\n" in status
