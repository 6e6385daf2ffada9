"""The machine that the other tests here use is one: its own service manager keeps a stock, hardened service."""

from __future__ import annotations

from pathlib import Path

from hotmend.agent.census.units import unit_in
from tests.agent.machine import Machine


def test_it_boots_and_runs_a_hardened_service(tmp_path: Path) -> None:
    with Machine(tmp_path / "machine", systemd=True) as machine:
        assert machine.run("ps -o comm= -p 1").stdout.strip() == "systemd"
        machine.install("redis-server", "redis-tools")
        machine.run("systemctl stop redis-server; sed -i 's/^port .*/port 18431/' /etc/redis/redis.conf")
        machine.run("systemctl start redis-server")
        (pid,) = machine.settle("redis-server", 1)
        assert unit_in(machine.run(f"cat /proc/{pid}/cgroup").stdout) == "redis-server.service"
        assert machine.run("redis-cli -p 18431 ping").stdout == "PONG\n"
        own, its = (machine.run(f"readlink /proc/{of}/ns/mnt").stdout for of in (1, pid))
        assert own != its
