"""A stock redis of the main archive on a booted machine, and the agent's configuration there."""

from __future__ import annotations

from tests.agent.machine import Machine

PORT = 18481
ALWAYS = 'window = [{name = "all day", rule = "FREQ=DAILY", start = 2000-01-01T00:00:00, minutes = 1440}]'


def newest(machine: Machine, package: str) -> str:
    """Return the newest version that the archive has."""
    return machine.run(f"apt-cache madison {package} | head -1 | cut -d'|' -f2").stdout.strip()


def oldest(machine: Machine, package: str) -> str:
    """Return the oldest version that the archive has: the main archive's."""
    return machine.run(f"apt-cache madison {package} | tail -1 | cut -d'|' -f2").stdout.strip()


def old_redis(machine: Machine, port: int = PORT) -> Machine:
    """Install redis as it was, and start it as its package does.

    It saves nothing by itself: the process that it forks for that has its name and its code, and is there for a moment.
    """
    old = oldest(machine, "redis-server")
    machine.install(f"redis-server={old}", f"redis-tools={old}")
    machine.run(f"systemctl stop redis-server; sed -i 's/^port .*/port {port}/' /etc/redis/redis.conf")
    machine.run("echo 'save \"\"' >> /etc/redis/redis.conf; systemctl start redis-server")
    machine.settle("redis-server", 1)
    return machine


def configure(machine: Machine, text: str) -> None:
    """Write the agent's configuration."""
    machine.run(f"mkdir -p /etc/hotmend; cat > /etc/hotmend/agent.toml <<'END'\n{text}\nEND")
