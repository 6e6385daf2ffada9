"""Stock servers as their units run them, from old versions to the security level: who is restarted, and who is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.load import Load, redis
from tests.agent.machine import Machine

REDIS_PORT, NGINX_PORT, APACHE_PORT, SSH_PORT, POSTGRES_PORT = range(18471, 18476)
REDIS_OLD, REDIS_NEW = "5:7.0.15-1~deb12u7", "5:7.0.15-1~deb12u10"
UNITS = ("nginx", "apache2", "ssh", "postgresql@15-main")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine", systemd=True) as begun:
        yield begun


def started(machine: Machine, unit: str) -> str:
    """When, how often and as which process the service manager has started it."""
    return machine.run(f"systemctl show -p MainPID,NRestarts,ActiveEnterTimestampMonotonic {unit}").stdout


@pytest.fixture
def redis_machine(machine: Machine) -> Machine:
    """With redis in its hardened unit."""
    machine.offer_only("redis-*")
    machine.install(f"redis-server={REDIS_OLD}", f"redis-tools={REDIS_OLD}")
    machine.run(f"sed -i 's/^port .*/port {REDIS_PORT}/' /etc/redis/redis.conf; systemctl restart redis-server")
    return machine


def test_the_package_itself_would_restart_redis(redis_machine: Machine) -> None:
    """What the next test has not to be so: by deb-systemd-invoke, which asks the policy."""
    before = started(redis_machine, "redis-server")
    redis_machine.install(f"redis-server={REDIS_NEW}", f"redis-tools={REDIS_NEW}")
    assert started(redis_machine, "redis-server") != before


@pytest.mark.parametrize("by", ["apt-get install -q -y --only-upgrade", "hotmend upgrade"])
def test_redis_is_not_restarted(redis_machine: Machine, by: str) -> None:
    assert "ProtectSystem" in redis_machine.run("systemctl cat redis-server").stdout
    before = started(redis_machine, "redis-server")
    with Load(redis_machine, redis(REDIS_PORT)) as load:
        if by == "hotmend upgrade":
            done = redis_machine.hotmend("upgrade", "--json", "redis-server", "redis-tools")
            answer = json.loads(done.stdout)
            assert (done.returncode, answer["restarts"], answer["disk_error"]) == (0, [], "")
            assert "redis-server" in answer["held"]
        else:
            assert redis_machine.hotmend("apt-hook", "on").returncode == 0
            done = redis_machine.run(f"{by} redis-server redis-tools")
            assert "because the new code runs: redis-server\n" in done.stderr
            assert "returned 101, not running 'restart redis-server.service" in done.stdout + done.stderr
    assert load.count.fine, load.count
    assert started(redis_machine, "redis-server") == before
    assert redis_machine.version("redis-server") == REDIS_NEW
    assert redis_machine.run("ls /usr/sbin/policy-rc.d", check=False).stdout == ""
    assert redis_machine.hotmend("apt-hook", "fixed").stdout == "redis-server.service\n"


def test_what_the_verdict_does_not_allow_is_restarted_by_its_package(machine: Machine) -> None:
    """The exact list: four servers whose updates need a baseline, each named with the reason and restarted as ever."""
    old = {
        "nginx": "1.22.1-9+deb12u9",
        "nginx-common": "1.22.1-9+deb12u9",
        "apache2": "2.4.68-1~deb12u1",
        "apache2-bin": "2.4.68-1~deb12u1",
        "apache2-data": "2.4.68-1~deb12u1",
        "apache2-utils": "2.4.68-1~deb12u1",
        "openssh-server": "1:9.2p1-2+deb12u7",
        "openssh-client": "1:9.2p1-2+deb12u7",
        "openssh-sftp-server": "1:9.2p1-2+deb12u7",
        "postgresql-15": "15.18-0+deb12u1",
        "postgresql-client-15": "15.18-0+deb12u1",
    }
    machine.install(*(f"{package}={version}" for package, version in old.items()))
    machine.run(
        f"sed -i 's/^Listen 80/Listen 127.0.0.1:{APACHE_PORT}/' /etc/apache2/ports.conf;"
        f"echo 'Port {SSH_PORT}' > /etc/ssh/sshd_config.d/port.conf;"
        f"sed -i -e '/\\[::\\]/d' -e 's/listen 80 default_server/listen 127.0.0.1:{NGINX_PORT}/' "
        "/etc/nginx/sites-enabled/default;"
        f"sed -i 's/^port = .*/port = {POSTGRES_PORT}/' /etc/postgresql/15/main/postgresql.conf"
    )
    machine.run("systemctl restart nginx apache2 ssh postgresql")
    assert machine.hotmend("apt-hook", "on").returncode == 0
    before = {unit: started(machine, unit) for unit in UNITS}
    done = machine.run(f"apt-get install -q -y --only-upgrade {' '.join(old)}")
    said = [line for line in done.stderr.splitlines() if line.startswith("hotmend:")]
    outcomes = [line.split(": ")[1:3] for line in said if " -> " in line and ": same code" not in line]
    assert sorted((which.split()[0], what.split(" in memory")[0]) for which, what in outcomes) == [
        ("apache2-bin", "partly fixed"),
        ("nginx", "old"),
        ("openssh-server", "old"),
        ("postgresql-15", "old"),
    ]
    assert "denied" not in done.stdout + done.stderr
    assert [unit for unit in UNITS if started(machine, unit) == before[unit]] == []
    assert machine.run(f"systemctl is-active {' '.join(UNITS)}").stdout.split() == ["active"] * len(UNITS)
